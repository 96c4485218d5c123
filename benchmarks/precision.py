"""What bfloat16 costs: the nano's masks compared to those in float32, and to the truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measuring import default_device, engine_conditions, print_json
from benchmarks.models import apply_precision
from sa2va_tools.evaluation.metrics import measure_overlap
from sa2va_tools.evaluation.video_metrics import score_track
from sa2va_tools.model.device.placement import Precision
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.nano.exam.cases import CLIP_FRAMES, LONG_FRAMES, Case, ClipFrames, Exercise, sample_cases
from sa2va_tools.run import Run

_SEED = "approximations"
_EXACT = "float32"
_PRECISIONS = {
    _EXACT: Precision(torch.float32, torch.float32, torch.float32),
    "image encoder bfloat16": Precision(torch.float32, torch.bfloat16, torch.float32),
    "all modules bfloat16": Precision(torch.bfloat16, torch.bfloat16, torch.bfloat16),
}
_LARGE_ON_CPU = {
    "image encoder and memory attention bfloat16": Precision(torch.float32, torch.bfloat16, torch.bfloat16)
}
"""What the engine chooses for models of full size on a CPU that multiplies bfloat16."""


@dataclass(frozen=True, slots=True)
class Track:
    """One object of a clip with its prompt embedding (1, C), which is the same for all precisions."""

    case: Case
    thing: int
    prompt: NDArray[np.float32]


def measure_precision(device: str, clips: int) -> list[dict[str, float | str]]:
    """Rows for short clips and for long ones, with that many questions each."""
    precisions = dict(_PRECISIONS)
    if torch.device(device).type == "cpu":
        precisions |= _LARGE_ON_CPU
    runtimes = {name: _load_nano(device, precision) for name, precision in precisions.items()}
    return [row for frames in (CLIP_FRAMES, LONG_FRAMES) for row in _compare(runtimes, frames, clips)]


def _load_nano(device: str, precision: Precision) -> Sa2vaRuntime:
    runtime = Sa2vaRuntime.load(NANO_FOLDER, device=device, dtype=str(precision.modules).partition(".")[2])
    apply_precision(runtime.checkpoint.modules.sam2, precision)
    return runtime


def _compare(runtimes: dict[str, Sa2vaRuntime], frames: int, clips: int) -> Iterator[dict[str, float | str]]:
    """One row for each precision."""
    tracks = find_tracks(runtimes[_EXACT], frames, clips)
    exact = [track_masks(runtimes[_EXACT], track) for track in tracks]
    for name, runtime in runtimes.items():
        ours = exact if name == _EXACT else [track_masks(runtime, track) for track in tracks]
        ious = [measure_overlap(mine, other).iou for mine, other in zip(ours, exact, strict=True)]
        qualities = [
            score_track(masks, track.case.clip.masks_thw(track.thing)).j_and_f
            for masks, track in zip(ours, tracks, strict=True)
        ]
        yield {
            "variant": name,
            "frames": frames,
            "tracks": len(tracks),
            "iou_with_exact": round(float(np.mean(ious)), 4),
            "worst_iou": round(min(ious), 4),
            "j_and_f": round(float(np.mean(qualities)), 4),
        }


def find_tracks(runtime: Sa2vaRuntime, frames: int, clips: int) -> list[Track]:
    """Questions about scenes like those of training, if the model answers with a mask."""
    exercise = Exercise("refer", frames, crossing=frames == LONG_FRAMES)
    tracks = []
    with runtime.session(Run()) as session:
        for case in sample_cases(exercise, "train", clips, _SEED):
            pictures = case.clip.frames_thwc
            positions = np.linspace(0, len(pictures) - 1, runtime.config.llm_frames).astype(int)
            shown = [pictures[position] for position in positions]
            features = session.language.get_image_features(partial(list, shown), video=True)
            for turn in case.turns:
                answer = session.language.answer(turn.question, features, max_new_tokens=20)
                if len(answer.seg_prompts):
                    tracks.append(Track(case, turn.segments[0], answer.seg_prompts[:1]))
    return tracks


def track_masks(runtime: Sa2vaRuntime, track: Track) -> NDArray[np.bool_]:
    """(T, S, S)"""
    source = ClipFrames(track.case.clip.frames_thwc)
    masks_thw = np.zeros_like(track.case.clip.ids_thw, bool)
    with runtime.session(Run()) as session:
        for frame in session.masks.track_words(source, track.prompt):
            masks_thw[frame.position] = frame.masks[0]
    return masks_thw


def main() -> None:
    """`python -m benchmarks.precision`: prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=60, help="questions of each length")
    parser.add_argument("--device", default=default_device())
    arguments = parser.parse_args()
    with engine_conditions(torch.device(arguments.device), small=True):
        rows = measure_precision(arguments.device, arguments.clips)
    print_json(rows)


if __name__ == "__main__":
    main()
