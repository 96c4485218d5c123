"""SAM-2 with Hiera-L at its full size, compared to the published code's outputs. The golden data has a recipe
that makes the weights from the names of the parameters."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.device.golden import MEMORY_BFLOAT16, TIGHT, golden_data
from benchmarks.measuring import engine_conditions
from sa2va_tools.model.config import Sam2Config
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.memory_policy import BatchSizes, MemoryPolicy
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.preprocessing.tiles import sam2_square
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.model.tracking.frame_features import pixels_to_device
from sa2va_tools.model.tracking.key_frame_prompts import LanguagePrompts
from sa2va_tools.model.tracking.tracker import Tracker
from sa2va_tools.run import Run

_FRAMES = 3
_FLOAT32_MEMORY = 5e-4
"""Largest difference of logits that went through memories in float32. 1.5e-4 was seen on an H100 and an H200,
where the logits' standard deviation is 4.1."""
_FEATURES = {"fpn0_frame0_stride32": 32, "fpn1_frame0_stride16": 16, "fpn2_frame0_stride8": 8}

Row = dict[str, Any]


class RecipeClip:
    """The clip that the recipe draws, as a source of frames."""

    def __init__(self, recipe: Any) -> None:
        self.pictures: list[NDArray[np.uint8]] = [recipe.frame(number) for number in range(_FRAMES)]

    def __len__(self) -> int:
        return len(self.pictures)

    def cache_key(self, position: int) -> None:
        return None

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self.pictures[position] for position in positions)


def compare_full_size(device: torch.device) -> list[Row]:
    """Differences of features and mask logits in float32. RuntimeError if one is too large."""
    folder = golden_data.find_golden("full_hiera_l")
    recipe = load_recipe(folder.parent / "recipe.py")
    expected = dict(np.load(folder / "expected.npz"))
    sam2 = build_golden_sam2(folder, recipe).to(device)
    with engine_conditions(device, small=False):
        rows = [_compare_features(sam2, recipe, expected)]
        for dtype, name, limit in (
            (torch.float32, "memfp32", _FLOAT32_MEMORY),
            (torch.bfloat16, "membf16", MEMORY_BFLOAT16),
        ):
            rows.append(_compare_masks(sam2, recipe, expected, dtype, name) | {"limit": limit})
    too_large = [row for row in rows if row["difference"] > row["limit"]]
    if too_large:
        raise RuntimeError(f"full-size SAM-2 differs too much: {too_large}")
    return rows


def load_recipe(file: Path) -> Any:
    """The golden data's module that makes weights and pictures."""
    spec = importlib.util.spec_from_file_location("golden_recipe", file)
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe


def build_golden_sam2(folder: Path, recipe: Any) -> Sam2:
    """Full-size SAM-2 with the recipe's weights, on the CPU."""
    shapes: dict[str, list[int]] = json.loads((folder / "upstream_keys.json").read_text(encoding="utf-8"))
    keys = KeyMap(Sam2.key_rules(stock_decoder=False))
    state: dict[str, torch.Tensor] = {}
    stacks: dict[str, dict[int, torch.Tensor]] = {}
    for name, shape in shapes.items():
        placement, tensor = keys.place(name), torch.from_numpy(recipe.weight(name, shape))
        assert placement is not None
        if placement.parts > 1:
            stacks.setdefault(placement.native[0], {})[placement.part] = tensor
        else:
            state |= placement.pieces(tensor)
    state |= {name: torch.cat([rows[part] for part in sorted(rows)]) for name, rows in stacks.items()}
    sam2 = Sam2(Sam2Config())
    sam2.load_state_dict({name.removeprefix("sam2."): tensor for name, tensor in state.items()})
    return sam2.eval().requires_grad_(False)


@torch.inference_mode()
def _compare_features(sam2: Sam2, recipe: Any, expected: dict[str, NDArray[Any]]) -> Row:
    square = sam2_square(recipe.frame(0), sam2.config.image_size)
    features = sam2.encode(pixels_to_device([square], sam2.no_object_pointer))
    maps = (*features.skips[0], features.top)
    differences = [
        float(np.abs(found[0].permute(1, 2, 0)[::stride, ::stride].cpu().numpy() - expected[name]).max())
        for found, (name, stride) in zip(maps, _FEATURES.items(), strict=True)
    ]
    return {"what": "features of a frame", "difference": max(differences), "limit": TIGHT}


def _compare_masks(
    sam2: Sam2, recipe: Any, expected: dict[str, NDArray[Any]], dtype: torch.dtype, name: str
) -> Row:
    """Logits of three frames, of which two are tracked, with memories in `dtype`."""
    run = Run()
    policy = MemoryPolicy(ByteCache(0), BatchSizes(), run.stats)
    tracker = Tracker(sam2, policy, run, gate=False, memory_dtype=dtype)
    recorded: dict[int, torch.Tensor] = {}
    tracker.recorded_logits = recorded
    prompt = torch.from_numpy(expected["language_embd"][:1]).to(sam2.no_object_pointer)
    for _ in tracker.propagate(RecipeClip(recipe), (0,), LanguagePrompts(prompt)):
        pass
    logits = torch.stack([recorded[position][0] for position in range(_FRAMES)]).numpy()
    difference = np.abs(logits[:, ::4, ::4] - expected[f"pred_masks_low_{name}"]).max()
    return {"what": f"masks, memories in {dtype}", "difference": float(difference)}
