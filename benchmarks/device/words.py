"""A language model of Sa2VA-4B's sizes on the device, with random weights: image features, the first token, a
token, a second question, several questions at once, and expressions compared to published calls."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.clips import EXPRESSIONS, HD_WH
from benchmarks.device.part import Part
from benchmarks.device.timing import measure_device_use
from benchmarks.expressions import ExpressionComparison
from benchmarks.first_tokens import CACHE_BYTES, LLM_FRAMES, QUESTIONS, TokenTimes, ask
from benchmarks.measuring import engine_conditions, measure_seconds
from benchmarks.models import MemoryClip, build_checkpoint, raise_object_scores
from sa2va_tools.model.checkpoints.loader import LoadedCheckpoint, load_checkpoint
from sa2va_tools.model.hub.names import NANO, NANO_FOLDER
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.model.text.prompts import chat_question
from sa2va_tools.run import Run

MODEL = "ByteDance/Sa2VA-4B"

Pictures = Sequence[NDArray[np.uint8]]
Row = dict[str, Any]


def measure_words(runtime: Sa2vaRuntime, pictures: Pictures, tokens: int) -> list[Row]:
    """Two questions one after another about the same pictures, and five at once about others."""
    device = runtime.checkpoint.modules.sam2.no_object_pointer.device
    ask_once(runtime, pictures[:2], QUESTIONS[0], tokens=3)  # loads kernels
    runtime.cache.clear()
    with runtime.session(Run()) as session:
        encode = partial(session.language.get_image_features, lambda: pictures, video=True)
        features_s = measure_seconds(encode, device)
    return [
        {"what": "image features", "frames": len(pictures), "ms": round(1000 * features_s, 1)},
        {"what": "first question", **ask_once(runtime, pictures, QUESTIONS[0], tokens=tokens)},
        {"what": "second question", **ask_once(runtime, pictures, QUESTIONS[1], tokens=tokens)},
        {"what": "five questions at once", **ask_together(runtime, pictures, tokens=tokens)},
    ]


def ask_once(runtime: Sa2vaRuntime, pictures: Pictures, question: str, *, tokens: int) -> Row:
    """Milliseconds to the first token, features included, and between two tokens."""
    times = TokenTimes()
    with runtime.session(Run(times.note)) as session:
        count = ask(session, pictures, ("words", len(pictures)), question, max_new_tokens=tokens)
    gaps = [later - earlier for earlier, later in pairwise(times.since_start)]
    return {
        "tokens": count,
        "first_token_ms": round(1000 * times.since_start[0], 1),
        "token_ms": round(1000 * statistics.median(gaps), 2) if gaps else None,
    }


def ask_together(runtime: Sa2vaRuntime, pictures: Pictures, *, tokens: int) -> Row:
    """Tokens a second of all answers together, with the time to the first token."""
    questions = [chat_question(question) for question in (*QUESTIONS, "What is red?")]
    times = TokenTimes()
    with runtime.session(Run(times.note)) as session:
        features = session.language.get_image_features(
            lambda: pictures, video=True, key=("words", len(pictures))
        )
        answers = session.language.answer_all(questions, features, max_new_tokens=tokens)
    count = sum(len(answer.token_ids) for answer in answers)
    return {"tokens": count, "tokens_per_s": round(count / times.since_start[-1], 1)}


def measure_use(runtime: Sa2vaRuntime, pictures: Pictures) -> Row:
    """How busy a CUDA device is while nine tokens are written."""
    device = runtime.checkpoint.modules.sam2.no_object_pointer.device
    write = partial(ask_once, runtime, pictures, QUESTIONS[2], tokens=9)
    return measure_device_use(write, device)


def compare_expressions(checkpoint: LoadedCheckpoint, device: torch.device, frames: int, count: int) -> Row:
    """Several expressions in one call, and a published call for each."""
    raise_object_scores(checkpoint.modules.sam2)
    comparison = ExpressionComparison(checkpoint, device)
    comparison.measure(MemoryClip(1), EXPRESSIONS[:1], published=1)  # what is computed only once
    return comparison.measure(MemoryClip(frames), EXPRESSIONS[:count], published=1)


def main() -> int:
    """`python -m benchmarks.device.words --out DIR`."""
    part = Part.from_command_line("words", __doc__)
    name = NANO if part.rehearse else MODEL
    if part.rehearse:
        checkpoint = load_checkpoint(NANO_FOLDER, devices=(part.device,), dtype=torch.float32, run=Run())
    else:
        checkpoint = build_checkpoint(MODEL, part.device, torch.bfloat16)
    runtime = Sa2vaRuntime(checkpoint, name, devices=(part.device,), cache_bytes=CACHE_BYTES)
    pictures = MemoryClip(LLM_FRAMES, HD_WH[::-1]).pictures
    extent = (6, 2) if part.rehearse else (12, 5) if part.quick else (32, 5)
    with engine_conditions(part.device, small=part.rehearse):
        part.step("words", partial(measure_words, runtime, pictures, 8 if part.rehearse else 64))
        if part.on_gpu and not part.quick:
            part.step("use of the device", partial(measure_use, runtime, pictures))
        # The last step, because it makes the model answer [SEG] to everything.
        part.step("expressions", partial(compare_expressions, checkpoint, part.device, *extent))
    return part.finish()


if __name__ == "__main__":
    sys.exit(main())
