"""Golden cases of the published code, replayed on the device: how much each stage differs.

In float32 a difference above its limit makes the part fail; in bfloat16 the differences are only shown.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.device.full_size import compare_full_size
from benchmarks.device.golden import MEMORY_BFLOAT16, PIXEL_SHARE, TIGHT, golden_data, replay
from benchmarks.device.part import Part
from benchmarks.device.visual_tokens import compare_visual_tokens
from sa2va_tools.model.families.base import ImageFeatures
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime

LIMITS = {
    "visual_tokens": TIGHT,
    "deepstack": TIGHT,
    "seg_prompts": TIGHT,
    "prompted_logits": TIGHT,
    "tracked_logits": MEMORY_BFLOAT16,
    "float32_memory_logits": TIGHT,
    "different_pixels": PIXEL_SHARE,
}

Row = dict[str, Any]


def compare_case(runtime: Sa2vaRuntime, case: Any) -> Row:
    """The largest differences from the published outputs, and whether the generated tokens are equal."""
    row: Row = {"case": f"{case.folder.name}/{case.name}", "dtype": runtime.device_info.dtype}
    with replay.replay(runtime, case) as ours:
        features = ours.image_features()
        if features is not None:
            row |= _compare_features(features, case.arrays)
        answer = ours.answer()
        row["same_tokens"] = list(answer.token_ids) == case.arrays["generated_ids"].tolist()
        if case.facts["n_masks"]:
            row["seg_prompts"] = _difference(answer.seg_prompts, case.arrays["seg_embed"])
            row |= _compare_masks(ours, case)
    return row


def _compare_features(features: ImageFeatures, arrays: dict[str, NDArray[Any]]) -> Row:
    tokens = features.tokens.float().cpu()
    if "vit_embeds_stride8" in arrays:
        return {"visual_tokens": _difference(tokens[:, ::8].numpy(), arrays["vit_embeds_stride8"])}
    row = {"visual_tokens": _difference(tokens[0, ::8].numpy(), arrays["visual_stride8"])}
    if "deepstack_stride16" in arrays:
        deep = np.stack([each[::16].float().cpu().numpy() for each in features.deepstack_features])
        row["deepstack"] = _difference(deep, arrays["deepstack_stride16"])
    return row


def _compare_masks(ours: Any, case: Any) -> Row:
    """Masks from the published prompt embeddings, so that only SAM-2 differs."""
    seg_prompts = case.arrays["seg_embed"].astype(np.float32)
    logits, masks = ours.masks(seg_prompts)
    prompted = sorted(set(ours.keys))
    published = case.arrays["pred_masks_low"]
    pairs = [
        (frame, replay.decode_runs(runs, frame.shape))
        for track, recorded in zip(masks, case.facts["masks"], strict=True)
        for frame, runs in zip(track, recorded["rle"], strict=True)
    ]
    different = sum(int((frame != expected).sum()) for frame, expected in pairs)
    return {
        "prompted_logits": _difference(logits[:, prompted], published[:, prompted]),
        "tracked_logits": _difference(logits, published),
        "different_pixels": different / masks.size,
    }


def _compare_float32_memory(runtime: Sa2vaRuntime, case: Any) -> Row:
    """Logits with memories in float32, which no rounding hides."""
    with replay.replay(runtime, case, torch.float32) as ours:
        logits, _ = ours.masks(case.arrays["seg_embed"].astype(np.float32))
    return {"float32_memory_logits": _difference(logits, case.arrays["pred_masks_low_memfp32"])}


def _difference(ours: NDArray[Any], published: NDArray[Any]) -> float:
    """The largest; infinity for different shapes."""
    if ours.shape != published.shape:
        return float("inf")
    return float(np.abs(ours.astype(np.float32) - published).max()) if ours.size else 0.0


def compare_checkpoint(folder: Path, names: list[str], device: str, dtype: str) -> Iterator[Row]:
    """All cases of one checkpoint, but for those on which the published code failed."""
    runtime = Sa2vaRuntime.load(folder / "checkpoint", device=device, dtype=dtype)
    for name in names:
        case = replay.Case(folder, name)
        if case.raised_upstream:
            continue
        row = compare_case(runtime, case)
        if dtype == "float32" and "pred_masks_low_memfp32" in case.arrays:
            row |= _compare_float32_memory(runtime, case)
        yield row


def find_excesses(rows: list[Row]) -> list[str]:
    """What differs too much in float32, in words."""
    words = []
    for row in rows:
        if row["dtype"] != "float32":
            continue
        if not row["same_tokens"]:
            words.append(f"{row['case']}: other tokens")
        words += [
            f"{row['case']}: {name} {row[name]:.1e}, allowed {limit:.0e}"
            for name, limit in LIMITS.items()
            if row.get(name, 0.0) > limit
        ]
    return words


def main() -> int:
    """`python -m benchmarks.device.parity --out DIR`."""
    part = Part.from_command_line("parity", __doc__)
    cases: dict[Path, list[str]] = defaultdict(list)
    for _, folder, name in golden_data.golden_cases():
        cases[folder].append(name)
    rows: list[Row] = []
    for folder, names in cases.items():
        label = "/".join(folder.parts[-3:])
        for dtype in ("float32",) if part.rehearse else ("float32", "bfloat16"):
            part.step(f"{label} {dtype}", partial(_compare_into, rows, folder, names, part.device, dtype))
        part.step(f"{label} visual tokens", partial(compare_visual_tokens, folder, names, part.device))
    if not part.rehearse and golden_data.find_golden("full_hiera_l") is not None:
        part.step("full size", partial(compare_full_size, part.device))
    part.step("float32 parity", partial(_require_parity, rows))
    return part.finish()


def _compare_into(
    rows: list[Row], folder: Path, names: list[str], device: torch.device, dtype: str
) -> list[Row]:
    new = list(compare_checkpoint(folder, names, str(device), dtype))
    rows += new
    return new


def _require_parity(rows: list[Row]) -> str:
    excesses = find_excesses(rows)
    if excesses:
        raise RuntimeError("; ".join(excesses))
    return f"{len(rows)} rows, all float32 ones within their limits"


if __name__ == "__main__":
    sys.exit(main())
