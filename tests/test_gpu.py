"""The same answers on CUDA as on the CPU. Run with `make test-gpu`; benchmarks/device checks more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.device.sam2_clips import measure_memory
from benchmarks.measuring import engine_conditions
from benchmarks.models import MemoryClip, build_sam2
from benchmarks.propagation import Comparison, Published
from sa2va_server.cli.demo_scene import EXPRESSIONS, write_demo_clip
from sa2va_tools import load_engine
from sa2va_tools.model.device.memory_policy import BatchSizes

pytestmark = pytest.mark.gpu
PIXELS_THAT_MAY_DIFFER = 0.005
SIZES = BatchSizes(frames=8)


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return torch.device("cuda")


@pytest.fixture
def clip(tmp_path):
    return write_demo_clip(tmp_path / "clip.mp4", frames=16, size_wh=(256, 192))


@pytest.fixture
def engines(cuda, tmp_path):
    """An exact one on each device."""
    names = ("cpu", cuda.type)
    opened = [load_engine("nano", device=name, dtype="float32", store_dir=tmp_path / name) for name in names]
    yield opened
    for engine in opened:
        engine.close()


def test_masks_on_cuda_are_those_of_the_cpu(engines, clip):
    expected, result = (engine.segment(clip, EXPRESSIONS) for engine in engines)
    assert expected.provenance.device == "cpu" and result.provenance.device.startswith("cuda")
    for theirs, ours in zip(expected.objects, result.objects, strict=True):
        assert ours.found and theirs.found
        for frame in ours.track.frame_indices:
            assert np.mean(ours.mask(frame) != theirs.mask(frame)) < PIXELS_THAT_MAY_DIFFER


def test_words_on_cuda_are_those_of_the_cpu(engines, clip):
    expected, result = (engine.describe(clip, "Where is the red circle?") for engine in engines)
    assert result.text == expected.text


def test_both_ways_give_the_same_masks_on_cuda(cuda):
    sam2 = build_sam2("nano", cuda, torch.float32)
    with engine_conditions(cuda, small=True):
        row = Comparison(Published(sam2), SIZES).compare(MemoryClip(12), 3)
    assert row["equal_pixels"] > 0.999 and row["our_passes"] == 12


def test_memory_on_cuda_does_not_grow_with_the_length_of_a_clip(cuda):
    sam2 = build_sam2("nano", cuda, torch.float32)
    with engine_conditions(cuda, small=True):
        rows = measure_memory(sam2, SIZES, (50, 200))
    assert [row["frames"] for row in rows] == [50, 200]
