"""Objects that are added to a result later: as if all had been asked for at once, and nothing done twice."""

from __future__ import annotations

import pytest
from agreement import assert_same_masks, assert_same_object

from sa2va_server.cli.demo_scene import EXPRESSIONS, write_demo_clip
from sa2va_tools import Region, Run, Settings, load_engine
from sa2va_tools.engine import clip as clips
from sa2va_tools.errors import MediaUnreadableError, RequestError, UnknownHandleError
from sa2va_tools.testing import FakeEngine


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_demo_clip(tmp_path_factory.mktemp("media") / "clip.mp4", frames=16, size_wh=(160, 120))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    settings = Settings(device="cpu", store_dir=tmp_path_factory.mktemp("store"), cache_bytes=2**30)
    with load_engine(settings=settings) as engine:
        yield engine


def test_an_extended_result_is_that_of_asking_for_all_at_once(engine, demo):
    one, other = EXPRESSIONS[:2]
    first = engine.segment(demo, one, start_s=0.1, stride=2, threshold=0.6)
    both = engine.extend(first.handle, other)
    at_once = engine.segment(demo, [one, other], start_s=0.1, stride=2, threshold=0.6)
    assert [item.label for item in both.objects] == [one, other]
    assert both.objects[0] == first.objects[0]
    assert both.provenance.encoder_passes == 0 and both.provenance.threshold == 0.6
    for ours, theirs in zip(both.objects, at_once.objects, strict=True):
        assert ours.found
        assert_same_masks(ours.track, theirs.track)
    assert {handle for _, handle, _ in engine.view(both.handle).legend} == {o.handle for o in both.objects}


def test_what_is_there_is_not_asked_for_again(engine, demo):
    one, other = EXPRESSIONS[:2]
    first = engine.segment(demo, one)
    both = engine.extend(first.handle, [one, other])
    assert [item.label for item in both.objects] == [one, other]
    assert any(f'"{one}" is already' in warning for warning in both.warnings)
    with pytest.raises(RequestError, match="already contains all of these"):
        engine.extend(both.handle, [other, one])


def test_an_extension_by_nothing_still_covers_the_frames(engine, demo):
    first = engine.segment(demo, EXPRESSIONS[0])
    more = engine.extend(first.handle, "the pink ring")
    assert [item.found for item in more.objects] == [True, False]
    assert more.provenance.frames == first.provenance.frames > 0


def test_what_was_not_found_stays_in_its_place(engine, demo):
    asked = [EXPRESSIONS[0], "the pink ring", EXPRESSIONS[1]]
    both = engine.extend(engine.segment(demo, asked[:2]).handle, asked[2])
    at_once = engine.segment(demo, asked)
    assert [(item.label, item.found) for item in both.objects] == [
        (item.label, item.found) for item in at_once.objects
    ]
    assert both.answers == at_once.answers and len(both.answers) == 3
    for ours, theirs in zip(both.objects, at_once.objects, strict=True):
        assert_same_object(ours, theirs)
    again = engine.extend(both.handle, "the green heart")
    assert [item.label for item in again.objects] == [*asked, "the green heart"]
    with pytest.raises(RequestError, match="already contains all of these"):
        engine.extend(again.handle, "the pink ring")


def test_a_result_without_masks_can_be_extended(engine, demo):
    nothing = engine.segment(demo, "the pink ring", start_s=0.1, stride=2)
    both = engine.extend(nothing.handle, EXPRESSIONS[0])
    direct = engine.segment(demo, EXPRESSIONS[0], start_s=0.1, stride=2)
    assert [item.found for item in both.objects] == [False, True]
    assert_same_masks(both.objects[1].track, direct.objects[0].track)


def test_a_number_of_the_callers_own_is_no_numbering_of_ours(engine, demo):
    first = engine.segment(demo, f"{EXPRESSIONS[0]} #2")
    assert len(engine.extend(first.handle, EXPRESSIONS[0]).objects) > len(first.objects)


def test_the_frames_that_the_language_model_sees_stay_those_of_the_first_call(engine, demo):
    first = engine.segment(demo, EXPRESSIONS[0], llm_frames=3, mode="sa2va-i")
    both = engine.extend(first.handle, EXPRESSIONS[1])
    at_once = engine.segment(demo, EXPRESSIONS[:2], llm_frames=3, mode="sa2va-i")
    assert both.provenance.prompt_frames == first.provenance.prompt_frames
    assert both.provenance.llm_frames == first.provenance.llm_frames == at_once.provenance.llm_frames
    assert_same_masks(both.objects[1].track, at_once.objects[1].track)


def test_masks_of_another_checkpoint_are_told_apart(engine, demo, monkeypatch):
    first = engine.segment(demo, EXPRESSIONS[0])
    with engine.host.use(Run()) as session:
        monkeypatch.setattr(session.runtime, "revision", "another")
    both = engine.extend(first.handle, EXPRESSIONS[1])
    assert any("not by the model" in warning for warning in both.warnings)


def test_a_part_stays_a_part(engine, tmp_path, monkeypatch):
    clip = write_demo_clip(tmp_path / "clip.mp4", frames=9, size_wh=(160, 112))
    whole = clips.iter_frames

    def breaking(media, frame_indices, **others):
        for index, picture in whole(media, frame_indices, **others):
            if index >= 6:
                raise MediaUnreadableError("Frame 6 cannot be decoded.")
            yield index, picture

    with monkeypatch.context() as context:
        context.setattr(clips, "iter_frames", breaking)
        first = engine.segment(clip, EXPRESSIONS[0])
    both = engine.extend(first.handle, EXPRESSIONS[1])
    assert not first.provenance.complete and not both.provenance.complete
    assert both.objects[1].track.frame_indices == tuple(range(6))
    assert any("does not cover the whole range" in warning for warning in both.warnings)


def test_a_tracked_region_can_be_joined_by_words_and_the_result_extended_again(engine, demo):
    tracked = engine.track(demo, Region(box_xyxy=(20, 20, 60, 60)), frame_index=7)
    twice = engine.extend(engine.extend(tracked.handle, EXPRESSIONS[0]).handle, EXPRESSIONS[1])
    assert len(twice.objects) == 3 and twice.objects[0].handle == tracked.objects[0].handle


def test_what_cannot_be_extended_is_refused(engine, demo):
    told = engine.describe(demo)
    with pytest.raises(RequestError, match="no masks"):
        engine.extend(told.handle, "the circle")
    with pytest.raises(UnknownHandleError):
        engine.extend("answer:0000000000", "the circle")
    first = engine.segment(demo, EXPRESSIONS[0])
    with pytest.raises(RequestError, match="empty"):
        engine.extend(first.handle, " ")


def test_a_fake_engine_extends_too(demo, tmp_path):
    engine = FakeEngine(tmp_path)
    both = engine.extend(engine.segment(demo, "a box").handle, ["a ball"])
    assert [item.label for item in both.objects] == ["a box", "a ball"]
