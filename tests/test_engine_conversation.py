"""A later call goes on from an earlier answer, on the embedded model."""

from __future__ import annotations

import pytest

from sa2va_tools import Region, Settings, load_engine
from sa2va_tools.errors import RequestError, UnknownHandleError
from sa2va_tools.model.runtime.language import Language
from sa2va_tools.testing import synthetic_clip


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with load_engine(settings=Settings(store_dir=tmp_path_factory.mktemp("store"))) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def first(engine, clip):
    return engine.segment(clip, "the red square")


@pytest.fixture
def heard(engine, monkeypatch):
    """What the language model was asked: (question, history, number of pictures)."""
    calls = []
    real = Language.answer

    def answer(session, question, features=None, **more):
        calls.append((question, more.get("history", ()), len(features.tiles_per_picture)))
        return real(session, question, features, **more)

    monkeypatch.setattr(Language, "answer", answer)
    return calls


def test_the_first_turn_reaches_the_model_again(engine, clip, first, heard):
    second = engine.segment(clip, "the other one", after=first.handle)
    third = engine.describe(clip, "And what is it?", after=second.handle)
    (asked, history, pictures), (again, longer, pictures_again) = heard
    assert asked == "<image>\nPlease segment the other one."
    assert [turn.question for turn in history] == ["<image>\nPlease segment the red square."]
    assert "[SEG]" in history[0].answer
    assert [turn.question for turn in longer] == [history[0].question, asked]
    assert again == "<image>\nAnd what is it?"
    assert pictures == pictures_again == len(first.provenance.llm_frames)
    assert third.provenance.llm_frames == second.provenance.llm_frames == first.provenance.llm_frames


def test_the_same_question_alone_and_in_a_conversation_are_two_answers(engine, clip, first):
    alone = engine.describe(clip, "Is there a red square?")
    after = engine.describe(clip, "Is there a red square?", after=first.handle)
    assert alone.handle != after.handle


def test_the_frames_of_the_first_turn_must_be_in_the_range(engine, clip, first):
    last = first.objects[0].times_s[-1]
    with pytest.raises(RequestError, match="about frames 0"):
        engine.segment(clip, "the other one", after=first.handle, start_s=last)


def test_what_cannot_be_continued_is_refused(engine, clip, first, tmp_path):
    other = synthetic_clip(tmp_path / "other.mp4", frames=3)
    with pytest.raises(RequestError, match="not about"):
        engine.describe(other, "And here?", after=first.handle)
    caption = engine.caption_region(clip, Region(points_xy=((20, 20),)))
    with pytest.raises(RequestError, match="cannot be continued"):
        engine.describe(clip, "And here?", after=caption.handle)
    with pytest.raises(UnknownHandleError):
        engine.describe(clip, "And here?", after="answer:aaaaaaaaaa")
