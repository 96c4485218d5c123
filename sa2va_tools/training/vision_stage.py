"""Stage 2: the vision encoder and its projector, on dense targets: what is under every visual token.

Crowded scenes first, before plain grounds, then scenes as the world has them. Shapes come last of all that is
learnt, so their loss weighs most. Many objects carry a random, nameless paint, and many grounds are of any
colour: with named colours on grey alone the encoder learns "this colour is never that shape", and fails on
held-out pairs.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from torch import Tensor

from sa2va_tools.model.families.internvl import InternVL, pixel_shuffle
from sa2va_tools.training.dense_heads import DenseHeads, dense_losses, dense_targets
from sa2va_tools.training.device import moved
from sa2va_tools.training.grounding_data import normalise
from sa2va_tools.training.loop import StageRun
from sa2va_tools.training.rendering import Clip, sample_clip
from sa2va_tools.training.world import SceneRecipe

BATCH = 24
PLAIN_UNTIL, CROWDED_UNTIL = 0.35, 0.75
_SHAPE_WEIGHT = 10.0
_CROWDED = SceneRecipe(object_counts=(7, 9, 11), unnamed_share=0.6, free_size_share=0.0, vivid_share=0.3)
_PLAIN = replace(_CROWDED, plain=True)
_USUAL = SceneRecipe(video=True, unnamed_share=0.5, leave_share=0.0, vivid_share=0.3)


def train_vision(mllm: InternVL, heads: DenseHeads, run: StageRun) -> None:
    """Trains `mllm.vision_model` and `mllm.mlp1`; the language model is not touched."""
    mllm.train()
    for step in run:
        crowded = step.progress < CROWDED_UNTIL and step.number % 5 != 4
        vision_step(mllm, heads, run, step.rng, crowded=crowded, plain=step.progress < PLAIN_UNTIL)


def vision_step(
    mllm: InternVL,
    heads: DenseHeads,
    run: StageRun,
    rng: random.Random,
    *,
    crowded: bool,
    plain: bool = False,
    name: str = "loss",
) -> None:
    """One batch of pictures, crowded (and before plain grounds) or as the world has them; what it learns is
    logged as `name`."""
    moment = 0.0 if crowded else rng.random()
    recipe = (_PLAIN if plain else _CROWDED) if crowded else _USUAL
    clips = [sample_clip(rng, recipe, (moment,)) for _ in range(run.share_of(BATCH))]
    patches, tokens = see(mllm, clips)
    targets = moved(dense_targets(clips, (moment,)), run.device)
    total, log = dense_losses(heads, patches, tokens, targets, shape_weight=_SHAPE_WEIGHT)
    suffix = "" if crowded else "_usual"
    run.learn(total, {key + suffix: value for key, value in log.items()}, name=name)


def see(mllm: InternVL, clips: list[Clip]) -> tuple[Tensor, Tensor]:
    """(F, 4K, vision width) patches and (F, K, language width) tokens of all frames of all clips."""
    pixels = normalise(np.concatenate([clip.frames_thwc for clip in clips])).to(mllm.vision_model.device)
    patches = mllm.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
    return patches, mllm.mlp1(pixel_shuffle(patches, mllm.config.downsample_ratio))
