"""How fast a model was is known to the next process, and to nobody's harm."""

from __future__ import annotations

import pytest

from sa2va_tools import Engine, Settings
from sa2va_tools.engine.speed_notes import SpeedNotes


def plans(engine, clip):
    told = []
    engine.segment(
        clip, "the red square", on_progress=lambda p: told.append(p) if p.stage == "plan" else None
    )
    return [report.message for report in told]


def test_the_first_estimate_of_a_process_knows_the_seconds_of_the_one_before(clip, tmp_path):
    settings = Settings(device="cpu", store_dir=tmp_path)
    with Engine.load(settings=settings) as engine:
        assert "about" not in plans(engine, clip)[0]
    with Engine.load(settings=settings) as engine:
        assert " s, " in plans(engine, clip)[0] and "about" in plans(engine, clip)[0]
    with Engine.load(settings=settings.model_copy(update={"encoder_dtype": "bfloat16"})) as engine:
        assert "about" not in plans(engine, clip)[0], "that is another speed"


def test_walks_are_kept_by_model(tmp_path):
    notes = SpeedNotes(tmp_path / "store")
    assert notes.of("one") == []
    notes.keep("one", [(8, 16, 2.5)])
    notes.keep("other", [(1, 1, 0.5)])
    assert SpeedNotes(tmp_path / "store").of("one") == [(8, 16, 2.5)]
    for number in range(40):
        notes.keep(f"model {number}", [(1, 1, 1.0)])
    assert notes.of("one") == [] and notes.of("model 39")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[1]", '{"a": 1}', '{"a": [[1]]}', '{"a": [[1e999, 1, 1]]}', '{"a": [[null, 1, 1]]}'],
)
def test_a_file_that_is_none_of_ours_is_replaced(tmp_path, text):
    (tmp_path / "speed.json").write_text(text, encoding="utf-8")
    notes = SpeedNotes(tmp_path)
    assert notes.of("one") == []
    notes.keep("one", [(1, 2, 3.0)])
    assert notes.of("one") == [(1, 2, 3.0)]


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "store").write_text("a file", encoding="utf-8")
    notes = SpeedNotes(tmp_path / "store")
    notes.keep("one", [(1, 2, 3.0)])
    assert notes.of("one") == []
