"""SAM-2's image encoder alone: floating-point operations per second, and what share of the limit that is."""

from __future__ import annotations

import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import chip_tflops, device_name
from benchmarks.measuring import timed
from sa2va_tools.model.compiling import compile_encoder_of
from sa2va_tools.model.grounding import Sam2Grounding

_PRODUCT_SIDE = {False: 2048, True: 8192}
"""Of matrices large enough to keep a CPU, or a GPU (True), busy."""


def frame_flops(grounding: Sam2Grounding) -> int:
    """Operations (a multiplication and an addition are two) that one frame costs."""
    # Not every fused attention is known to the counter; as plain products it is, at the same count.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        grounding.encode(_pixels(grounding, 1))
    total: int = counter.get_total_flops()
    return total


def encoder_speed(
    grounding: Sam2Grounding, *, batch: int, repeats: int = 5, compiled: bool = False
) -> dict[str, float | str]:
    """The median of some runs of one batch; `share_of_product` is of what a large matrix product reaches just
    after; `share_of_chip` only where the chip's published peak for this number format is known. `compiled`
    compiles the encoder first (RequestError where torch cannot), for good."""
    parameter = grounding.no_object_pointer
    device, pixels = parameter.device, _pixels(grounding, batch)
    flops = frame_flops(grounding)
    warm_up_s = timed(lambda: compile_encoder_of(grounding, batch), device) if compiled else 0.0
    with torch.inference_mode():
        grounding.encode(pixels)
        seconds = statistics.median(timed(lambda: grounding.encode(pixels), device) for _ in range(repeats))
    tflops = flops * batch / seconds / 1e12
    made: dict[str, float | str] = {
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "batch": batch,
        "gflop_per_frame": round(flops / 1e9, 3),
        "seconds_per_frame": round(seconds / batch, 5),
        "tflops": round(tflops, 4),
        "share_of_product": round(tflops / product_tflops(device, parameter.dtype, repeats=repeats), 3),
    }
    if compiled:
        made["warm_up_s"] = round(warm_up_s, 1)
    peak = chip_tflops(device_name(device)) if device.type == "cuda" else None
    if peak is not None and parameter.dtype == torch.bfloat16:
        made["share_of_chip"] = round(tflops / peak, 3)
    return made


def product_tflops(device: torch.device, dtype: torch.dtype, *, repeats: int) -> float:
    """What the device reaches where it is at its best: the median of some products of square matrices."""
    side = _PRODUCT_SIDE[device.type == "cuda"]
    one, other = torch.rand(2, side, side, device=device).to(dtype)
    torch.mm(one, other)
    seconds = statistics.median(timed(lambda: torch.mm(one, other), device) for _ in range(repeats))
    return 2 * side**3 / seconds / 1e12


def _pixels(grounding: Sam2Grounding, batch: int) -> torch.Tensor:
    parameter, side = grounding.no_object_pointer, grounding.config.image_size
    made = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    return made.to(parameter.device, parameter.dtype)
