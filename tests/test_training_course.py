"""The whole course: a smoke run improves every loss and leaves a model that answers; what is logged is
drawn; wishes that cannot be are refused."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sa2va_tools import Engine, Settings
from sa2va_tools.errors import MissingExtraError, RequestError
from sa2va_tools.progress import Progress
from sa2va_tools.training.config import STAGES
from sa2va_tools.training.curves import Curve, Fall, fall_of, loss_falls, plot_curves, read_run
from sa2va_tools.training.nano import TrainedNano, train_nano

SMOKE_LIMIT_S = 60
FALLING = {
    "grounding": ("loss", "image_bce"),
    "vision": ("loss", "place_error", "fine_loss", "centre_loss"),
    "language": ("loss", "text", "video_text", "place_error", "video_place_error"),
    "practice": ("loss", "text", "video_text"),
    "review": ("loss", "text", "video_text"),
    "drill": ("loss", "text", "video_text"),
    "joint": ("loss", "text", "video_text", "place_error", "video_place_error"),
}


@pytest.fixture(scope="module")
def smoked(tmp_path_factory) -> tuple[TrainedNano, float]:
    """A smoke run, and the seconds of processor time that it took."""
    began = time.process_time()
    trained = train_nano(tmp_path_factory.mktemp("smoke"), smoke=True, device="cpu")
    return trained, time.process_time() - began


def answers(checkpoint: Path, folder: Path) -> None:
    """A freshly trained model knows little, but it loads, answers and points like any other."""
    picture = folder / "picture.png"
    cv2.imwrite(str(picture), np.full((96, 128, 3), 200, np.uint8))
    settings = Settings(model=str(checkpoint), device="cpu", store_dir=folder / "store")
    with Engine.load(settings=settings) as engine:
        assert engine.segment(picture, ["red circle"]).objects
        assert engine.describe(picture, "What is in the image?").provenance.device == "cpu"


@pytest.mark.parametrize("stage", STAGES)
def test_a_smoke_run_improves_every_loss(smoked, stage):
    curves = read_run(smoked[0].run)[stage]
    falls = {name: fall_of(curves[name]) for name in FALLING[stage]}
    assert not {name: fall for name, fall in falls.items() if not fall.last < fall.first}
    assert smoked[0].losses[stage] == falls["loss"]


def test_a_smoke_run_takes_no_longer_than_promised(smoked):
    assert smoked[1] < SMOKE_LIMIT_S


def test_a_smoke_run_leaves_a_model_that_answers(smoked, tmp_path):
    answers(smoked[0].checkpoint, tmp_path)


def test_a_run_keeps_a_picture_of_its_curves(smoked):
    picture = cv2.imread(str(smoked[0].run / "curves.png"))
    assert picture.shape[0] > 800 and picture.shape[1] > 1000
    assert len(np.unique(picture.astype(np.int32) @ (1, 256, 65536))) > 50


def test_a_finished_run_is_not_trained_again(smoked, tmp_path):
    weights = smoked[0].checkpoint / "model.safetensors"
    before, reports = weights.read_bytes(), []
    train_nano(smoked[0].run.parent, smoke=True, device="cpu", on_progress=reports.append)
    assert weights.read_bytes() == before and not reports


def test_a_run_goes_on_by_its_own_recipe_only(smoked):
    with pytest.raises(RequestError, match="seed 0, not 1"):
        train_nano(smoked[0].run.parent, smoke=True, device="cpu", seed=1)


# ---- curves ---------------------------------------------------------------------------------------


@pytest.fixture
def logged(tmp_path) -> Path:
    rows = [f"{step},{step / 2},{name},{value}" for step, name, value in points()]
    (tmp_path / "vision.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def points() -> Iterator[tuple[int, str, float]]:
    for k in range(1, 10):
        yield 25 * k, "loss", 10 / k
        yield 25 * k, "shape_right", k / 10


def test_curves_are_read_as_they_were_logged(logged):
    curves = read_run(logged)["vision"]
    assert curves["shape_right"] == Curve([25 * k for k in range(1, 10)], [k / 10 for k in range(1, 10)])
    assert fall_of(curves["loss"]) == loss_falls(logged)["vision"]


def test_a_fall_is_from_the_first_to_the_last_third():
    assert fall_of(Curve([1, 2, 3, 4, 5, 6], [9, 7, 100, 100, 2, 4])) == Fall(8, 3)
    assert fall_of(Curve([1], [5])) == Fall(5, 5)


def test_each_stage_has_a_row_in_the_picture(logged):
    plot_curves(logged, logged / "one.png")
    (logged / "joint.csv").write_text((logged / "vision.csv").read_text())
    plot_curves(logged, logged / "two.png")
    one, two = (cv2.imread(str(logged / name)) for name in ("one.png", "two.png"))
    assert two.shape == (2 * one.shape[0], *one.shape[1:])


def test_a_folder_without_logs_is_refused(tmp_path):
    with pytest.raises(RequestError, match="logged"):
        plot_curves(tmp_path, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"sa2va-tools\[train\]"):
        train_nano(tmp_path / "out", smoke=True, device="cpu")
    assert not list(tmp_path.iterdir())


# ---- wishes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, -1, float("nan")])
def test_a_share_that_leaves_no_steps_is_refused(tmp_path, share):
    with pytest.raises(RequestError, match="no steps"):
        train_nano(tmp_path / "out", share=share, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_smoke_run_takes_no_share(tmp_path):
    with pytest.raises(RequestError, match="not both"):
        train_nano(tmp_path, smoke=True, share=0.1, device="cpu")


def test_a_device_that_cannot_train_is_refused(tmp_path):
    with pytest.raises(RequestError, match="'mps'"):
        train_nano(tmp_path, device="mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestError, match="'cuda' is not available"):
        train_nano(tmp_path, device="cuda")


def test_the_command_line_says_what_is_wrong_with_a_share(run):
    refused = run("train", "nano", "--share", "0", "--device", "cpu")
    assert refused.exit_code == 2 and "leaves no steps" in refused.stderr


# ---- longer ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_short_course_in_processes_of_its_own(tmp_path):
    """Whole batches, always new ones, and a joint stage in two processes."""
    stages: list[Progress] = []
    trained = train_nano(tmp_path, share=0.01, device="cpu", workers=2, on_progress=stages.append)
    assert {report.stage for report in stages} == set(STAGES)
    falls = dict(trained.losses)
    del falls["joint"]  # of ever other tasks, and slow: twenty steps of it show that it runs, and no more
    assert not {stage: fall for stage, fall in falls.items() if not fall.last < fall.first}
    curves = read_run(trained.run)
    assert fall_of(curves["joint"]["text"]).last < 0.5 * fall_of(curves["language"]["text"]).first
    answers(trained.checkpoint, tmp_path)
