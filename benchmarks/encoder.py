"""SAM-2's image encoder alone: operations per second, and their share of what the device can do."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import device_name, find_chip_tflops
from benchmarks.measuring import measure_median, measure_seconds
from benchmarks.models import draw_pixels, dtype_name
from sa2va_tools.model.sam2.compiling import compile_image_encoder
from sa2va_tools.model.sam2.modules import Sam2

_CPU_SIDE, _GPU_SIDE = 2048, 8192
"""Of square matrices that are large enough to keep the device busy."""


def count_frame_flops(sam2: Sam2) -> int:
    """Operations that one frame costs; a multiplication and an addition are two."""
    # The counter does not know every fused attention; the plain products have the same count.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        sam2.encode(draw_pixels(sam2, 1))
    total: int = counter.get_total_flops()
    return total


@torch.inference_mode()
def measure_encoder(sam2: Sam2, *, batch: int, repeats: int = 5) -> dict[str, float | str]:
    """The median time of one batch. `share_of_product` is the share of what a large matrix product reaches
    just after; `share_of_chip` is there only if the chip's published peak for this dtype is known."""
    like = sam2.no_object_pointer
    pixels = draw_pixels(sam2, batch)
    flops = count_frame_flops(sam2)
    seconds = measure_median(lambda: sam2.encode(pixels), like.device, repeats)
    tflops = flops * batch / seconds / 1e12
    product_tflops = measure_product_tflops(like.device, like.dtype, repeats=repeats)
    row: dict[str, float | str] = {
        "dtype": dtype_name(like.dtype),
        "batch": batch,
        "gflop_per_frame": round(flops / 1e9, 3),
        "seconds_per_frame": round(seconds / batch, 5),
        "tflops": round(tflops, 4),
        "share_of_product": round(tflops / product_tflops, 3),
    }
    peak = find_chip_tflops(device_name(like.device)) if like.is_cuda else None
    if peak is not None and like.dtype == torch.bfloat16:
        row["share_of_chip"] = round(tflops / peak, 3)
    return row


def measure_compiled_encoder(sam2: Sam2, *, batch: int, repeats: int = 5) -> dict[str, float | str]:
    """The same after torch.compile, with the seconds that this took. The modules stay compiled. RequestError
    if torch cannot compile here."""
    device = sam2.no_object_pointer.device
    warm_up_s = measure_seconds(lambda: compile_image_encoder(sam2, batch), device)
    return measure_encoder(sam2, batch=batch, repeats=repeats) | {"warm_up_s": round(warm_up_s, 1)}


def measure_product_tflops(device: torch.device, dtype: torch.dtype, *, repeats: int) -> float:
    """What the device reaches at its best: in a product of large square matrices."""
    side = _GPU_SIDE if device.type == "cuda" else _CPU_SIDE
    first, second = torch.rand(2, side, side, device=device).to(dtype)
    seconds = measure_median(lambda: torch.mm(first, second), device, repeats)
    return 2 * side**3 / seconds / 1e12
