"""The check for GPUs works without one: its parts on small models, and the run as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from golden_data import HERE
from replay import Case

from benchmarks.device.__main__ import Check, PartPlan
from benchmarks.device.launches import count_launches
from benchmarks.device.parity import compare_case, find_excesses
from benchmarks.device.part import Part
from benchmarks.device.sam2_clips import RepeatingClip
from benchmarks.device.visual_tokens import (
    ModuleRecorder,
    compare_visual_tokens,
    disable_cudnn,
    disable_tf32,
    find_differing_modules,
)
from benchmarks.measuring import ROOT
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime

CPU = torch.device("cpu")
GOLDEN = HERE / "internvl_qwen2"


@pytest.fixture
def part(tmp_path):
    return Part("speed", tmp_path, CPU, quick=False, rehearse=True)


def test_a_part_that_fails_or_hangs_does_not_stop_the_others(tmp_path):
    hangs = PartPlan("part", 0.01, timed=True)
    plans = [PartPlan("missing", 60, timed=False), PartPlan("timing", 600, timed=True), hangs]
    assert Check(tmp_path, quick=True, rehearse=False).run(plans) == ["missing", "part"]
    statuses = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert statuses == {"missing": {"status": 1}, "timing": {"status": 0}, "part": {"status": 124}}
    assert "No module named benchmarks.device.missing" in (tmp_path / "missing.log").read_text()


def test_a_step_that_fails_is_told_and_the_next_one_runs(part, tmp_path, capsys):
    part.step("first", lambda: 1 // 0)
    part.step("second", lambda: [{"ms": 2.5}])
    assert part.finish() == 1
    figures = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert "ZeroDivisionError" in figures["first"]["error"] and figures["second"] == [{"ms": 2.5}]
    assert 'second: {"ms": 2.5}' in capsys.readouterr().out


def test_a_part_whose_steps_end_well_has_status_0(part):
    part.step("only", dict)
    assert part.finish() == 0


@pytest.mark.parametrize("name", ["image_region", "video_short"])
def test_a_golden_case_is_within_its_limits(name):
    runtime = Sa2vaRuntime.load(GOLDEN / "checkpoint", device="cpu", dtype="float32")
    row = compare_case(runtime, Case(GOLDEN, name))
    assert {"visual_tokens", "seg_prompts", "prompted_logits", "different_pixels"} <= set(row)
    assert find_excesses([row]) == []


def test_excesses_are_of_float32_alone():
    row = {"case": "a", "dtype": "float32", "same_tokens": False, "visual_tokens": 2.5e-2, "seg_prompts": 0.0}
    assert find_excesses([row]) == ["a: other tokens", "a: visual_tokens 2.5e-02, allowed 1e-04"]
    assert find_excesses([row | {"dtype": "bfloat16"}]) == []


def test_visual_tokens_of_a_cpu_are_the_published_ones_in_every_variant():
    rows = compare_visual_tokens(GOLDEN, ["text_only", "image_greedy", "video_short"], CPU)
    variants, modules = rows[:-2], rows[-2:]
    assert len({row["variant"] for row in variants}) == len(variants) == 4
    assert max(max(row["image"], row["video"]) for row in variants) < 1e-4
    assert [row["modules that differ from the CPU's"] for row in modules] == [[], []]


def test_the_module_at_which_a_difference_begins_is_named():
    torch.manual_seed(0)
    modules = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4)).eval()
    calls = []
    for change in (0.0, 0.5):
        with torch.no_grad():
            modules[2].bias += change
        recorder = ModuleRecorder()
        with recorder.record(modules):
            modules(torch.ones(1, 4))
        calls.append(recorder.calls)
    first = find_differing_modules(calls[1], calls[0])[0]
    assert first["module"] == "2" and first["input"] == 0.0 and first["output"] > 1e-4


def test_switches_are_set_back():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def read():
        precise = (matmul.fp32_precision, cudnn.conv.fp32_precision) if hasattr(cudnn, "conv") else ()
        return cudnn.enabled, precise

    before = read()
    with disable_cudnn(), disable_tf32():
        assert not cudnn.enabled and read() != before
    assert read() == before


def test_launches_are_counted_without_views_and_attention_is_one():
    query = torch.empty(1, 2, 8, 16, device="meta")
    attend = torch.nn.functional.scaled_dot_product_attention
    assert count_launches(lambda: (query + query).transpose(0, 1)) == 1
    assert count_launches(lambda: attend(query, query, query)) == 1
    with pytest.raises(RuntimeError, match="meta"):
        count_launches(lambda: query + torch.ones(16))
    with pytest.raises(RuntimeError, match="item"):
        count_launches(lambda: bool(query.sum() > 0))


def test_a_repeating_clip_is_long_and_has_few_pictures():
    clip = RepeatingClip(100)
    assert len(clip) == 100 and len(clip.pictures) == 16
    first, second = clip.frames([3, 19])
    assert first is second


@pytest.mark.slow
def test_a_rehearsal_ends_well(tmp_path):
    command = [sys.executable, "-m", "benchmarks.device", "--out", str(tmp_path)]
    environment = {**os.environ, "REHEARSE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0
    figures = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert all(part["status"] == 0 and len(part) > 1 for part in figures.values())
