"""The exam: cases are fair, pieces give rows, and the shipped nano passes a short one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sa2va_tools.evaluation.metrics import Interval
from sa2va_tools.evaluation.nano_cases import EXAM_SEED, ClipFrames, exam_cases
from sa2va_tools.evaluation.nano_exam import Exam
from sa2va_tools.evaluation.nano_report import NanoReport, Row
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.progress import CancelToken
from sa2va_tools.training.world import HELD_OUT


@pytest.fixture(scope="module")
def runtime():
    return Sa2vaRuntime.load(NANO_FOLDER, name="nano", device="cpu", threads=1)


@pytest.mark.parametrize("video", [False, True])
def test_held_out_cases_ask_about_held_out_objects(video):
    for case in exam_cases("refer", video=video, split="test", count=15):
        target = case.clip.objects[case.turn.segments[0]]
        assert (target.colour, target.shape) in HELD_OUT
        assert case.truth_thw(case.turn.segments[0]).shape == case.clip.ids_thw.shape


def test_cases_are_the_same_every_time_and_differ_by_seed():
    one, two, other = (
        [case.turn.question for case in exam_cases("refer", video=False, split="train", count=8, seed=seed)]
        for seed in (EXAM_SEED, EXAM_SEED, EXAM_SEED + 1)
    )
    assert one == two != other


def test_clip_frames_come_by_position():
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert [int(frame[0, 0, 0]) for frame in ClipFrames(frames).frames([1, 3])] == [1, 3]


def test_every_piece_of_the_exam_gives_rows(runtime):
    exam = Exam(runtime, 1, EXAM_SEED, CancelToken())
    for name, part in exam.parts()[: len(exam.parts()) // 2]:
        rows = part()
        assert rows, name
        assert all(0 <= row.score.value <= 1 and row.split == "test" for row in rows)


def test_the_shipped_nano_finds_most_objects_of_a_short_exam(runtime):
    rows = Exam(runtime, 24, EXAM_SEED + 1, CancelToken()).refer_image("test", vary=False)
    score = next(row.score for row in rows if row.metric == "gIoU")
    assert score.value > 0.5


def test_the_shipped_nano_is_small():
    assert sum(file.stat().st_size for file in NANO_FOLDER.iterdir()) < 10e6


def test_a_report_reads_as_table_and_as_json():
    score = Interval(0.5, 0.4, 0.6, 20)
    report = NanoReport(
        (Row("count, image", "test", "exact", score),), (("frames/s", 12.5),), "abc", 5.8, 7, 40
    )
    assert "| count, image | exact | 0.500 [0.400, 0.600] n=20 | – |" in report.to_text()
    data = json.loads(report.to_json())
    assert data["rows"][0]["score"]["count"] == 20 and data["speeds"] == {"frames/s": 12.5}
    assert report.score("count, image", "exact") == score
    with pytest.raises(KeyError, match="train"):
        report.score("count, image", "exact", split="train")
