"""How soon an answer begins: a first question about a video, and later ones, which find it seen and read.

Asked of InternVL + Qwen2 at the size of the 1B checkpoint. Weights are generated, so the words mean nothing:
only the time to the first token is looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.models import Frames, in_format
from sa2va_tools.model.chat import load_chat
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.loading import Loaded
from sa2va_tools.model.prompt import chat_question
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.model.tokenizer import load_tokenizer
from sa2va_tools.model.zoo import published
from sa2va_tools.model.zoo_sizes import sizes_of

MODEL = "ByteDance/Sa2VA-1B"
KEY_FRAMES = 5
CACHE_BYTES = 2**31  # the engine's own budget for models of this size
QUESTIONS = (
    "What moves in the video?",
    "Where is the square at the end?",
    "Please describe the background.",
    "Which colours are there?",
)


def generated(model: str, device: torch.device, dtype: torch.dtype) -> Loaded:
    """A published checkpoint's modules with weights by chance, and the nano's tokenizer."""
    one = published(model)
    if one is None:
        raise ValueError(f"{model} is not among the published checkpoints.")
    config = sizes_of(one)
    torch.manual_seed(0)
    with device:
        modules = in_format(Sa2VA(config).eval().requires_grad_(False), dtype)
    tokenizer = load_tokenizer(NANO_FOLDER, config.image_token)
    modules.mllm.image_token_id = tokenizer.image_id
    return Loaded(config, modules, tokenizer, load_chat(NANO_FOLDER, config), "generated")


def first_tokens(
    runtime: Sa2vaRuntime, pictures: Sequence[NDArray[np.uint8]], questions: Sequence[str]
) -> list[float]:
    """Seconds from each question, asked one after another about the same pictures, to its first token."""
    key = ("benchmark", len(pictures))
    return [_first_token(runtime, pictures, key, question) for question in questions]


def _first_token(
    runtime: Sa2vaRuntime, pictures: Sequence[NDArray[np.uint8]], key: tuple[str, int], question: str
) -> float:
    came: list[float] = []
    began = time.perf_counter()
    seen = runtime.recall(key)
    if seen is None:
        seen = runtime.look(pictures, video=True, key=key)
    # A token has come once its number is known, which on a GPU waits for the work.
    runtime.answer(
        chat_question(question),
        seen,
        max_new_tokens=1,
        on_token=lambda count: came.append(time.perf_counter()),
    )
    return came[0] - began


def measure(runtime: Sa2vaRuntime) -> dict[str, Any]:
    """Questions about a video of five key frames; the ratio is that of the first to the second."""
    with runtime.at_work():
        # Another video first, so that what a process does only once is behind it.
        first_tokens(runtime, Frames(2).pictures, QUESTIONS[:1])
        runtime.cache.clear()
        seconds = first_tokens(runtime, Frames(KEY_FRAMES).pictures, QUESTIONS)
    return {
        "model": runtime.name,
        "dtype": runtime.facts.dtype,
        "key_frames": KEY_FRAMES,
        "first_token_s": [round(each, 4) for each in seconds],
        "ratio": round(seconds[0] / seconds[1], 2),
    }


def main() -> None:
    """`python -m benchmarks.questions`: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL, help="a published checkpoint of the InternVL family")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    wish = parser.parse_args()
    device = torch.device(wish.device)
    dtype = wish.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    loaded = generated(wish.model, device, getattr(torch, dtype))
    runtime = Sa2vaRuntime(loaded, wish.model, devices=(device,), cache_bytes=CACHE_BYTES)
    json.dump(measure(runtime), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
