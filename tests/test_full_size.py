"""SAM-2's Hiera-L at its full size against the published code's outputs: minutes, and 3 GB of memory.

The weights are made by the golden data's own recipe, by parameter name.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sa2va_tools.model.config import GroundingConfig
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.preprocess import grounding_pixels
from sa2va_tools.model.propagation import Propagator
from sa2va_tools.model.sam2_keys import SAM2_KEY_RULES

GOLDEN = Path(os.environ.get("SA2VA_GOLDEN") or Path(__file__).parents[1].parent / "shared" / "golden")
FOLDER = GOLDEN / "full_hiera_l"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not FOLDER.is_dir(), reason="golden data is not beside the checkout: full_hiera_l"),
]
TIGHT, MEMORY_BFLOAT16 = 1e-4, 2e-2


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("golden_recipe", GOLDEN / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def grounding(recipe):
    shapes = json.loads((FOLDER / "upstream_keys.json").read_text(encoding="utf-8"))
    keys, state, stacks = KeyMap(SAM2_KEY_RULES), {}, {}
    for name, shape in shapes.items():
        placement, tensor = keys.place(name), torch.from_numpy(recipe.weight(name, shape))
        if placement.parts > 1:
            stacks.setdefault(placement.native[0], {})[placement.part] = tensor
        else:
            state |= {
                native.removeprefix("grounding."): piece for native, piece in placement.pieces(tensor).items()
            }
    for native, rows in stacks.items():
        state[native.removeprefix("grounding.")] = torch.cat([rows[part] for part in sorted(rows)])
    modules = Sam2Grounding(GroundingConfig())
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

    def key_of(self, position):
        return None

    def frames(self, positions):
        return (self.pictures[position] for position in positions)


@torch.inference_mode()
def test_features_of_the_first_frame(grounding, recipe, expected):
    pixels = grounding_pixels(Clip(recipe).pictures, 1024)
    np.testing.assert_array_equal(pixels[:, :, ::16, ::16], expected["grounding_pixels_stride16"])
    features = grounding.encode(torch.from_numpy(pixels[:1]))
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
def test_masks_of_three_frames(grounding, recipe, expected, dtype, name, remembered):
    propagator = Propagator(grounding, gate=False, memory_dtype=dtype)
    propagator.logits_of = {}
    prompt = torch.from_numpy(expected["language_embd"][:1])
    frames = list(propagator.language(Clip(recipe), (0,), prompt))
    assert [frame.position for frame in frames] == [0, 1, 2]
    assert propagator.encoder_passes == 3
    logits = torch.stack([propagator.logits_of[at][0] for at in range(3)]).numpy()
    off = np.abs(logits[:, ::4, ::4] - expected[f"pred_masks_low_{name}"]).max((1, 2))
    assert off[0] <= TIGHT
    assert off[1:].max() <= remembered
    mean_std = np.stack([logits.mean((1, 2)), logits.std((1, 2))], 1)
    np.testing.assert_allclose(mean_std, expected[f"pred_masks_low_{name}_mean_std"], atol=2e-3)
