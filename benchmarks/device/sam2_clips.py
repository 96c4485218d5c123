"""SAM-2 over whole clips on a device: from memory and from a file, and over the length of a clip."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import HD_WH, write_shapes_clip
from benchmarks.device.timing import measure_device_use
from benchmarks.engine_tracking import EngineTracking
from benchmarks.measuring import MIB, measure_growth
from benchmarks.models import MemoryClip, draw_embeddings
from benchmarks.propagation import Comparison, Published
from benchmarks.reference import PROMPT_FRAMES
from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.tracks import build_tracks, run_to_end
from sa2va_tools.media.media import open_media
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.memory_policy import BatchSizes, MemoryPolicy
from sa2va_tools.model.device.placement import synchronize
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.model.tracking.key_frame_prompts import LanguagePrompts
from sa2va_tools.model.tracking.tracker import Tracker
from sa2va_tools.run import Run

_LARGEST_GROWTH = 1.05
"""Of the peak, from the shortest clip to the longest."""

Row = dict[str, Any]


class RepeatingClip(MemoryClip):
    """A long clip that takes little memory itself: sixteen pictures again and again."""

    def __init__(self, count: int) -> None:
        super().__init__(16)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def cache_key(self, position: int) -> tuple[str, int]:
        return "repeating", position

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self.pictures[position % len(self.pictures)] for position in positions)


def compare_to_published(sam2: Sam2, sizes: BatchSizes, frames: int, objects: Sequence[int]) -> list[Row]:
    """A clip in memory, both ways on the same weights."""
    comparison = Comparison(Published(sam2), sizes, measures_all_objects=False)
    clip = MemoryClip(frames, HD_WH[::-1])
    # The modules are passed as if they were others: in bfloat16 the masks need not be equal.
    return [comparison.compare(clip, count, sam2) for count in objects]


def measure_files(sam2: Sam2, sizes: BatchSizes, frames: int, objects: Sequence[int]) -> list[Row]:
    """What a call does after the words: from a 720p file to run-length encodings."""
    with tempfile.TemporaryDirectory() as folder:
        video = write_shapes_clip(Path(folder), frames, HD_WH)
        _measure_file(sam2, sizes, video, 1)  # loads kernels
        return [_measure_file(sam2, sizes, video, count) for count in objects]


def _measure_file(sam2: Sam2, sizes: BatchSizes, video: Path, objects: int) -> Row:
    """Frames a second, and the CPU's milliseconds a frame in the main thread and in all others."""
    run = Run()
    media = open_media(video)
    clip = Clip(media, tuple(range(media.frame_count)), run)
    tracker = Tracker(sam2, MemoryPolicy(ByteCache(0), sizes, run.stats), run, gate=False)
    prompts = LanguagePrompts(draw_embeddings(sam2, objects))
    began = time.perf_counter()
    main_began = time.thread_time()
    all_began = time.process_time()
    frames = tracker.propagate(clip, range(PROMPT_FRAMES), prompts)
    run_to_end(build_tracks(clip, frames, objects, run))
    synchronize(prompts.embeddings.device)
    seconds = time.perf_counter() - began
    main_s = time.thread_time() - main_began
    other_s = time.process_time() - all_began - main_s
    return {
        "objects": objects,
        "frames": len(clip),
        "frames_per_s": round(len(clip) / seconds, 1),
        "main_thread_ms": round(1000 * main_s / len(clip), 2),
        "other_threads_ms": round(1000 * other_s / len(clip), 2),
    }


def measure_memory(sam2: Sam2, sizes: BatchSizes, frames: Sequence[int]) -> list[Row]:
    """How far the peak rises above the weights while one object is tracked through clips of these lengths. On
    CUDA, RuntimeError if it grows with the length."""
    tracking = EngineTracking(sam2, sizes)
    embeddings = draw_embeddings(sam2, 1)
    tracking.track(RepeatingClip(PROMPT_FRAMES + 1), embeddings)
    rows: list[Row] = []
    for count in frames:
        clip = RepeatingClip(count)
        began = time.perf_counter()
        growth = measure_growth(partial(tracking.track, clip, embeddings), embeddings.device)
        speed = round(count / (time.perf_counter() - began), 1)
        rows.append({"frames": count, "peak_mib": round(growth / MIB, 1), "frames_per_s": speed})
    if embeddings.is_cuda and rows[-1]["peak_mib"] > _LARGEST_GROWTH * rows[0]["peak_mib"]:
        raise RuntimeError(f"memory grows with the length of the clip: {rows}")
    return rows


def measure_use(sam2: Sam2, sizes: BatchSizes, objects: Sequence[int]) -> list[Row]:
    """How busy a CUDA device is while a clip in memory is tracked."""
    tracking = EngineTracking(sam2, sizes)
    clip = MemoryClip(40)
    rows = []
    for count in objects:
        embeddings = draw_embeddings(sam2, count)
        tracking.track(clip, embeddings)
        use = measure_device_use(partial(tracking.track, clip, embeddings), embeddings.device)
        rows.append({"objects": count, "frames": len(clip), **use})
    return rows
