"""A stage as a loop: it logs, saves, stops and goes on; and the same seed gives the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from sa2va_tools.errors import CancelledError
from sa2va_tools.progress import CancelToken, Progress
from sa2va_tools.training.config import STAGES, NanoRecipe
from sa2va_tools.training.curves import read_curves
from sa2va_tools.training.loop import StageRun
from sa2va_tools.training.nano_stages import Job, build, one_core, run_all

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
POINTS = torch.linspace(-1, 1, 32)[:, None]


def stage(folder, module: nn.Module, steps: int = 40, **options) -> StageRun:
    return StageRun(
        "line",
        folder,
        steps=steps,
        seed=3,
        modules={"line": module},
        optimizers=[torch.optim.AdamW(module.parameters(), lr=0.05)],
        schedule=lambda progress: 1 - progress,
        log_every=10,
        **options,
    )


def line(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(1, 1)


def fit(run: StageRun, module: nn.Module, after_step: Callable[[int], None] = lambda number: None) -> None:
    for step in run:
        noise = torch.randn(POINTS.shape, generator=step.noise) * step.rng.random()
        loss = (module(POINTS + noise) - 3 * POINTS).square().mean()
        run.learn(loss, {"error": loss})
        after_step(step.number)


def test_a_stage_logs_what_fell_and_keeps_its_weights(tmp_path):
    module = line()
    fit(stage(tmp_path, module), module)
    curves = read_curves(tmp_path / "line.csv")
    assert curves["error"].steps == [10, 20, 30, 40]
    assert curves["loss"].values[-1] < curves["loss"].values[0]
    done = line(1)
    fit(stage(tmp_path, done), done)  # all its steps are over: it takes the saved weights and stops
    assert torch.equal(done.weight, module.weight)
    assert read_curves(tmp_path / "line.csv") == curves
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("save_every_s", [0, 999])
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_stage_that_was_broken_off_ends_as_if_it_had_not_been(tmp_path, cancelled, save_every_s):
    whole, first, second = line(), line(), line()
    fit(stage(tmp_path / "whole", whole), whole)
    token = CancelToken()

    def break_off(number: int) -> None:
        if number == 16 and not cancelled:
            raise KeyboardInterrupt  # as when the process dies: only what was saved before is left
        if number == 16:
            token.cancel()

    run = stage(tmp_path / "broken", first, cancel=token, save_every_s=save_every_s)
    with pytest.raises(CancelledError if cancelled else KeyboardInterrupt):
        fit(run, first, break_off)
    fit(stage(tmp_path / "broken", second), second)
    assert torch.equal(second.weight, whole.weight) and torch.equal(second.bias, whole.bias)
    assert read_curves(tmp_path / "broken" / "line.csv")["error"].steps == [10, 20, 30, 40]


def test_another_seed_draws_other_noise(tmp_path):
    draws = {}
    for seed in (1, 2):
        run = StageRun(
            "s", tmp_path / str(seed), steps=2, seed=seed, modules={}, optimizers=[], schedule=lambda _: 1
        )
        draws[seed] = [(step.rng.random(), float(torch.rand(1, generator=step.noise))) for step in run]
    values = [value for pairs in draws.values() for pair in pairs for value in pair]
    assert len(set(values)) == len(values)


def test_batches_come_again_where_asked_for(tmp_path):
    module = line()
    drawn = [step.rng.random() for step in stage(tmp_path, module, steps=6, repeats_after=3)]
    assert drawn[:3] == drawn[3:] and len(set(drawn)) == 3


def test_a_share_of_a_batch_keeps_something(tmp_path):
    run = stage(tmp_path, line(), batch_share=0.25)
    assert (run.share_of(12), run.share_of(5), run.share_of(2, least=1)) == (3, 2, 1)
    assert stage(tmp_path, line()).share_of(12) == 12


def test_a_loss_that_is_not_finite_is_neither_learnt_nor_averaged(tmp_path):
    module = line()
    before = module.weight.clone()
    run = stage(tmp_path, module, steps=1)
    for _ in run:
        run.learn(module(torch.ones(1, 1)).sum() * float("nan"), {})
    assert torch.equal(module.weight, before)
    curves = read_curves(tmp_path / "line.csv")
    assert set(curves) == {"skipped"} and curves["skipped"].values == [1]


def test_a_recipe_is_scaled_as_a_whole():
    tenth = NanoRecipe().scaled(0.1)
    assert all(tenth.steps_of(s) == pytest.approx(NanoRecipe().steps_of(s) / 10, abs=1) for s in STAGES)
    with pytest.raises(ValueError, match="share"):
        NanoRecipe().scaled(0)


def test_the_same_seed_gives_the_same_file_also_when_the_course_was_broken_off(tmp_path):
    token = CancelToken()

    def stop_in_language(progress: Progress) -> None:
        if (progress.stage, progress.done) == ("language", 1):
            token.cancel()

    whole, broken = Job(tmp_path / "whole", TINY), Job(tmp_path / "broken", TINY)
    run_all(whole)
    with pytest.raises(CancelledError):
        run_all(replace(broken, cancel=token, on_progress=stop_in_language))
    run_all(broken)
    files = [(job.folder / "checkpoint" / "model.safetensors").read_bytes() for job in (whole, broken)]
    assert files[0] == files[1]


def test_a_course_leaves_the_process_as_it_was(tmp_path):
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    with one_core():
        assert torch.get_num_threads() == 1
        build(seed=0)
    assert torch.equal(torch.rand(1), expected) and torch.get_num_threads() == threads
