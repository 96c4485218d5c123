"""SAM-2 Hiera-L at full size against outputs of the published code; takes minutes and 3 GB of memory.

The recipe of the golden data makes the weights, by parameter name.
"""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from golden_data import find_golden

from sa2va_tools.model.config import Sam2Config
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.memory_policy import BatchSizes, MemoryPolicy
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.preprocessing.tiles import sam2_pixels
from sa2va_tools.model.sam2.key_rules import sam2_rules
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.model.tracking.key_frame_prompts import LanguagePrompts
from sa2va_tools.model.tracking.tracker import Tracker
from sa2va_tools.run import Run

FOLDER = find_golden("full_hiera_l")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(FOLDER is None, reason="golden data is missing: full_hiera_l"),
]
TIGHT, MEMORY_BFLOAT16 = 1e-4, 2e-2


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("golden_recipe", FOLDER.parent / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sam2(recipe):
    shapes = json.loads((FOLDER / "upstream_keys.json").read_text(encoding="utf-8"))
    keys, state, stacks = KeyMap(sam2_rules()), {}, {}
    for name, shape in shapes.items():
        placement, tensor = keys.place(name), torch.from_numpy(recipe.weight(name, shape))
        if placement.parts > 1:
            stacks.setdefault(placement.native[0], {})[placement.part] = tensor
        else:
            state |= {
                native.removeprefix("sam2."): piece for native, piece in placement.pieces(tensor).items()
            }
    for native, rows in stacks.items():
        state[native.removeprefix("sam2.")] = torch.cat([rows[part] for part in sorted(rows)])
    modules = Sam2(Sam2Config())
    modules.load_state_dict(state)
    return modules.eval()


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(FOLDER / "expected.npz"))


class Clip:
    def __init__(self, recipe):
        self.pictures = [recipe.frame(index) for index in range(3)]

    def __len__(self):
        return len(self.pictures)

    def cache_key(self, position):
        return None

    def frames(self, positions):
        return (self.pictures[position] for position in positions)


@torch.inference_mode()
def test_features_of_the_first_frame(sam2, recipe, expected):
    pixels = sam2_pixels(Clip(recipe).pictures, 1024)
    np.testing.assert_array_equal(pixels[:, :, ::16, ::16], expected["grounding_pixels_stride16"])
    features = sam2.encode(torch.from_numpy(pixels[:1]))
    maps = (*features.skips[0], features.top)
    names = ("fpn0_frame0_stride32", "fpn1_frame0_stride16", "fpn2_frame0_stride8")
    for found, name, stride in zip(maps, names, (32, 16, 8), strict=True):
        ours = found[0].permute(1, 2, 0)[::stride, ::stride].numpy()
        assert np.abs(ours - expected[name]).max() <= TIGHT, name


@torch.inference_mode()
@pytest.mark.parametrize(
    ("dtype", "name", "remembered"),
    [(torch.float32, "memfp32", TIGHT), (torch.bfloat16, "membf16", MEMORY_BFLOAT16)],
)
def test_masks_of_three_frames(sam2, recipe, expected, dtype, name, remembered):
    run = Run()
    policy = MemoryPolicy(ByteCache(0), BatchSizes(), run.stats)
    tracker = Tracker(sam2, policy, run, gate=False, memory_dtype=dtype)
    tracker.recorded_logits = {}
    prompts = LanguagePrompts(torch.from_numpy(expected["language_embd"][:1]), gate=False)
    frames = list(tracker.propagate(Clip(recipe), (0,), prompts))
    assert [frame.position for frame in frames] == [0, 1, 2]
    assert run.stats.encoder_passes == 3
    logits = torch.stack([tracker.recorded_logits[position][0] for position in range(3)]).numpy()
    off = np.abs(logits[:, ::4, ::4] - expected[f"pred_masks_low_{name}"]).max((1, 2))
    assert off[0] <= TIGHT
    assert off[1:].max() <= remembered
    mean_std = np.stack([logits.mean((1, 2)), logits.std((1, 2))], 1)
    np.testing.assert_allclose(mean_std, expected[f"pred_masks_low_{name}_mean_std"], atol=2e-3)
