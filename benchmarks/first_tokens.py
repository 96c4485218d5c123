"""How soon an answer begins: for the first question about a video, and for later ones, which find its frames
and the common part of the prompt in the cache.

Measured with InternVL and Qwen2 at the size of the 1B checkpoint. The weights are random and the words mean
nothing: only the time to the first token is measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measuring import default_device, print_json
from benchmarks.models import MemoryClip, build_checkpoint
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime, Session
from sa2va_tools.model.text.prompts import chat_question
from sa2va_tools.run import Progress, Run

MODEL = "ByteDance/Sa2VA-1B"
LLM_FRAMES = 5
CACHE_BYTES = 2**31  # the engine's own budget for models of this size
QUESTIONS = (
    "What moves in the video?",
    "Where is the square at the end?",
    "Please describe the background.",
    "Which colours are there?",
)


def measure_first_tokens(
    runtime: Sa2vaRuntime, pictures: Sequence[NDArray[np.uint8]], questions: Sequence[str]
) -> list[float]:
    """Seconds from each question to its first token. The questions are asked one after another about the
    same pictures."""
    key = ("benchmark", len(pictures))
    return [_measure_first_token(runtime, pictures, key, question) for question in questions]


def _measure_first_token(
    runtime: Sa2vaRuntime, pictures: Sequence[NDArray[np.uint8]], key: Hashable, question: str
) -> float:
    times_s = TokenTimes()
    with runtime.session(Run(times_s.note)) as session:
        ask(session, pictures, key, question, max_new_tokens=1)
    return times_s.since_start[0]


class TokenTimes:
    """When each progress report about an answer comes. The number of a token is known by then, so on a GPU
    its work is done."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.since_start: list[float] = []
        """Seconds, one for each token."""

    def note(self, progress: Progress) -> None:
        """Use as `on_progress` of a `Run`."""
        if progress.stage == "answer":
            self.since_start.append(time.perf_counter() - self._began)


def ask(
    session: Session,
    pictures: Sequence[NDArray[np.uint8]],
    key: Hashable,
    question: str,
    *,
    max_new_tokens: int,
) -> int:
    """The number of tokens that were written."""
    features = session.language.get_image_features(lambda: pictures, video=True, key=key)
    answer = session.language.answer(chat_question(question), features, max_new_tokens=max_new_tokens)
    return len(answer.token_ids)


def measure(runtime: Sa2vaRuntime) -> dict[str, Any]:
    """Questions about the frames of a video; the ratio is that of the first to the second."""
    # Another video first, because of what a process computes only once.
    measure_first_tokens(runtime, MemoryClip(2).pictures, QUESTIONS[:1])
    runtime.cache.clear()
    seconds = measure_first_tokens(runtime, MemoryClip(LLM_FRAMES).pictures, QUESTIONS)
    return {
        "model": runtime.name,
        "dtype": runtime.device_info.dtype,
        "llm_frames": LLM_FRAMES,
        "first_token_s": [round(each, 4) for each in seconds],
        "ratio": round(seconds[0] / seconds[1], 2),
    }


def main() -> None:
    """`python -m benchmarks.first_tokens`: prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL, help="a published checkpoint of the InternVL family")
    parser.add_argument("--device", default=default_device())
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    dtype = arguments.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    checkpoint = build_checkpoint(arguments.model, device, getattr(torch, dtype))
    runtime = Sa2vaRuntime(checkpoint, arguments.model, devices=(device,), cache_bytes=CACHE_BYTES)
    print_json(measure(runtime))


if __name__ == "__main__":
    main()
