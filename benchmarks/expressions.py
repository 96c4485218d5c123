"""Several expressions in one call compared to a published call for each: words and masks together.

Measured with InternVL and Qwen2 at the size of the 1B checkpoint and SAM-2's largest encoder. The weights are
random, so the model is made to answer `[SEG]` to everything.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.clips import EXPRESSIONS
from benchmarks.first_tokens import CACHE_BYTES, MODEL
from benchmarks.measuring import default_device, measure_fairly, print_json
from benchmarks.models import MemoryClip, build_checkpoint, raise_object_scores
from benchmarks.reference import PROMPT_FRAMES, PublishedTracking, count_passes
from sa2va_tools.model.checkpoints.loader import LoadedCheckpoint
from sa2va_tools.model.device.placement import choose_batch_sizes
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime, Session
from sa2va_tools.model.text.prompts import segment_question
from sa2va_tools.run import Run

_TOKENS = 2
"""Of an answer: `[SEG]` and one more, because a `[SEG]` has a hidden state once it was fed back."""


class ExpressionComparison:
    """Both ways through the same clip, on one loaded model of the InternVL family."""

    def __init__(self, checkpoint: LoadedCheckpoint, device: torch.device) -> None:
        self._device, self._sam2 = device, checkpoint.modules.sam2
        self._runtime = Sa2vaRuntime(
            checkpoint,
            checkpoint.config.family,
            devices=(device,),
            batch_sizes=choose_batch_sizes(device, small=False),
            cache_bytes=CACHE_BYTES,
        )
        seg_id = checkpoint.tokenizer.seg_id

        def prefer_seg(head: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
            logits[..., seg_id] = torch.inf
            return logits

        checkpoint.modules.mllm.language_model.lm_head.register_forward_hook(prefer_seg)

    def measure(self, clip: MemoryClip, expressions: Sequence[str], *, published: int) -> dict[str, Any]:
        """Seconds of both ways. Only the first `published` expressions go the published way and their time is
        multiplied, because each of them is a call of its own there."""
        questions = [segment_question(expression, video=True) for expression in expressions]
        published_masks: list[NDArray[np.bool_]] = []
        our_masks: list[NDArray[np.bool_]] = []
        run = Run()

        def call_published() -> None:
            published_masks[:] = [self._segment_published(clip, each) for each in questions[:published]]

        def call_ours() -> None:
            nonlocal run
            run = Run()
            self._runtime.cache.clear()
            our_masks[:] = self._segment_in_one_call(clip, questions, run)

        published_s = measure_fairly(call_published, self._device) * len(expressions) / published
        ours_s = measure_fairly(call_ours, self._device)
        equal = np.stack(published_masks) == np.stack(our_masks[:published])
        return {
            "frames": len(clip),
            "expressions": len(expressions),
            "reference_s": round(published_s, 3),
            "reference_measured": published,
            "ours_s": round(ours_s, 3),
            "ratio": round(published_s / ours_s, 3),
            "reference_passes": len(expressions) * count_passes(len(clip), 1),
            "our_passes": run.stats.encoder_passes,
            "equal_pixels": round(float(np.mean(equal)), 6),
        }

    def _segment_published(self, clip: MemoryClip, question: str) -> NDArray[np.bool_]:
        """(frames, height, width); nothing of the pictures is cached."""
        with self._runtime.session(Run()) as session:
            pictures = clip.pictures[:PROMPT_FRAMES]
            features = session.language.get_image_features(lambda: pictures, video=True)
            seg_prompts = session.language.answer(question, features, max_new_tokens=_TOKENS).seg_prompts
            like = self._sam2.no_object_pointer
            embeddings = torch.from_numpy(seg_prompts).to(like.device, like.dtype)
            tracking = PublishedTracking(self._sam2)
            masks = tracking.track(clip.pictures, embeddings)
        assert tracking.encoder_passes == count_passes(len(clip), 1)
        return masks[0]

    def _segment_in_one_call(
        self, clip: MemoryClip, questions: Sequence[str], run: Run
    ) -> list[NDArray[np.bool_]]:
        """(frames, height, width) for each question."""
        with self._runtime.session(run) as session:
            seg_prompts = _answer_all(session, clip, questions)
            frames = session.masks.track_words(
                clip, seg_prompts, prompt_positions=range(min(PROMPT_FRAMES, len(clip)))
            )
            masks = {frame.position: frame.masks for frame in frames}
        return list(np.stack([masks[position] for position in sorted(masks)], 1))


def _answer_all(session: Session, clip: MemoryClip, questions: Sequence[str]) -> NDArray[np.float32]:
    """(questions, C) prompt embeddings."""
    features = session.language.get_image_features(
        lambda: clip.pictures[:PROMPT_FRAMES], video=True, key=("benchmark", len(clip))
    )
    answers = session.language.answer_all(questions, features, max_new_tokens=_TOKENS)
    return np.concatenate([answer.seg_prompts for answer in answers])


def measure_expressions(model: str, device: torch.device, *, frames: int, expressions: int) -> dict[str, Any]:
    """Both ways through a clip, on a model with random weights. On a CPU one expression goes the published
    way."""
    is_fast = device.type == "cuda"
    checkpoint = build_checkpoint(model, device, torch.bfloat16 if is_fast else torch.float32)
    raise_object_scores(checkpoint.modules.sam2)
    comparison = ExpressionComparison(checkpoint, device)
    comparison.measure(MemoryClip(1), EXPRESSIONS[:1], published=1)  # what is computed only once
    published = expressions if is_fast else 1
    result = comparison.measure(MemoryClip(frames), EXPRESSIONS[:expressions], published=published)
    return {"model": model, **result}


def main() -> None:
    """`python -m benchmarks.expressions --frames 12`: prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL, help="a published checkpoint of the InternVL family")
    parser.add_argument("--device", default=default_device())
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--expressions", type=int, default=5, choices=range(1, len(EXPRESSIONS) + 1))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print_json(
        measure_expressions(
            arguments.model, device, frames=arguments.frames, expressions=arguments.expressions
        )
    )


if __name__ == "__main__":
    main()
