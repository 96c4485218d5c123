"""Several expressions in one call beside a published call for each, words and masks together.

Asked of InternVL + Qwen2 at the size of the 1B checkpoint with SAM-2's largest encoder. Weights are
generated, so the model is made to answer `[SEG]` to everything.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.clips import EXPRESSIONS
from benchmarks.measuring import fair_seconds
from benchmarks.models import Frames, let_objects_stay
from benchmarks.questions import CACHE_BYTES, MODEL, generated
from benchmarks.reference import KEY_FRAMES, Reference, passes
from sa2va_tools.model.device import choose_pace
from sa2va_tools.model.loading import Loaded
from sa2va_tools.model.prompt import segment_question
from sa2va_tools.model.runtime import Sa2vaRuntime

_TOKENS = 2
"""Of an answer: `[SEG]`, and one more, for a `[SEG]` that was never fed back has no state."""


class Compared:
    """Both ways through the same clip, on one loaded model of the InternVL family."""

    def __init__(self, loaded: Loaded, device: torch.device) -> None:
        self._device, self._grounding = device, loaded.modules.grounding
        self._runtime = Sa2vaRuntime(
            loaded,
            loaded.config.family,
            devices=(device,),
            pace=choose_pace(device, small=False),
            cache_bytes=CACHE_BYTES,
        )
        seg = loaded.tokenizer.seg_id

        def prefer_seg(head: nn.Module, given: tuple[Tensor, ...], logits: Tensor) -> Tensor:
            logits[..., seg] = torch.inf
            return logits

        loaded.modules.mllm.language_model.lm_head.register_forward_hook(prefer_seg)

    def measure(self, frames: Frames, expressions: Sequence[str], *, published: int) -> dict[str, Any]:
        """Seconds of both; only the first `published` expressions go the published way, and their time is
        multiplied, for each is a call of its own."""
        questions = [segment_question(expression, video=True) for expression in expressions]
        with self._runtime.at_work():
            theirs: list[NDArray[np.bool_]] = []
            ours: list[NDArray[np.bool_]] = []

            def publish() -> None:
                theirs[:] = [self._published(frames, each) for each in questions[:published]]

            def ask() -> None:
                self._runtime.cache.clear()
                self._runtime.tally.encoder_passes = 0
                ours[:] = self._in_one_call(frames, questions)

            theirs_s, ours_s = fair_seconds(publish, self._device), fair_seconds(ask, self._device)
            encoded = self._runtime.tally.encoder_passes
        whole_s = theirs_s * len(expressions) / published
        return {
            "frames": len(frames),
            "expressions": len(expressions),
            "reference_s": round(whole_s, 3),
            "reference_measured": published,
            "ours_s": round(ours_s, 3),
            "ratio": round(whole_s / ours_s, 3),
            "reference_passes": len(expressions) * passes(len(frames), 1),
            "our_passes": encoded,
            "equal_pixels": round(float(np.mean(np.stack(theirs) == np.stack(ours[:published]))), 6),
        }

    def _published(self, frames: Frames, question: str) -> NDArray[np.bool_]:
        """(frames, height, width), from pictures that nobody has looked at before."""
        seen = self._runtime.look(frames.pictures[:KEY_FRAMES], video=True)
        prompts = self._runtime.answer(question, seen, max_new_tokens=_TOKENS).seg_prompts
        home = self._grounding.no_object_pointer
        embeddings = torch.from_numpy(prompts).to(home.device, home.dtype)
        reference = Reference(self._grounding)
        masks = reference.masks(frames.pictures, embeddings)
        assert reference.passes_of_last == passes(len(frames), 1)
        return masks[0]

    def _in_one_call(self, frames: Frames, questions: Sequence[str]) -> list[NDArray[np.bool_]]:
        """Of each question (frames, height, width)."""
        seen = self._runtime.look(frames.pictures[:KEY_FRAMES], video=True, key=("benchmark", len(frames)))
        answers = self._runtime.answer_all(questions, seen, max_new_tokens=_TOKENS)
        found = self._runtime.masks_from_words(
            frames,
            np.concatenate([answer.seg_prompts for answer in answers]),
            key_positions=range(min(KEY_FRAMES, len(frames))),
        )
        by_position = {each.position: each.masks for each in found}
        return list(np.stack([by_position[position] for position in sorted(by_position)], 1))


def main() -> None:
    """`python -m benchmarks.expressions --frames 12`: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL, help="a published checkpoint of the InternVL family")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--expressions", type=int, default=5, choices=range(1, len(EXPRESSIONS) + 1))
    wish = parser.parse_args()
    device = torch.device(wish.device)
    quickly = device.type == "cuda"
    loaded = generated(wish.model, device, torch.bfloat16 if quickly else torch.float32)
    let_objects_stay(loaded.modules.grounding)
    compared = Compared(loaded, device)
    compared.measure(Frames(1), EXPRESSIONS[:1], published=1)  # what is only made once
    asked = EXPRESSIONS[: wish.expressions]
    found = compared.measure(Frames(wish.frames), asked, published=len(asked) if quickly else 1)
    json.dump({"model": wish.model, **found}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
