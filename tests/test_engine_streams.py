"""Videos of odd lengths and times, and what is encoded for whom: each frame once, whoever asks."""

from __future__ import annotations

import pytest
from agreement import assert_same_masks
from media_makers import make_video

from sa2va_tools import Region, Run, Settings, load_engine
from sa2va_tools.errors import RequestError
from sa2va_tools.testing import synthetic_clip

BOX = Region(box_xyxy=(10, 10, 40, 40))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    settings = Settings(device="cpu", store_dir=store, cache_bytes=2**30, reuse_results=False)
    with load_engine(settings=settings) as engine:
        yield engine


@pytest.mark.parametrize("mode", ["sa2va", "sa2va-i"])
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_a_video_with_fewer_frames_than_the_language_model_would_see(engine, tmp_path, frames, mode):
    # Another size for each mode: equal bytes would be recognised and taken from the cache.
    size_wh = (96 if mode == "sa2va" else 104, 64)
    clip = synthetic_clip(tmp_path / "short.mp4", frames=frames, size_wh=size_wh)
    result = engine.segment(clip, "red square", mode=mode, llm_frames=5, gate_by_object_score=False)
    assert result.provenance.llm_frames == tuple(range(frames)) and result.provenance.complete
    (red,) = result.objects
    assert red.found, red.reason
    assert red.track.frame_indices == tuple(range(frames)) and len(red.times_s) == frames
    assert result.provenance.encoder_passes == frames


@pytest.mark.parametrize("frames", [1, 2])
def test_a_very_short_video_is_tracked_and_described(engine, tmp_path, frames):
    clip = synthetic_clip(tmp_path / "short.mp4", frames=frames)
    tracked = engine.track(clip, BOX, frame_index=frames - 1)
    assert tracked.objects[0].track.frame_indices == tuple(range(frames))
    assert engine.describe(clip).text


def test_a_variable_frame_rate_keeps_its_times(engine, tmp_path):
    times_ms = [0, 40, 80, 500, 520, 1500, 1501, 3000]
    clip = make_video(tmp_path / "a.mp4", 8, times_ms=times_ms, options={"bf": "2"})
    tracked = engine.track(clip, BOX, frame_index=3)
    assert tracked.objects[0].times_s == pytest.approx([ms / 1000 for ms in times_ms], abs=1e-4)
    later = engine.track(clip, BOX, start_s=0.5, end_s=1.5)
    assert later.objects[0].track.frame_indices[0] == 3
    assert later.objects[0].times_s[0] == pytest.approx(0.5)


def test_frames_are_encoded_once_whatever_is_asked(engine, tmp_path):
    clip = synthetic_clip(tmp_path / "clip.mp4", frames=12, size_wh=(80, 64))
    first = engine.segment(clip, ["red square", "square", "the red object"])
    assert len(first.objects) == 3
    assert first.provenance.encoder_passes == 12
    again = engine.segment(clip, "the red square moving right")
    tracked = engine.track(clip, BOX, frame_index=6)
    captioned = engine.caption_region(clip, BOX, frame_index=3)
    for result in (again, tracked, captioned):
        assert result.provenance.encoder_passes == 0
    frames = engine.host.cache_counts()["features"]
    assert frames.entries >= 12 and frames.hits >= 24 and frames.bytes > 0


def test_what_a_job_will_take_is_told_before_its_masks_are_made(engine, tmp_path):
    clip, heard = synthetic_clip(tmp_path / "clip.mp4", frames=6, size_wh=(84, 64)), []
    engine.track(clip, BOX, frame_index=2, run=Run(heard.append))
    stages = [report.stage for report in heard]
    assert stages.count("plan") == 1 and stages.index("plan") < stages.index("propagate")
    (plan,) = (report.message for report in heard if report.stage == "plan")
    assert plan.startswith("6 frame(s), 1 object(s)") and plan.endswith(" GiB")


@pytest.mark.parametrize("frame", [0, 7])
def test_a_frame_that_was_pointed_at_is_not_encoded_again(engine, tmp_path, frame):
    clip = synthetic_clip(tmp_path / "clip.mp4", frames=9, size_wh=(88 + 2 * frame, 64))
    engine.caption_region(clip, BOX, frame_index=frame)
    assert engine.track(clip, BOX, frame_index=frame).provenance.encoder_passes == 8


@pytest.mark.parametrize("budget", [0, 2**30])
def test_masks_do_not_depend_on_what_is_kept(engine, tmp_path, budget):
    """With everything kept and asked before, with nothing kept."""
    clip = synthetic_clip(tmp_path / "clip.mp4", frames=14)
    warm = [engine.segment(clip, "red square") for _ in range(2)][1].objects[0].track
    settings = Settings(device="cpu", store_dir=tmp_path / "store", cache_bytes=budget)
    with load_engine(settings=settings) as fresh:
        cold = fresh.segment(clip, "red square").objects[0].track
    assert_same_masks(warm, cold)


def test_frames_that_were_encoded_are_counted_as_misses(clip, tmp_path):
    settings = Settings(device="cpu", store_dir=tmp_path, reuse_results=False)
    with load_engine(settings=settings) as engine:
        first = engine.segment(clip, "the red square", gate_by_object_score=False)
        frames = first.provenance.encoder_passes
        assert engine.host.cache_counts()["features"].misses == frames > 0
        engine.segment(clip, "the red square", gate_by_object_score=False)
        counts = engine.host.cache_counts()["features"]
        assert (counts.misses, counts.hits >= frames) == (frames, True)


def test_a_call_from_inside_of_a_call_is_refused_and_the_engine_works_on(clip, tmp_path):
    refused = []
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path)) as engine:

        def ask(report):
            if report.stage == "look" and not refused:
                with pytest.raises(RequestError, match="would wait for itself") as told:
                    engine.describe(clip)
                with pytest.raises(RequestError, match="would wait for itself"):
                    engine.close()
                refused.append(told.value)

        assert engine.describe(clip, run=Run(ask)).text and refused
        assert engine.describe(clip).text
