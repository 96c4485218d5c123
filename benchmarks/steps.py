"""What is measured of each size, on the device that there is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.attention import measure_attention
from benchmarks.encoder import measure_compiled_encoder, measure_encoder
from benchmarks.long_video import measure_long_video
from benchmarks.measuring import run_module
from benchmarks.models import Size, build_sam2
from benchmarks.precision import measure_precision
from benchmarks.propagation import measure_propagation
from benchmarks.rounding import measure_rounding
from benchmarks.scaling import QUICK, Extent, measure_scaling
from sa2va_tools.errors import RequestError
from sa2va_tools.model.device.placement import choose_batch_sizes, choose_precision

_FULL = {"nano": ((24,), (60, 240)), "hiera-l": ((12, 32), (12, 32))}
_SHORT = {"nano": ((6,), (6,)), "hiera-l": ((2,), (2,))}
"""Frames of the clips that go both ways, and of those whose memory is compared."""

Steps = dict[str, Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the benchmarks."""

    size: Size
    device: torch.device
    quick: bool
    frames: Sequence[int] = ()
    """Of the clips that go both ways; empty takes the usual numbers."""

    @property
    def small(self) -> bool:
        return self.size == "nano"

    @property
    def is_fast(self) -> bool:
        """Otherwise a frame takes many seconds."""
        return self.small or self.device.type == "cuda"

    @property
    def compared_frames(self) -> Sequence[int]:
        """Frames of the clips that go both ways."""
        usual, _ = (_SHORT if self.quick else _FULL)[self.size]
        return self.frames or (usual if self.is_fast else usual[:1])

    @property
    def memory_frames(self) -> Sequence[int]:
        """Frames of the clips whose memory is compared."""
        _, usual = (_SHORT if self.quick else _FULL)[self.size]
        return usual if self.is_fast else usual[:1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the modules alone: what models of full size have on such a device."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def steps(self) -> Steps:
        """What there is to measure, in order."""
        steps: Steps = {
            "propagation": self._measure_propagation,
            "encoder": self._measure_encoder,
            "attention": self._measure_attention,
        }
        device = str(self.device)
        if self.small:
            steps["precision"] = lambda: measure_precision(device, clips=4 if self.quick else 16)
            steps["scaling"] = lambda: measure_scaling(QUICK if self.quick else Extent(), device)
            steps["long_video"] = lambda: measure_long_video(0.1 if self.quick else 10.0, device)
            return steps
        steps["rounding"] = lambda: measure_rounding(build_sam2(self.size, self.device, torch.float32))
        if not self.quick:
            steps["first_tokens"] = lambda: run_module("benchmarks.first_tokens", f"--device={device}")
            steps["expressions"] = self._measure_expressions
        return steps

    def _measure_propagation(self) -> dict[str, Any]:
        return measure_propagation(
            self.size,
            self.device,
            "float32",
            frames=self.compared_frames,
            memory_frames=self.memory_frames,
        )

    def _measure_encoder(self) -> list[dict[str, Any]]:
        repeats = 7 if self.is_fast and not self.quick else 3
        batch = choose_batch_sizes(self.device, small=self.small).frames
        chosen = choose_precision("auto", self.device, small=self.small).image_encoder
        rows = [
            measure_encoder(build_sam2(self.size, self.device, dtype), batch=batch, repeats=repeats)
            for dtype in dict.fromkeys((torch.float32, self.dtype, chosen))
        ]
        if self.quick:
            return rows
        sam2 = build_sam2(self.size, self.device, chosen)
        try:
            rows.append(measure_compiled_encoder(sam2, batch=batch, repeats=repeats))
        except RequestError as error:  # no compiler here
            print(error, file=sys.stderr)
        return rows

    def _measure_attention(self) -> list[dict[str, Any]]:
        chosen = choose_precision("auto", self.device, small=self.small).memory_attention
        sam2 = build_sam2(self.size, self.device, self.dtype)
        return [measure_attention(sam2, product_dtype=each) for each in dict.fromkeys((self.dtype, chosen))]

    def _measure_expressions(self) -> list[dict[str, Any]]:
        return [
            run_module("benchmarks.expressions", f"--device={self.device}", f"--frames={count}")
            for count in self.compared_frames
        ]
