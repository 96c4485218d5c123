"""The losses of the language stages: text, `[SEG]` embeddings, pointing to objects, motion, dense targets.

SAM-2 takes no part. Besides the text's cross-entropy, heads that are discarded later teach what the answers
need: tokens that are about an object point at its visual tokens, which teaches a middle layer the lookup that
the layers after it can use; and visual tokens of later frames know how their object moves and where it
started. Those of the first frame cannot know, because attention is causal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from sa2va_tools.model.text.prompts import PHRASE_END, PHRASE_START, SEG
from sa2va_tools.nano.course.dense import TOKENS, DenseTargets, dense_losses, dense_targets, token_coverage
from sa2va_tools.nano.course.grounding_data import CODE_DIMS, PLACE_DIMS, encode_objects, object_attributes
from sa2va_tools.nano.course.language_batch import LanguageBatch, LanguageOutput
from sa2va_tools.nano.course.nano_model import NanoModel
from sa2va_tools.nano.course.samples import PackedBatch
from sa2va_tools.nano.course.tokenizer import TURN_END
from sa2va_tools.nano.world.scenes import COLOURS, MOTIONS, SHAPES, SIZES
from sa2va_tools.training.device import move_to_device
from sa2va_tools.training.losses import text_loss
from sa2va_tools.training.packing import IGNORED

_IMAGE_LAYER = 2
_VIDEO_LAYER = 3
"""The layers after which a token must have found its object."""
_MOTION_LAYER = 2
_SHAPE_WEIGHT = 3.0
_CODE_WEIGHT = 4.0
_POINTER_WEIGHT = 0.5
_COUNT_WEIGHT = 0.5
_MOTION_WEIGHT = 0.5
_ORIGIN_WEIGHT = 4.0
_DENSE_WEIGHT = 0.3
_TEMPLATE_WEIGHT = 0.15
_LIST_WEIGHT = 0.5
_DIRECTIONS = tuple(motion for motion in MOTIONS if motion != "still")
_CONTENT_WORDS = (
    *(*COLOURS, *SHAPES, *SIZES, *_DIRECTIONS, "moving", "standing", "top", "bottom", "middle"),
    *("Yes", "No", "Sure", "There", "in", "on", "at", *"0123456789"),
)
_LIST_WORDS = (",", "and", PHRASE_START, PHRASE_END, SEG, "an", TURN_END)


@dataclass(frozen=True, slots=True)
class LanguageLosses:
    """The total, what to log, and the (S, C) prompt embeddings of all `[SEG]` tokens."""

    total: Tensor
    log: dict[str, Tensor]
    seg_prompts: Tensor


class LanguageLoss:
    """Computes the losses of batches; holds the tokens' weights."""

    def __init__(self, nano: NanoModel) -> None:
        self._model = nano.model
        self._heads = nano.heads
        weights = _compute_token_weights(nano.tokenizer)
        self._token_weights = weights.to(nano.model.mllm.vision_model.device)

    def __call__(self, batch: LanguageBatch, output: LanguageOutput, *, dense: bool) -> LanguageLosses:
        """`dense` adds the vision encoder's dense targets, while it is trained."""
        prefix = "video_" if batch.is_video else ""
        text, word_accuracy = self._text(batch.packed, output)
        seg_prompts, code_loss, place_error = self._codes(batch, output)
        pointing, pointer_accuracy = self._pointers(batch, output)
        log = {
            f"{prefix}text": text,
            f"{prefix}word_accuracy": word_accuracy,
            f"{prefix}place_error": place_error,
            f"{prefix}pointer_accuracy": pointer_accuracy,
        }
        total = text + code_loss + _POINTER_WEIGHT * pointing
        if batch.is_video or dense:
            targets = dense_targets([sample.clip for sample in batch.samples], batch.moments)
            targets = move_to_device(targets, output.hidden.device)
            if batch.is_video:
                motion, log["motion_accuracy"] = self._motion(batch, output, targets)
                total = total + _MOTION_WEIGHT * motion
            if dense:
                dense_loss, _ = dense_losses(
                    self._heads, output.patches, output.tokens, targets, shape_weight=_SHAPE_WEIGHT
                )
                log["dense"] = _DENSE_WEIGHT * dense_loss
                total = total + log["dense"]
        return LanguageLosses(total, log, seg_prompts)

    def _text(self, packed: PackedBatch, output: LanguageOutput) -> tuple[Tensor, Tensor]:
        labels = packed.tokens.labels[:, 1:]
        answered = labels != IGNORED
        logits = self._model.mllm.language_model.lm_head(output.hidden[:, :-1][answered])
        excluded = packed.excluded[:, 1:][answered]
        emphasis = packed.emphasis[:, 1:][answered]
        return text_loss(logits, labels[answered], excluded, self._token_weights, emphasis)

    def _codes(self, batch: LanguageBatch, output: LanguageOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Prompt embeddings at `[SEG]`, their distance from the object codes, and that of their places."""
        rows, positions, _ = batch.packed.segments.unbind(1)
        prompts = self._model.project_seg_states(output.hidden[rows, positions])
        if not len(rows):
            zero = prompts.sum()
            return prompts, zero, zero.detach()
        error = (prompts - _segment_codes(batch).to(prompts.device)).square()
        loss = _CODE_WEIGHT * error[:, :CODE_DIMS].mean() + error[:, CODE_DIMS:].mean()
        return prompts, loss, error[:, :PLACE_DIMS].mean().detach()

    def _motion(
        self, batch: LanguageBatch, output: LanguageOutput, targets: DenseTargets
    ) -> tuple[Tensor, Tensor]:
        """Visual tokens of later frames must know their object's motion and its place on the first frame."""
        states = output.layers[_MOTION_LAYER]
        width = states.shape[-1]
        rows = torch.arange(len(batch.samples), device=states.device)[:, None]
        visual = F.layer_norm(states[rows, batch.packed.image_positions], (width,)).reshape(-1, TOKENS, width)
        is_later = torch.arange(len(visual), device=visual.device) % len(batch.moments) > 0
        covered = targets.is_covered & is_later[:, None]
        logits = self._heads.motion(visual[covered])
        motions = targets.motion[covered]
        origin = F.mse_loss(self._heads.origin(visual[covered]), targets.first_place[covered])
        accuracy = (logits.argmax(1) == motions).float().mean()
        return F.cross_entropy(logits, motions) + _ORIGIN_WEIGHT * origin, accuracy

    def _pointers(self, batch: LanguageBatch, output: LanguageOutput) -> tuple[Tensor, Tensor]:
        """The loss, and the share of tokens whose highest score is on their object, on any frame."""
        packed = batch.packed
        layer = _VIDEO_LAYER if batch.is_video else _IMAGE_LAYER
        coverage = _measure_coverage(batch).to(output.hidden.device)
        shares = _normalize(coverage)
        marks = torch.cat([packed.segments, packed.mentions])
        total, accuracy = self._point(batch, output.layers[layer], marks, shares[marks[:, 0], marks[:, 2]])
        if len(packed.counts):
            numbers, counted_shares = _merge_counted(packed.counts, shares)
            counting, _ = self._point(batch, output.layers[layer], numbers, counted_shares)
            total = total + _COUNT_WEIGHT * counting
        if batch.is_video and len(packed.movements):
            # Tokens of the first frame cannot know a motion, so words about it must point at later frames,
            # and early enough for the next layers to read it.
            coverage[..., :TOKENS] = 0
            later_shares = _normalize(coverage)[packed.movements[:, 0], packed.movements[:, 2]]
            moving, _ = self._point(batch, output.layers[_IMAGE_LAYER], packed.movements, later_shares)
            total = total + moving
        return total, accuracy

    def _point(
        self, batch: LanguageBatch, layer: Tensor, marks: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the scores that the tokens at (row, position) of `marks` give to visual tokens,
        and the accuracy; `target` (M, F·K) is how much each visual token should get."""
        states = F.layer_norm(layer, layer.shape[-1:])
        rows = torch.arange(len(batch.samples), device=states.device)[:, None]
        keys = self._heads.pointer_key(states[rows, batch.packed.image_positions])
        queries = self._heads.pointer_query(states[marks[:, 0], marks[:, 1]])
        scores = torch.einsum("mc,mkc->mk", queries, keys[marks[:, 0]]) / 8
        loss = -(target * scores.log_softmax(1)).sum(1).mean()
        accuracy = (target.gather(1, scores.argmax(1, keepdim=True)) > 0).float().mean()
        return loss, accuracy


def _segment_codes(batch: LanguageBatch) -> Tensor:
    """(S, C): the code of the object of each `[SEG]`, as it is on the first frame."""
    boxes = []
    attributes = []
    for row, _, index in batch.packed.segments.tolist():
        clip = batch.samples[row].clip
        boxes.append(torch.from_numpy(clip.boxes_tn4[0, index]))
        attributes.append(object_attributes(clip, [index])[0])
    return encode_objects(torch.stack(boxes), torch.stack(attributes))


def _compute_token_weights(tokenizer: Tokenizer) -> Tensor:
    """(V,): 1 for content words, less for the tokens of lists, least for the words of answer templates."""
    weights = torch.full((tokenizer.get_vocab_size(),), _TEMPLATE_WEIGHT)
    for words, weight in ((_CONTENT_WORDS, 1.0), (_LIST_WORDS, _LIST_WEIGHT)):
        for word in words:
            for form in (word, f" {word}"):
                ids = tokenizer.encode(form).ids
                if len(ids) == 1:
                    weights[ids[0]] = weight
    return weights


def _measure_coverage(batch: LanguageBatch) -> Tensor:
    """(B, most objects, F·K): how much of each visual token each object covers."""
    most_objects = max(len(sample.clip.objects) for sample in batch.samples)
    coverage = torch.zeros(len(batch.samples), most_objects, len(batch.moments) * TOKENS)
    for row, sample in enumerate(batch.samples):
        for index in range(len(sample.clip.objects)):
            for frame in range(len(batch.moments)):
                covered = torch.from_numpy(token_coverage(sample.clip.mask_hw(index, frame)))
                coverage[row, index, frame * TOKENS : (frame + 1) * TOKENS] = covered
    return coverage


def _normalize(coverage: Tensor) -> Tensor:
    """Sums to 1 for each object (0 if it is nowhere)."""
    return coverage / coverage.sum(-1, keepdim=True).clamp(min=1e-6)


def _merge_counted(counts: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """(C, 3) marks of counted objects → (Q, 2) row and position of each number, and (Q, F·K) the visual
    tokens of all that it counts, each object with the same weight."""
    numbers, group = counts[:, :2].unique(dim=0, return_inverse=True)
    merged = shares.new_zeros(len(numbers), shares.shape[-1])
    merged.index_add_(0, group, shares[counts[:, 0], counts[:, 2]])
    return numbers, _normalize(merged)
