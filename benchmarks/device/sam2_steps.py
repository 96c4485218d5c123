"""The limits of a device, and the steps of SAM-2 on it, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.attention import attend_to_all, make_memory
from benchmarks.device.timing import measure_device_ms, measure_launch_ms
from benchmarks.encoder import count_frame_flops, measure_product_tflops
from benchmarks.measuring import MIB
from benchmarks.models import draw_pixels
from sa2va_tools.model.sam2.compiling import compile_image_encoder
from sa2va_tools.model.sam2.modules import Sam2

Row = dict[str, Any]


def measure_limits(device: torch.device) -> Row:
    """What the device reaches in matrix products, copies, uploads and launches."""
    count = 2**28 if device.type == "cuda" else 2**20
    numbers, other = torch.zeros(2, count, device=device)
    tiny = torch.zeros(1, device=device)
    copy_ms = measure_device_ms(lambda: other.copy_(numbers), device)
    launch_ms = measure_launch_ms(lambda: [tiny.add_(1) for _ in range(200)], device)
    row = {
        "float32_tflops": round(measure_product_tflops(device, torch.float32, repeats=3), 2),
        "copy_gb_per_s": round(2 * numbers.nbytes / copy_ms / 1e6, 1),
        "us_per_launch": round(1000 * launch_ms / 200, 2),
    }
    if numbers.is_cuda:  # minutes on a CPU that has no instructions for it
        row["bfloat16_tflops"] = round(measure_product_tflops(device, torch.bfloat16, repeats=5), 2)
    for name, pin in (("upload_gb_per_s", False), ("pinned_upload_gb_per_s", True)):
        frames = torch.zeros(25 * MIB, dtype=torch.uint8, pin_memory=pin and numbers.is_cuda)
        upload_ms = measure_device_ms(partial(frames.to, device, copy=True), device)
        row[name] = round(frames.nbytes / upload_ms / 1e6, 1)
    return row


@torch.inference_mode()
def measure_encoder(sam2: Sam2, batches: Sequence[int]) -> list[Row]:
    """The image encoder in batches of several sizes."""
    device = sam2.no_object_pointer.device
    flops = count_frame_flops(sam2)
    rows = []
    for batch in batches:
        encode = partial(sam2.encode, draw_pixels(sam2, batch))
        device_ms = measure_device_ms(encode, device)
        rows.append(
            {
                "batch": batch,
                "ms_per_frame": round(device_ms / batch, 3),
                "launch_ms_per_frame": round(measure_launch_ms(encode, device) / batch, 3),
                "tflops": round(flops * batch / device_ms / 1e9, 3),
            }
        )
    return rows


def measure_compiled_encoder(sam2: Sam2, batch: int) -> list[Row]:
    """The same after torch.compile; the modules stay compiled."""
    began = time.perf_counter()
    compile_image_encoder(sam2, batch)
    seconds = round(time.perf_counter() - began, 1)
    return [row | {"compiled_in_s": seconds} for row in measure_encoder(sam2, [batch])]


@torch.inference_mode()
def measure_tracked_frame(sam2: Sam2, objects: int) -> Row:
    """Milliseconds of each step of a frame late in a clip: on the device, and to launch."""
    device = sam2.no_object_pointer.device
    features, prediction, memory = make_memory(sam2, objects)
    attend = attend_to_all(sam2, features, memory)
    embedded = attend()
    candidates = sam2.decode(features, embedded, sam2.empty_prompt(objects))

    def track_frame() -> None:
        found = sam2.decode(features, attend(), sam2.empty_prompt(objects))
        sam2.encode_memory(features, sam2.select_best_mask(found, gate=True), torch.bfloat16)

    steps: dict[str, Callable[[], object]] = {
        "attend": attend,
        "decode": lambda: sam2.decode(features, embedded, sam2.empty_prompt(objects)),
        "select": lambda: sam2.select_best_mask(candidates, gate=True),
        "remember": lambda: sam2.encode_memory(features, prediction, torch.bfloat16),
        "frame": track_frame,
    }
    row: Row = {"objects": objects}
    for name, work in steps.items():
        row[f"{name}_ms"] = measure_device_ms(work, device)
        row[f"{name}_launch_ms"] = measure_launch_ms(work, device)
    return row
