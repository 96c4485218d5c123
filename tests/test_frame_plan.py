"""Which frames the language model sees, on which frames masks begin, and the warning about late objects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.frame_plan import FramePlan, plan_description, plan_masks
from sa2va_tools.engine.options import DescribeOptions, SegmentOptions
from sa2va_tools.media.media import open_media
from sa2va_tools.model.checkpoints.config_file import read_config
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.run import Run
from sa2va_tools.testing import synthetic_clip

CONFIG = read_config(NANO_FOLDER)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return open_media(synthetic_clip(tmp_path_factory.mktemp("media") / "clip.mp4", frames=100))


@pytest.fixture
def clip(video):
    """Every second of 100 frames, so 50."""
    return Clip(video, tuple(range(0, 100, 2)), Run())


@pytest.mark.parametrize(
    ("positions", "mode", "warned"),
    [
        (range(5), "sa2va", "only the first 5 of 50 frames (up to frame 8)"),
        ([0], "sa2va", "only the first 1 of 50 frames (up to frame 0)"),
        ([0, 24, 49], "sa2va", None),
        (range(50), "sa2va", None),
        (range(5), "chat", None),
        (range(5), "sa2va-i", None),
    ],
)
def test_a_model_that_sees_only_the_beginning_is_warned_about(clip, positions, mode, warned):
    first = FramePlan(mode, (49,), (0,), ("another",))
    warnings = first.with_llm_positions(tuple(positions), clip).warnings
    assert warnings[0] == "another"
    assert len(warnings) == 1 + bool(warned)
    assert not warned or warned in warnings[1]


def test_other_frames_bring_their_own_warning(clip):
    plan = FramePlan("sa2va", (), (0,)).with_llm_positions(tuple(range(20)), clip)
    assert "first 20 of 50" in plan.warnings[0]
    assert "first 10 of 50" in plan.with_llm_positions(tuple(range(10)), clip).warnings[0]
    assert plan.with_llm_positions((0, 20, 49), clip).warnings == ()


def test_published_mode_begins_with_the_first_frames_and_sa2va_i_spreads_them(clip):
    published = plan_masks(replace(CONFIG, prompt_frames=5), clip, SegmentOptions(mode="sa2va"))
    assert published.llm_positions == published.prompt_positions == (0, 1, 2, 3, 4)
    spread = plan_masks(CONFIG, clip, SegmentOptions(mode="sa2va-i", llm_frames=3))
    assert spread.llm_positions == spread.prompt_positions == (0, 24, 49)
    assert any("second mask decoder" in warning for warning in spread.warnings)


def test_a_checkpoint_that_sees_more_frames_than_masks_begin_on(clip):
    """5 frames with prompts, more for the language model."""
    config = replace(CONFIG, llm_frames=10, prompt_frames=5)
    plan = plan_masks(config, clip, SegmentOptions())
    assert plan.prompt_positions == (0, 1, 2, 3, 4) and len(plan.llm_positions) == 10
    assert plan.warnings == ()
    asked = plan_masks(config, clip, SegmentOptions(llm_frames=4))
    assert asked.llm_positions == asked.prompt_positions == (0, 1, 2, 3)


def test_a_description_sees_the_whole_clip_and_begins_no_masks(clip):
    plan = plan_description(CONFIG, clip, DescribeOptions(llm_frames=3))
    assert (plan.mode, plan.llm_positions, plan.prompt_positions) == ("chat", (0, 24, 49), ())
