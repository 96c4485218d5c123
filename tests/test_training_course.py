"""The nano's whole training: a smoke run lowers every loss and leaves a model that answers; logs are plotted;
impossible arguments are refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sa2va_tools import load_engine
from sa2va_tools.errors import MissingExtraError, RequestError
from sa2va_tools.nano.course.stages import STAGES
from sa2va_tools.nano.course.train import TrainedNano, train_nano
from sa2va_tools.run import Progress, Run
from sa2va_tools.training.stage_log import (
    Change,
    Curve,
    compare_thirds,
    plot_curves,
    read_loss_changes,
    read_stages,
)

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
def smoke_run(tmp_path_factory) -> TrainedNano:
    return train_nano(tmp_path_factory.mktemp("smoke"), smoke=True, device="cpu")


def check_that_it_answers(checkpoint: Path, folder: Path) -> None:
    """A freshly trained model knows little, but it loads, answers and points like any other."""
    picture = folder / "picture.png"
    cv2.imwrite(str(picture), np.full((96, 128, 3), 200, np.uint8))
    with load_engine(checkpoint, device="cpu", store_dir=folder / "store") as engine:
        assert engine.segment(picture, ["red circle"]).objects
        assert engine.describe(picture, "What is in the image?").provenance.device == "cpu"


@pytest.mark.parametrize("stage", STAGES)
def test_a_smoke_run_lowers_every_loss(smoke_run, stage):
    curves = read_stages(smoke_run.run, STAGES)[stage]
    changes = {name: compare_thirds(curves[name]) for name in FALLING[stage]}
    assert not {name: each for name, each in changes.items() if not each.last < each.first}
    assert smoke_run.losses[stage] == changes["loss"]


def test_a_smoke_run_leaves_a_model_that_answers(smoke_run, tmp_path):
    check_that_it_answers(smoke_run.checkpoint, tmp_path)


def test_a_run_leaves_a_picture_of_its_curves(smoke_run):
    picture = cv2.imread(str(smoke_run.run / "curves.png"))
    assert picture.shape[0] > 800 and picture.shape[1] > 1000
    assert len(np.unique(picture.astype(np.int32) @ (1, 256, 65536))) > 50


def test_a_finished_run_is_not_trained_again(smoke_run):
    weights = smoke_run.checkpoint / "model.safetensors"
    before = weights.read_bytes()
    reports: list[Progress] = []
    train_nano(smoke_run.run.parent, smoke=True, device="cpu", run=Run(reports.append))
    assert weights.read_bytes() == before and not reports


def test_a_run_resumes_with_its_own_recipe_only(smoke_run):
    with pytest.raises(RequestError, match="seed 0, not 1"):
        train_nano(smoke_run.run.parent, smoke=True, device="cpu", seed=1)


# ---- curves ---------------------------------------------------------------------------------------


@pytest.fixture
def logs(tmp_path) -> Path:
    rows = [f"{step},{step / 2},{name},{value}" for step, name, value in points()]
    (tmp_path / "vision.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def points() -> Iterator[tuple[int, str, float]]:
    for k in range(1, 10):
        yield 25 * k, "loss", 10 / k
        yield 25 * k, "shape_accuracy", k / 10


def test_curves_are_read_as_they_were_logged(logs):
    curves = read_stages(logs, STAGES)["vision"]
    steps = [25 * k for k in range(1, 10)]
    assert curves["shape_accuracy"] == Curve(steps, [k / 10 for k in range(1, 10)])
    assert read_loss_changes(logs, STAGES) == {"vision": compare_thirds(curves["loss"])}


def test_the_first_third_is_compared_with_the_last():
    assert compare_thirds(Curve([1, 2, 3, 4, 5, 6], [9, 7, 100, 100, 2, 4])) == Change(8, 3)
    assert compare_thirds(Curve([1], [5])) == Change(5, 5)


def test_each_stage_has_a_row_in_the_picture(logs):
    plot_curves(logs, STAGES, logs / "one.png")
    (logs / "joint.csv").write_text((logs / "vision.csv").read_text())
    plot_curves(logs, STAGES, logs / "two.png")
    one, two = (cv2.imread(str(logs / name)) for name in ("one.png", "two.png"))
    assert two.shape == (2 * one.shape[0], *one.shape[1:])


def test_a_folder_without_logs_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no log"):
        plot_curves(tmp_path, STAGES, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"sa2va-tools\[train\]"):
        train_nano(tmp_path / "out", smoke=True, device="cpu")
    assert not list(tmp_path.iterdir())


# ---- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, -1, float("nan")])
def test_a_share_that_leaves_no_steps_is_refused(tmp_path, share):
    with pytest.raises(RequestError, match="no steps"):
        train_nano(tmp_path / "out", share=share, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_smoke_run_takes_no_share(tmp_path):
    with pytest.raises(RequestError, match="cannot be given"):
        train_nano(tmp_path, smoke=True, share=0.1, device="cpu")


def test_an_impossible_number_of_workers_is_refused(tmp_path):
    with pytest.raises(RequestError, match="0 processes"):
        train_nano(tmp_path, workers=0, device="cpu")


def test_a_device_that_cannot_train_is_refused(tmp_path):
    with pytest.raises(RequestError, match="'mps'"):
        train_nano(tmp_path, device="mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_available_is_refused(tmp_path):
    with pytest.raises(RequestError, match="'cuda' is not available"):
        train_nano(tmp_path, device="cuda")


def test_the_command_line_explains_a_wrong_share(run):
    refused = run("train", "nano", "--share", "0", "--device", "cpu")
    assert refused.exit_code == 2 and "leaves no steps" in refused.stderr


# ---- longer ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_short_training_in_several_processes(tmp_path):
    """Full batches, always new ones, and the last stages in two processes."""
    reports: list[Progress] = []
    trained = train_nano(tmp_path, share=0.01, device="cpu", workers=2, run=Run(reports.append))
    assert {report.stage for report in reports} == set(STAGES)
    changes = dict(trained.losses)
    del changes["joint"]  # its tasks alternate and its rate is low: twenty steps only show that it runs
    assert not {stage: each for stage, each in changes.items() if not each.last < each.first}
    curves = read_stages(trained.run, STAGES)
    first = compare_thirds(curves["language"]["text"]).first
    assert compare_thirds(curves["joint"]["text"]).last < 0.5 * first
    check_that_it_answers(trained.checkpoint, tmp_path)
