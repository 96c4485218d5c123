"""Batches for the language model, and the forward pass of both encoders."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sa2va_tools.model.families.internvl import InternVL
from sa2va_tools.nano.course.dense import TOKENS, encode_frames
from sa2va_tools.nano.course.nano_model import LLM_FRAMES
from sa2va_tools.nano.course.samples import PackedBatch, Packer, Sample
from sa2va_tools.nano.world.rendering import sample_clip
from sa2va_tools.nano.world.sampling import SceneRecipe
from sa2va_tools.nano.world.tasks import IMAGE_TASKS, VIDEO_TASKS, sample_turns
from sa2va_tools.nano.world.turns import TurnRules
from sa2va_tools.training.device import move_to_device

VIDEO_MOMENTS = tuple(k / (LLM_FRAMES - 1) for k in range(LLM_FRAMES))
_UNNAMED_SCENES = 0.3
"""The share of scenes in which half of the objects have no colour name; fewer questions fit them."""


@dataclass(frozen=True, slots=True)
class LanguageBatch:
    """Samples of images, or of videos, and their tokens."""

    samples: tuple[Sample, ...]
    packed: PackedBatch
    moments: tuple[float, ...]

    @property
    def is_video(self) -> bool:
        return len(self.moments) > 1

    def to(self, device: torch.device) -> LanguageBatch:
        """The same batch with its tensors on `device`; clips stay numpy arrays."""
        return replace(self, packed=move_to_device(self.packed, device))


@dataclass(frozen=True, slots=True)
class LanguageOutput:
    """`patches` and `tokens` as from `encode_frames`; `hidden` (B, L, width) of the last layer; `layers` of
    all layers, the embeddings first."""

    patches: Tensor
    tokens: Tensor
    hidden: Tensor
    layers: tuple[Tensor, ...]


def sample_language_batch(
    rng: random.Random,
    packer: Packer,
    *,
    video: bool,
    clips: int,
    turns: int,
    tasks: Sequence[str] | None = None,
    object_counts: tuple[int, ...] = SceneRecipe().object_counts,
) -> LanguageBatch:
    """New training scenes, each with up to `turns` turns."""
    moments = VIDEO_MOMENTS if video else (0.0,)
    usual_tasks = VIDEO_TASKS if video else IMAGE_TASKS
    named = SceneRecipe(
        video, leave_share=0.12, return_share=0.08, crossing_share=0.25, object_counts=object_counts
    )
    unnamed = replace(named, unnamed_share=0.5, vivid_share=0.5)
    samples: list[Sample] = []
    while len(samples) < clips:
        clip = sample_clip(rng, unnamed if rng.random() < _UNNAMED_SCENES else named, moments)
        sampled = sample_turns(clip.objects, rng, turns, tasks or usual_tasks, TurnRules(video=video))
        if sampled:
            samples.append(Sample(clip, tuple(sampled)))
    return LanguageBatch(tuple(samples), packer.pack(samples), moments)


def run_mllm(mllm: InternVL, batch: LanguageBatch) -> LanguageOutput:
    """One pass of the vision encoder and of the language model."""
    patches, tokens = encode_frames(mllm, [sample.clip for sample in batch.samples])
    packed = batch.packed
    clips = len(batch.samples)
    visual = tokens.reshape(clips, len(batch.moments) * TOKENS, -1)
    embeddings = mllm.embed_tokens(packed.tokens.ids).clone()
    rows = torch.arange(clips, device=embeddings.device)[:, None]
    embeddings[rows, packed.image_positions] = visual
    if len(packed.region_positions):
        last_frame = visual[:, -TOKENS:]
        repeated = last_frame[packed.region_cells[:, 0], packed.region_cells[:, 1]]
        embeddings[packed.region_positions[:, 0], packed.region_positions[:, 1]] = repeated
    output = mllm.language_model.model(
        inputs_embeds=embeddings,
        attention_mask=packed.tokens.mask,
        position_ids=packed.tokens.positions,
        use_cache=False,
        output_hidden_states=True,
    )
    return LanguageOutput(patches, tokens, output.last_hidden_state, output.hidden_states)
