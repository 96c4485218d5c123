"""What a caller hears while the embedded model writes."""

from __future__ import annotations

import pytest

from sa2va_tools import Region, Run, Settings, load_engine
from sa2va_tools.errors import CancelledError


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with load_engine(settings=Settings(store_dir=tmp_path_factory.mktemp("store"))) as loaded:
        yield loaded


def writing(heard):
    return [report for report in heard if report.stage == "answer"]


@pytest.mark.parametrize("call", ["describe", "ground"])
def test_the_text_grows_to_the_answer(engine, clip, call):
    heard = []
    result = getattr(engine, call)(clip, run=Run(heard.append))
    texts = [report.text for report in writing(heard)]
    assert all(result.text.startswith(text) for text in texts)
    assert texts[-1] == result.text and len(set(texts)) > 3
    assert writing(heard)[4].message == "writing the answer, 5 tokens"
    assert all(report.text is None for report in heard if report.stage != "answer")


def test_each_caption_has_its_own_text(engine, clip):
    heard = []
    regions = [Region(box_xyxy=(10, 10, 60, 60)), Region(box_xyxy=(50, 20, 90, 60))]
    result = engine.caption_region(clip, regions, run=Run(heard.append))
    last = {report.message[:24]: report.text for report in writing(heard)}
    assert list(last) == ["writing the answer 1 of ", "writing the answer 2 of "]
    assert list(last.values()) == [caption.text for caption in result.captions]


def test_several_expressions_are_written_together_and_told_as_one(engine, clip):
    heard = []
    wanted = ["the red square", "the blue circle", "the yellow star"]
    together = engine.segment(clip, wanted, run=Run(heard.append))
    alone = [engine.segment(clip, expression).answers[0] for expression in wanted]
    assert list(together.answers) == alone
    reports = writing(heard)
    assert reports[1].message == "writing 3 answers, 6 tokens" and reports[1].text is None
    assert [report.done for report in reports] == sorted(report.done for report in reports)


def test_segmenting_several_stops_when_told_and_works_afterwards(engine, clip):
    heard = []

    def on_progress(report):
        if report.stage == "answer":
            heard.append(report)
            run.cancel()

    run = Run(on_progress)
    with pytest.raises(CancelledError):
        engine.segment(clip, ["the red square", "the blue circle"], run=run)
    assert len(heard) == 1
    assert len(engine.segment(clip, ["the red square", "the blue circle"]).objects) == 2
