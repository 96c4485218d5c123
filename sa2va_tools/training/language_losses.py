"""Stage 3: the language model answers about the world, and writes `[SEG]` states in the teacher's space.

No SAM-2 here. Beside the text's cross-entropy, throw-away heads teach the circuits that the answers need:
tokens about to speak of an object point at its visual tokens, and visual tokens of later frames know how
their object moves and where it started (the first frame's tokens cannot: attention is causal).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from sa2va_tools.model.families.internvl import InternVL
from sa2va_tools.training.dense_heads import (
    TOKEN_CELLS,
    DenseHeads,
    DenseTargets,
    dense_losses,
    dense_targets,
    token_cover,
)
from sa2va_tools.training.device import moved
from sa2va_tools.training.losses import text_loss
from sa2va_tools.training.nano_config import CHAT_FRAMES, PROMPT_WIDTH
from sa2va_tools.training.packing import IGNORED, PackedBatch, Packer, Sample
from sa2va_tools.training.rendering import sample_clip
from sa2va_tools.training.tasks import IMAGE_TASKS, VIDEO_TASKS, TurnRules, sample_turns
from sa2va_tools.training.teacher import CODE_DIMS, PLACE_DIMS, attributes_of, object_code
from sa2va_tools.training.vision_stage import see
from sa2va_tools.training.world import COLOURS, MOTIONS, SHAPES, SIZES, SceneRecipe

VIDEO_MOMENTS = tuple(k / (CHAT_FRAMES - 1) for k in range(CHAT_FRAMES))
_IMAGE_LAYER, _VIDEO_LAYER = 2, 3  # after which layer tokens must have found their object
_MOTION_LAYER = 2
_NAMELESS_SCENES = 0.3
_VIVID_SHARE = 0.5  # of the scenes with nameless paints
_SHAPE_WEIGHT = 3.0
_TEMPLATE_WEIGHT, _LIST_WEIGHT = 0.15, 0.5


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one kind, packed."""

    samples: tuple[Sample, ...]
    packed: PackedBatch
    moments: tuple[float, ...]

    @property
    def is_video(self) -> bool:
        return len(self.moments) > 1

    def on(self, device: torch.device) -> Batch:
        """The same with its tensors on `device`; clips stay numpy."""
        return replace(self, packed=moved(self.packed, device))


@dataclass(frozen=True, slots=True)
class LanguageOutput:
    """`patches` and `tokens` as `see` gives them; `hidden` (B, L, width) last layer; `layers` all of them."""

    patches: Tensor
    tokens: Tensor
    hidden: Tensor
    layers: tuple[Tensor, ...]


def language_batch(
    rng: random.Random,
    packer: Packer,
    *,
    video: bool,
    clips: int,
    turns: int,
    tasks: Sequence[str] | None = None,
    object_counts: tuple[int, ...] = SceneRecipe().object_counts,
) -> Batch:
    """Fresh training scenes with their turns; some scenes hold nameless paints and are asked less."""
    moments = VIDEO_MOMENTS if video else (0.0,)
    drawn = tasks or (VIDEO_TASKS if video else IMAGE_TASKS)
    samples: list[Sample] = []
    while len(samples) < clips:
        nameless = rng.random() < _NAMELESS_SCENES
        recipe = SceneRecipe(
            video=video,
            unnamed_share=0.5 if nameless else 0.0,
            vivid_share=_VIVID_SHARE if nameless else 0.0,
            leave_share=0.12,
            return_share=0.08,
            crossing_share=0.25,
            object_counts=object_counts,
        )
        clip = sample_clip(rng, recipe, moments)
        asked = sample_turns(clip.objects, rng, turns, drawn, TurnRules(video=video))
        if asked:
            samples.append(Sample(clip, tuple(asked)))
    return Batch(tuple(samples), packer.pack(samples), moments)


def read(mllm: InternVL, batch: Batch) -> LanguageOutput:
    """One pass of both encoders of `batch`."""
    patches, tokens = see(mllm, [sample.clip for sample in batch.samples])
    packed = batch.packed
    rows, frames = len(batch.samples), len(batch.moments)
    visual = tokens.reshape(rows, frames * TOKEN_CELLS, -1)
    embeddings = mllm.token_embeddings(packed.ids).clone()
    row_numbers = torch.arange(rows, device=embeddings.device)[:, None]
    embeddings[row_numbers, packed.places] = visual
    if len(packed.region_places):
        last = visual[:, -TOKEN_CELLS:]
        source = last[packed.region_cells[:, 0], packed.region_cells[:, 1]]
        embeddings[packed.region_places[:, 0], packed.region_places[:, 1]] = source
    output = mllm.language_model.model(
        inputs_embeds=embeddings,
        attention_mask=packed.mask,
        position_ids=packed.positions,
        use_cache=False,
        output_hidden_states=True,
    )
    return LanguageOutput(patches, tokens, output.last_hidden_state, output.hidden_states)


class LanguageLoss:
    """All losses of the stage; holds the tokens' weights."""

    def __init__(
        self, mllm: InternVL, text_hidden_fcs: nn.Module, heads: DenseHeads, tokenizer: Tokenizer
    ) -> None:
        self._mllm, self._projection, self._heads = mllm, text_hidden_fcs, heads
        self._weights = token_weights(tokenizer).to(mllm.vision_model.device)

    def __call__(
        self, batch: Batch, output: LanguageOutput, *, dense: bool
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Total loss, what to log, and the (S, C) projected `[SEG]` states. `dense` keeps the vision
        encoder's own targets alive while it is trained."""
        kind = "video_" if batch.is_video else ""
        text, right = self._text(batch.packed, output)
        log = {f"{kind}text": text, f"{kind}word_right": right}
        total = text
        prompts, code, place = self._code(batch, output)
        total = total + code
        log[f"{kind}place_error"] = place
        pointing, hit = self._pointers(batch, output)
        total = total + 0.5 * pointing
        log[f"{kind}pointer_right"] = hit
        if batch.is_video or dense:
            targets = dense_targets([sample.clip for sample in batch.samples], batch.moments)
            targets = moved(targets, output.hidden.device)
            if batch.is_video:
                moving, known = self._motion(batch, output, targets)
                total = total + 0.5 * moving
                log["motion_right"] = known
            if dense:
                seen, _ = dense_losses(
                    self._heads, output.patches, output.tokens, targets, shape_weight=_SHAPE_WEIGHT
                )
                log["dense"] = 0.3 * seen
                total = total + log["dense"]
        return total, log, prompts

    def _text(self, packed: PackedBatch, output: LanguageOutput) -> tuple[Tensor, Tensor]:
        labels = packed.labels[:, 1:]
        answered = labels != IGNORED
        logits = self._mllm.language_model.lm_head(output.hidden[:, :-1][answered])
        kept = packed.kept[:, 1:][answered]
        emphasis = packed.emphasis[:, 1:][answered]
        return text_loss(logits, labels[answered], kept, self._weights, emphasis)

    def _code(self, batch: Batch, output: LanguageOutput) -> tuple[Tensor, Tensor, Tensor]:
        rows, places, _ = batch.packed.segments.unbind(1)
        prompts = self._projection(output.hidden[rows, places])
        if not len(rows):
            zero = prompts.sum()
            return prompts, zero, zero.detach()
        wanted = segment_codes(batch).to(prompts.device)
        error = (prompts - wanted).square()
        loss = 4 * error[:, :CODE_DIMS].mean() + error[:, CODE_DIMS:].mean()
        return prompts, loss, error[:, :PLACE_DIMS].mean().detach()

    def _pointers(self, batch: Batch, output: LanguageOutput) -> tuple[Tensor, Tensor]:
        """Tokens that will speak of an object must score its visual tokens highest, in any frame."""
        packed = batch.packed
        marks, cover = torch.cat([packed.segments, packed.mentions]), _covers(batch).to(output.hidden.device)
        depth = _VIDEO_LAYER if batch.is_video else _IMAGE_LAYER
        covers = _shares(cover)
        pointing, hit = self._point(batch, output, marks, covers[marks[:, 0], marks[:, 2]], depth)
        if len(packed.counts):
            numbers, crowds = _crowds(packed.counts, covers)
            counting, _ = self._point(batch, output, numbers, crowds, depth)
            pointing = pointing + 0.5 * counting
        if batch.is_video and len(packed.movements):
            # The first frame's tokens cannot know a motion: look at the later ones, and in time to read them.
            cover[..., :TOKEN_CELLS] = 0
            moved = _shares(cover)[packed.movements[:, 0], packed.movements[:, 2]]
            moving, _ = self._point(batch, output, packed.movements, moved, _IMAGE_LAYER)
            pointing = pointing + moving
        return pointing, hit

    def _point(
        self, batch: Batch, output: LanguageOutput, marks: Tensor, wanted: Tensor, depth: int
    ) -> tuple[Tensor, Tensor]:
        """Tokens at (row, position) of `marks` (M, …) against what they should look at, (M, F·K)."""
        packed = batch.packed
        layer = F.layer_norm(output.layers[depth], output.layers[depth].shape[-1:])
        row_numbers = torch.arange(len(batch.samples), device=layer.device)[:, None]
        keys = self._heads.pointer_key(layer[row_numbers, packed.places])
        queries = self._heads.pointer_query(layer[marks[:, 0], marks[:, 1]])
        scores = torch.einsum("mc,mkc->mk", queries, keys[marks[:, 0]]) / 8
        loss = -(wanted * scores.log_softmax(1)).sum(1).mean()
        hit = (wanted.gather(1, scores.argmax(1, keepdim=True)) > 0).float().mean()
        return loss, hit

    def _motion(self, batch: Batch, output: LanguageOutput, targets: DenseTargets) -> tuple[Tensor, Tensor]:
        """Visual tokens of every later frame tell the motion and the first place of their object."""
        frames = len(batch.moments)
        layer = output.layers[_MOTION_LAYER]
        row_numbers = torch.arange(len(batch.samples), device=layer.device)[:, None]
        visual = F.layer_norm(layer[row_numbers, batch.packed.places], layer.shape[-1:])
        visual = visual.reshape(-1, TOKEN_CELLS, layer.shape[-1])
        later = torch.arange(len(visual), device=visual.device) % frames > 0
        covered = targets.has & later[:, None]
        logits = self._heads.motion(visual[covered])
        wanted = targets.motion[covered]
        origin = F.mse_loss(self._heads.origin(visual[covered]), targets.origin[covered])
        right = (logits.argmax(1) == wanted).float().mean()
        return F.cross_entropy(logits, wanted) + 4 * origin, right


def segment_codes(batch: Batch) -> Tensor:
    """(S, C): the teacher's code of the object that each `[SEG]` stands for, on the first frame."""
    boxes, attributes = [], []
    for row, _, thing in batch.packed.segments.tolist():
        clip = batch.samples[row].clip
        boxes.append(torch.from_numpy(clip.boxes_tn4[0, thing]))
        attributes.append(attributes_of(clip, [thing])[0])
    return object_code(torch.stack(boxes), torch.stack(attributes), PROMPT_WIDTH)


def _shares(covers: Tensor) -> Tensor:
    """Covers that sum to 1 for each object (0 where it is nowhere)."""
    return covers / covers.sum(-1, keepdim=True).clamp(min=1e-6)


def _crowds(counts: Tensor, covers: Tensor) -> tuple[Tensor, Tensor]:
    """(C, 3) marks of counted objects → (Q, 2) row and position of each number, and (Q, F·K): all that it
    counts, every object as much as another."""
    numbers, group = counts[:, :2].unique(dim=0, return_inverse=True)
    crowds = covers.new_zeros(len(numbers), covers.shape[-1])
    crowds.index_add_(0, group, covers[counts[:, 0], counts[:, 2]])
    return numbers, _shares(crowds)


def _covers(batch: Batch) -> Tensor:
    """(B, most objects, F·K): how much of each visual token each object covers."""
    most = max(len(sample.clip.objects) for sample in batch.samples)
    covers = torch.zeros(len(batch.samples), most, len(batch.moments) * TOKEN_CELLS)
    for b, sample in enumerate(batch.samples):
        for i in range(len(sample.clip.objects)):
            for t in range(len(batch.moments)):
                cover = torch.from_numpy(token_cover(sample.clip.mask_hw(i, t)))
                covers[b, i, t * TOKEN_CELLS : (t + 1) * TOKEN_CELLS] = cover
    return covers


def token_weights(tokenizer: Tokenizer) -> Tensor:
    """(V,): 1 for words that carry content, less for list marks, least for the template's words."""
    directions = [motion for motion in MOTIONS if motion != "still"]
    words = [*COLOURS, *SHAPES, *SIZES, *directions, "moving", "standing", "top", "bottom", "middle"]
    words += ["Yes", "No", "Sure", "There", "in", "on", "at", *"0123456789"]
    weights = torch.full((tokenizer.get_vocab_size(),), _TEMPLATE_WEIGHT)
    for word in words:
        _weigh(tokenizer, weights, word, 1.0)
    for mark in (",", "and", "<p>", "</p>", "[SEG]", "an", "<|im_end|>"):
        _weigh(tokenizer, weights, mark, _LIST_WEIGHT)
    return weights


def _weigh(tokenizer: Tokenizer, weights: Tensor, word: str, weight: float) -> None:
    for form in (word, f" {word}"):
        ids = tokenizer.encode(form).ids
        if len(ids) == 1:
            weights[ids[0]] = weight
