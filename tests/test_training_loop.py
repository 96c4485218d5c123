"""The loop of a stage: it logs, saves, stops and resumes; and the same seed gives the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from sa2va_tools.errors import CancelledError, RequestError, Sa2vaError
from sa2va_tools.nano.course.nano_model import build_nano
from sa2va_tools.nano.course.stages import STAGES, NanoRecipe, TrainingJob, run_all
from sa2va_tools.run import Progress, Run
from sa2va_tools.training.device import single_thread
from sa2va_tools.training.loop import StageLoop, StagePlan
from sa2va_tools.training.stage_log import StageLog, read_curves

TINY = replace(
    NanoRecipe(workers=1, batch_share=0.01),
    grounding_steps=3,
    vision_steps=2,
    language_steps=3,
    practice_steps=2,
    review_steps=2,
    drill_steps=2,
    joint_steps=2,
)
PLAN = StagePlan(name="line", steps=40, seed=3, log_every=10)
POINTS = torch.linspace(-1, 1, 32)[:, None]


def open_loop(folder, module: nn.Module, plan: StagePlan = PLAN, run: Run | None = None) -> StageLoop:
    return StageLoop(
        plan,
        folder,
        modules={"line": module},
        optimizers=[torch.optim.AdamW(module.parameters(), lr=0.05)],
        schedule=lambda progress: 1 - progress,
        run=run or Run(),
    )


def line(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(1, 1)


def fit(loop: StageLoop, module: nn.Module, after_step: Callable[[int], None] = lambda number: None) -> None:
    for step in loop:
        noise = torch.randn(POINTS.shape, generator=step.noise) * step.rng.random()
        loss = (module(POINTS + noise) - 3 * POINTS).square().mean()
        loop.update(loss, {"error": loss})
        after_step(step.number)


def test_a_stage_logs_a_falling_loss_and_saves_its_weights(tmp_path):
    module = line()
    fit(open_loop(tmp_path, module), module)
    curves = read_curves(tmp_path / "line.csv")
    assert curves["error"].steps == [10, 20, 30, 40]
    assert curves["loss"].values[-1] < curves["loss"].values[0]
    again = line(seed=1)
    fit(open_loop(tmp_path, again), again)  # already finished: it loads the saved weights and ends
    assert torch.equal(again.weight, module.weight)
    assert read_curves(tmp_path / "line.csv") == curves
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("save_every_s", [0, 999])
@pytest.mark.parametrize("cancelled", [True, False])
def test_an_interrupted_stage_ends_like_an_uninterrupted_one(tmp_path, cancelled, save_every_s):
    whole, first, second = line(), line(), line()
    fit(open_loop(tmp_path / "whole", whole), whole)
    run = Run()

    def interrupt(number: int) -> None:
        if number == 16 and cancelled:
            run.cancel()
        elif number == 16:
            raise KeyboardInterrupt  # as if the process died: only what was saved before is left

    loop = open_loop(tmp_path / "interrupted", first, replace(PLAN, save_every_s=save_every_s), run)
    with pytest.raises(CancelledError if cancelled else KeyboardInterrupt):
        fit(loop, first, interrupt)
    fit(open_loop(tmp_path / "interrupted", second), second)
    assert torch.equal(second.weight, whole.weight) and torch.equal(second.bias, whole.bias)
    assert read_curves(tmp_path / "interrupted" / "line.csv")["error"].steps == [10, 20, 30, 40]


def test_another_seed_draws_other_numbers(tmp_path):
    values = []
    for seed in (1, 2):
        plan = StagePlan(name="s", steps=2, seed=seed)
        loop = StageLoop(plan, tmp_path / str(seed), modules={}, optimizers=[], schedule=lambda _: 1)
        for step in loop:
            values += [step.rng.random(), float(torch.rand(1, generator=step.noise))]
    assert len(set(values)) == len(values) == 8


def test_batches_are_repeated_on_request(tmp_path):
    loop = open_loop(tmp_path, line(), replace(PLAN, steps=6, repeats_after=3))
    drawn = [step.rng.random() for step in loop]
    assert drawn[:3] == drawn[3:] and len(set(drawn)) == 3


def test_a_scaled_batch_is_never_empty(tmp_path):
    loop = open_loop(tmp_path, line(), replace(PLAN, batch_share=0.25))
    assert (loop.scale_batch(12), loop.scale_batch(5), loop.scale_batch(2, minimum=1)) == (3, 2, 1)
    assert open_loop(tmp_path, line()).scale_batch(12) == 12


def test_a_loss_that_is_not_finite_is_neither_learnt_nor_averaged(tmp_path):
    module = line()
    before = module.weight.clone()
    loop = open_loop(tmp_path, module, replace(PLAN, steps=1))
    for _ in loop:
        loop.update(module(torch.ones(1, 1)).sum() * float("nan"), {})
    assert torch.equal(module.weight, before)
    curves = read_curves(tmp_path / "line.csv")
    assert set(curves) == {"skipped"} and curves["skipped"].values == [1]


def test_a_stage_whose_loss_stays_infinite_stops(tmp_path):
    module = line()
    loop = open_loop(tmp_path, module, replace(PLAN, steps=100))
    with pytest.raises(Sa2vaError, match="not finite in 50 steps"):
        for _ in loop:
            loop.update(module(torch.ones(1, 1)).sum() * float("inf"), {})


def test_a_log_is_cut_back_to_the_saved_step(tmp_path):
    log = StageLog(tmp_path / "stage.csv")
    log.truncate(5)  # there is no file yet
    for step in (5, 10):
        log.add({"loss": step, "skipped": 0.0})
        assert log.write(step, 1.0) == {"loss": step}
    with (tmp_path / "stage.csv").open("a") as file:
        file.write("15,1.0,los")  # cut off by the end of the process
    log.truncate(5)
    assert read_curves(tmp_path / "stage.csv")["loss"].steps == [5]


def test_a_recipe_is_scaled_as_a_whole():
    tenth = NanoRecipe().scale(0.1)
    assert all(tenth.steps_for(s) == pytest.approx(NanoRecipe().steps_for(s) / 10, abs=1) for s in STAGES)
    with pytest.raises(RequestError, match="share"):
        NanoRecipe().scale(0)


def test_the_same_seed_gives_the_same_file_even_after_an_interruption(tmp_path):
    def cancel_in_language(progress: Progress) -> None:
        if (progress.stage, progress.done) == ("language", 1):
            run.cancel()

    run = Run(cancel_in_language)
    whole = TrainingJob(tmp_path / "whole", TINY)
    interrupted = TrainingJob(tmp_path / "interrupted", TINY)
    run_all(whole)
    with pytest.raises(CancelledError):
        run_all(interrupted, run)
    run_all(interrupted)
    one, other = (job.folder / "checkpoint" / "model.safetensors" for job in (whole, interrupted))
    assert one.read_bytes() == other.read_bytes()


def test_training_leaves_the_process_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(1)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    with single_thread():
        assert torch.get_num_threads() == 1
        build_nano(seed=0)
    assert torch.equal(torch.rand(1), expected) and torch.get_num_threads() == threads
