"""What faster arithmetic costs: the nano's masks against those of exact float32, and against the truth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va_tools.evaluation.nano_cases import CLIP_FRAMES, LONG_FRAMES, Case, ClipFrames, Exercise, exam_cases
from sa2va_tools.evaluation.video_metrics import track_quality
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.device import choose_threads, cpu_threads
from sa2va_tools.model.runtime import Sa2vaRuntime

SEED = "approximations"
VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {},
    "image encoder bfloat16": {"encoder_dtype": "bfloat16"},
    "all modules bfloat16": {"dtype": "bfloat16"},
    "fast tracking": {"fast_tracking": True},
}
_LARGE_ON_CPU = {"encoder_dtype": "bfloat16", "attention_dtype": "bfloat16"}
"""What a CPU with instructions for it does with models of full size."""
EXACT = "float32"


@dataclass(frozen=True, slots=True)
class Question:
    """One expression about a clip, with its prompt embedding, the same for all variants."""

    case: Case
    thing: int
    prompt: NDArray[np.float32]


def questions(runtime: Sa2vaRuntime, frames: int, clips: int) -> list[Question]:
    """Expressions about training-like clips of that many frames that the model points at."""
    exercise = Exercise("refer", frames, crossing=frames == LONG_FRAMES)
    found = []
    for case in exam_cases(exercise, "train", clips, SEED):
        pictures = case.clip.frames_thwc
        seen = np.linspace(0, len(pictures) - 1, runtime.config.chat_frames).astype(int)
        visual = runtime.look([pictures[i] for i in seen], video=True)
        for turn in case.turns:
            prompts = runtime.answer(turn.question, visual, max_new_tokens=20).seg_prompts
            if len(prompts):
                found.append(Question(case, turn.segments[0], prompts[:1]))
    return found


def masks_of(runtime: Sa2vaRuntime, asked: Question) -> NDArray[np.bool_]:
    """(T, S, S)"""
    source = ClipFrames(asked.case.clip.frames_thwc)
    masks = np.zeros_like(asked.case.clip.ids_thw, bool)
    with runtime.at_work():
        for frame in runtime.masks_from_words(source, asked.prompt):
            masks[frame.position] = frame.masks[0]
    return masks


def iou_of(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Over the whole clip; 1 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def compare(frames: int, clips: int, device: str) -> Iterator[dict[str, float | str]]:
    """One row per variant."""
    variants = dict(VARIANTS)
    if torch.device(device).type == "cpu":
        variants["image encoder and memory attention bfloat16"] = _LARGE_ON_CPU
    runtimes = {name: Sa2vaRuntime.load(NANO_FOLDER, device=device, **how) for name, how in variants.items()}
    asked = questions(runtimes[EXACT], frames, clips)
    exact = [masks_of(runtimes[EXACT], each) for each in asked]
    for name, runtime in runtimes.items():
        ours = exact if name == EXACT else [masks_of(runtime, each) for each in asked]
        ious = [iou_of(one, other) for one, other in zip(ours, exact, strict=True)]
        truth = [
            track_quality(mask, each.case.truth_thw(each.thing)).j_and_f
            for mask, each in zip(ours, asked, strict=True)
        ]
        yield {
            "variant": name,
            "frames": frames,
            "tracks": len(asked),
            "iou_with_exact": round(float(np.mean(ious)), 4),
            "worst_iou": round(min(ious), 4),
            "j_and_f": round(float(np.mean(truth)), 4),
        }


def approximations(device: str, clips: int) -> list[dict[str, float | str]]:
    """Rows for short clips and for long ones, of that many questions each."""
    return [row for frames in (CLIP_FRAMES, LONG_FRAMES) for row in compare(frames, clips, device)]


def main() -> None:
    """`python -m benchmarks.approximations`: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=60, help="questions of each length")
    parser.add_argument("--device", default="cpu")
    wish = parser.parse_args()
    with cpu_threads(choose_threads(None, torch.device(wish.device), small=True)):
        rows = approximations(wish.device, wish.clips)
    json.dump(rows, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
