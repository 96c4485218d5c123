"""The exam: its cases are fair, its pieces add up to rows, and the shipped nano passes a short one."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from sa2va_tools.engine.loading import load_engine
from sa2va_tools.errors import RequestError
from sa2va_tools.evaluation.metrics import Interval, mean_iou
from sa2va_tools.media.media import open_media
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.nano.exam.cases import EXAM_SEED, ClipFrames, Examiner, Exercise, sample_cases
from sa2va_tools.nano.exam.evaluate import (
    NanoReport,
    Piece,
    Row,
    answer_piece,
    cut_exam,
    evaluate_nano,
    load_runtime,
    score_rows,
)
from sa2va_tools.nano.exam.foreign import evaluate_foreign_files, sample_absent_name, sample_foreign_clip
from sa2va_tools.nano.exam.marking import ALL_QUESTIONS, PARTS
from sa2va_tools.nano.world.scenes import is_held_out
from sa2va_tools.run import Run


@pytest.fixture(scope="module")
def runtime():
    return load_runtime(NANO_FOLDER)


@pytest.mark.parametrize(
    "exercise", [Exercise("refer"), Exercise("refer", 16), Exercise("refer", 20, crossing=True)]
)
def test_held_out_cases_ask_about_held_out_objects(exercise):
    cases = list(sample_cases(exercise, "test", 15))
    assert sum(len(case.turns) for case in cases) == 15
    for case in cases:
        for turn in case.turns:
            assert is_held_out(case.clip.objects[turn.segments[0]])


def test_crossing_cases_ask_different_questions_and_show_crossings():
    cases = list(sample_cases(Exercise("refer", 20, crossing=True), "test", 24))
    assert any(len(case.turns) == 3 for case in cases)
    assert all(len({turn.question for turn in case.turns}) == len(case.turns) for case in cases)
    for case in cases:
        clip = case.clip
        visible = np.stack([clip.masks_thw(i).sum((1, 2)) for i in range(len(clip.objects))], 1)
        assert (visible < 0.5 * clip.areas_tn).any()


def test_an_exercise_of_one_kind_asks_nothing_else():
    cases = sample_cases(Exercise("attribute", kind="shape"), "train", 6)
    assert {case.turn.kind for case in cases} == {"shape"}


def test_cases_repeat_with_the_seed():
    one, two, other = (
        [case.turn.question for case in sample_cases(Exercise("refer"), "train", 8, seed)]
        for seed in (EXAM_SEED, EXAM_SEED, EXAM_SEED + 1)
    )
    assert one == two != other


def test_clip_frames_are_read_by_position():
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert [int(frame[0, 0, 0]) for frame in ClipFrames(frames).frames([1, 3])] == [1, 3]


_PREFIXES = ("mask from a", "referring video, mode")  # of several rows each


def test_every_part_of_the_exam_gives_values(runtime):
    pieces = [piece for piece in cut_exam(1) if piece.split == "test"]
    assert len(pieces) == len(PARTS)
    answered = {piece: answer_piece(runtime, piece, EXAM_SEED, Run()) for piece in pieces}
    assert all(any(values.values()) for values in answered.values())
    rows = score_rows(answered)
    assert all(0 <= row.score.value <= 1 and row.split == "test" for row in rows)
    names = {row.ability for row in rows}
    assert {part.name for part in PARTS if part.name not in _PREFIXES} | {ALL_QUESTIONS} <= names


def test_weights_with_other_held_out_pairs_are_refused(tmp_path):
    for file in NANO_FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["held_out_pairs"] = [["red", "circle"]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=r"red.*circle"):
        evaluate_nano(tmp_path, n=1, foreign=0)


def test_pieces_cover_the_exam_once():
    pieces = cut_exam(120)
    assert len(set(pieces)) == len(pieces)
    for part in range(len(PARTS)):
        counts = {
            split: sum(p.count for p in pieces if (p.part, p.split) == (part, split))
            for split in ("test", "train")
        }
        assert counts == {"test": 120, "train": 40}


def test_rows_do_not_depend_on_the_order_of_pieces():
    values = {(0, 0): [1.0, 0.0], (0, 1): [0.0], (1, 0): [1.0]}
    answered = {
        Piece(part, "test", chunk, len(some)): {(f"part {part}", "exact"): some}
        for (part, chunk), some in values.items()
    }
    backwards = dict(reversed(answered.items()))
    assert score_rows(answered) == score_rows(backwards)
    assert [row.score.value for row in score_rows(answered)] == [pytest.approx(1 / 3), 1.0]


def test_the_shipped_nano_finds_most_objects_of_a_short_exam(runtime):
    cases = sample_cases(Exercise("refer"), "test", 24, EXAM_SEED + 1)
    with runtime.session(Run()) as session:
        values = PARTS[0].mark_all(Examiner(session), cases)
    assert mean_iou(values[PARTS[0].name, "gIoU"]) > 0.5


def test_foreign_clips_show_what_they_say(tmp_path):
    clip = sample_foreign_clip(random.Random(4))
    path = tmp_path / "clip.mp4"
    clip.write(path)
    height, width = clip.frames_thwc.shape[1:3]
    assert open_media(path).size_wh == (width, height)
    for obj, masks in zip(clip.objects, clip.masks_nthw, strict=True):
        shown = clip.frames_thwc[0][masks[0]].astype(float).mean(0)
        assert np.abs(shown - obj.rgb).max() < 25
    assert sample_absent_name(random.Random(0), clip) not in {obj.name for obj in clip.objects}


def test_the_nano_is_examined_on_foreign_files_too(tmp_path):
    with load_engine("nano", store_dir=tmp_path) as engine:
        scores = evaluate_foreign_files(engine, count=2)
    assert set(scores) == {"mean IoU", "presence", "count"}
    assert all(score.count == 2 for score in scores.values())


def test_the_shipped_nano_is_small():
    assert sum(file.stat().st_size for file in NANO_FOLDER.iterdir()) < 10e6


def test_a_report_is_a_table_or_json():
    score = Interval(0.5, 0.4, 0.6, 20)
    report = NanoReport(
        rows=(Row("count, image", "test", "exact", score),),
        speeds=(("frames/s", 12.5),),
        revision="abc",
        megabytes=5.8,
        seed=7,
        n=40,
    )
    assert "| count, image | exact | 0.500 [0.400, 0.600] n=20 | – |" in report.to_text()
    data = json.loads(report.to_json())
    assert data["rows"][0]["score"]["count"] == 20 and data["speeds"] == {"frames/s": 12.5}
