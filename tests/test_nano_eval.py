"""The exam: cases are fair, pieces give rows, and the shipped nano passes a short one."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import RequestError
from sa2va_tools.evaluation.foreign_clips import absent_name, foreign_clip
from sa2va_tools.evaluation.metrics import Interval, mean_iou
from sa2va_tools.evaluation.nano_cases import EXAM_SEED, ClipFrames, Exercise, exam_cases
from sa2va_tools.evaluation.nano_eval import Piece, ask, evaluate_nano, exam_pieces, rows_of
from sa2va_tools.evaluation.nano_exam import PARTS, QUESTIONS, Exam
from sa2va_tools.evaluation.nano_foreign import foreign_exam
from sa2va_tools.evaluation.nano_report import NanoReport, Row
from sa2va_tools.media.media import open_media
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.settings import Settings
from sa2va_tools.training.world import HELD_OUT


@pytest.fixture(scope="module")
def runtime():
    return Sa2vaRuntime.load(NANO_FOLDER, name="nano", device="cpu", threads=1)


@pytest.mark.parametrize(
    "exercise", [Exercise("refer"), Exercise("refer", 16), Exercise("refer", 20, crossing=True)]
)
def test_held_out_cases_ask_about_held_out_objects(exercise):
    cases = list(exam_cases(exercise, "test", 15))
    assert sum(len(case.turns) for case in cases) == 15
    for case in cases:
        for turn in case.turns:
            target = case.clip.objects[turn.segments[0]]
            assert (target.colour, target.shape) in HELD_OUT
            assert case.truth_thw(turn.segments[0]).shape == case.clip.ids_thw.shape


def test_a_clip_of_crossings_asks_different_things_and_shows_crossings():
    cases = list(exam_cases(Exercise("refer", 20, crossing=True), "test", 24))
    assert any(len(case.turns) == 3 for case in cases)
    assert all(len({turn.question for turn in case.turns}) == len(case.turns) for case in cases)
    covered = 0
    for case in cases:
        areas = np.stack([case.truth_thw(i).sum((1, 2)) for i in range(len(case.clip.objects))], 1)
        covered += bool((areas < 0.7 * case.clip.areas_tn).any())
    assert covered > len(cases) / 2


def test_a_kind_narrows_a_task_down():
    cases = exam_cases(Exercise("attribute", kind="shape"), "train", 6)
    assert {case.turn.kind for case in cases} == {"shape"}


def test_cases_are_the_same_every_time_and_differ_by_seed():
    one, two, other = (
        [case.turn.question for case in exam_cases(Exercise("refer"), "train", 8, seed)]
        for seed in (EXAM_SEED, EXAM_SEED, EXAM_SEED + 1)
    )
    assert one == two != other


def test_clip_frames_come_by_position():
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert [int(frame[0, 0, 0]) for frame in ClipFrames(frames).frames([1, 3])] == [1, 3]


_PREFIXES = ("mask from a", "referring video, mode")  # of several rows each


def test_every_part_of_the_exam_gives_values(runtime):
    exam = Exam(runtime)
    pieces = [piece for piece in exam_pieces(1) if piece.split == "test"]
    assert len(pieces) == len(PARTS)
    answered = {piece: ask(exam, piece, EXAM_SEED) for piece in pieces}
    assert all(any(values.values()) for values in answered.values())
    rows = rows_of(answered)
    assert all(0 <= row.score.value <= 1 and row.split == "test" for row in rows)
    names = {row.ability for row in rows}
    assert {part.name for part in PARTS if part.name not in _PREFIXES} | {QUESTIONS} <= names


def test_weights_that_kept_other_pairs_out_are_not_examined(tmp_path):
    for file in NANO_FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["held_out_pairs"] = [["red", "circle"]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=r"red.*circle"):
        evaluate_nano(tmp_path, n=1, foreign=0)


def test_pieces_cover_the_exam_once():
    pieces = exam_pieces(120)
    assert len(set(pieces)) == len(pieces)
    for part in range(len(PARTS)):
        counts = {
            split: sum(p.count for p in pieces if (p.part, p.split) == (part, split))
            for split in ("test", "train")
        }
        assert counts == {"test": 120, "train": 40}


def test_rows_come_out_alike_however_the_exam_was_cut():
    values = {(0, 0): [1.0, 0.0], (0, 1): [0.0], (1, 0): [1.0]}
    answered = {
        Piece(part, "test", chunk, len(some)): {(f"part {part}", "exact"): some}
        for (part, chunk), some in values.items()
    }
    backwards = dict(reversed(answered.items()))
    assert rows_of(answered) == rows_of(backwards)
    assert [row.score.value for row in rows_of(answered)] == [pytest.approx(1 / 3), 1.0]


def test_the_shipped_nano_finds_most_objects_of_a_short_exam(runtime):
    cases = exam_cases(Exercise("refer"), "test", 24, EXAM_SEED + 1)
    values = Exam(runtime).refer_image("short", cases)
    assert mean_iou(values["short", "gIoU"]) > 0.5


def test_files_of_another_renderer_are_what_they_say(tmp_path):
    clip = foreign_clip(random.Random(4))
    path = tmp_path / "clip.mp4"
    clip.write(path)
    height, width = clip.frames_thwc.shape[1:3]
    assert open_media(path).size_wh == (width, height)
    for thing, masks in zip(clip.objects, clip.masks_nthw, strict=True):
        shown = clip.frames_thwc[0][masks[0]].astype(float).mean(0)
        assert np.abs(shown - thing.rgb).max() < 25
    assert absent_name(random.Random(0), clip) not in {thing.name for thing in clip.objects}


def test_the_nano_is_examined_on_foreign_files_too(tmp_path):
    with Engine.load("nano", settings=Settings(store_dir=tmp_path)) as engine:
        rows = foreign_exam(engine, count=2)
    assert {row.metric for row in rows} == {"mean IoU", "presence", "count"}
    assert all(row.score.count == 2 for row in rows)


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
