"""Estimates of memory against what was measured."""

from __future__ import annotations

import pytest

from sa2va_tools.errors import OutOfMemoryError
from sa2va_tools.model.checkpoints.memory_estimate import Work, estimate_memory, require_working_memory
from sa2va_tools.model.hub.published import find_published, make_published_config

MIB = 2**20
SA2VA_4B = make_published_config(find_published("ByteDance/Sa2VA-4B"))


def _sam2_mib(objects, dtype="bfloat16", **work):
    return estimate_memory(SA2VA_4B, dtype, Work(objects=objects, **work), weights=0).sam2 / MIB


@pytest.mark.parametrize(("objects", "measured_mib"), [(5, 1345), (16, 4079)])
def test_an_object_takes_what_was_measured_on_a_gpu(objects, measured_mib):
    """An H200, a full-size SAM-2 in bfloat16, five prompt frames; one object took 352 MiB."""
    measured = (measured_mib - 352) / (objects - 1)
    assert (_sam2_mib(objects) - _sam2_mib(1)) / (objects - 1) == pytest.approx(measured, rel=0.05)


def test_rotating_the_keys_takes_float32_in_every_dtype():
    half, whole = (_sam2_mib(2, dtype) - _sam2_mib(1, dtype) for dtype in ("bfloat16", "float32"))
    assert half < whole < 1.5 * half


def test_more_prompt_frames_and_a_larger_frame_take_more():
    assert _sam2_mib(1, prompt_frames=20) > 1.5 * _sam2_mib(1, prompt_frames=5)
    assert _sam2_mib(1, frame_bytes=8 * MIB) == pytest.approx(_sam2_mib(1) + 8)


def test_work_that_cannot_fit_is_refused_with_the_numbers():
    require_working_memory(SA2VA_4B, 4, None)
    require_working_memory(SA2VA_4B, 4, 2**30)
    with pytest.raises(OutOfMemoryError, match=r"needs about 1\.0 GiB .* 0\.1 GiB is free"):
        require_working_memory(SA2VA_4B, 4, 100 * MIB)
