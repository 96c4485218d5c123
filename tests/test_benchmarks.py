"""The benchmarks work, and what they print is what was measured. No time is compared with anything here."""

from __future__ import annotations

import pytest
import torch

from benchmarks import machine, report
from benchmarks.__main__ import publish
from benchmarks.attention import attention_speed
from benchmarks.clips import shapes_clip
from benchmarks.encoder import encoder_speed, frame_flops
from benchmarks.expressions import Compared
from benchmarks.measuring import MIB, growth, run_alone
from benchmarks.models import Frames, grounding_of
from benchmarks.one_call import measure
from benchmarks.overhead import tool_overhead
from benchmarks.parts import parts
from benchmarks.propagation import Published, at_default_precision, compare
from benchmarks.questions import QUESTIONS, first_tokens
from benchmarks.rounding import logit_error
from benchmarks.scaling import Extent, scaling
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.device import Pace
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.memory_product import product_dtype_of
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.testing import FakeEngine

CPU = torch.device("cpu")
ROW = {"frames": 6, "objects": 2}


@pytest.fixture(scope="module")
def grounding():
    return grounding_of("nano", CPU, torch.float32)


@pytest.mark.parametrize(("frames", "objects", "theirs"), [(7, 2, 24), (3, 1, 6), (1, 3, 3)])
def test_both_ways_give_the_same_masks_ours_with_one_pass_a_frame(grounding, frames, objects, theirs):
    found = compare(Published(grounding), Frames(frames, (120, 160)), objects, pace=Pace(batch=4))
    assert (found["reference_passes"], found["our_passes"]) == (theirs, frames)
    assert found["equal_pixels"] == 1 and found["logit_difference"] < 1e-3
    assert found["reference_measured"] == objects


def test_of_several_objects_one_may_go_the_published_way(grounding):
    found = compare(Published(grounding), Frames(3, (120, 160)), 2, pace=Pace(batch=4), whole=False)
    assert (found["reference_measured"], found["reference_passes"]) == (1, 12)


def test_formats_are_compared_where_the_engine_chooses_others(grounding, monkeypatch):
    published, wish = Published(grounding), {"pace": Pace(batch=4), "whole": True}
    assert at_default_precision("nano", published, [6], **wish) == []
    monkeypatch.setattr("benchmarks.propagation.choose_encoder_dtype", lambda *_, **__: torch.bfloat16)
    one, five = at_default_precision("nano", published, [6], **wish)
    assert (one["our_dtype"], one["our_encoder_dtype"], one["reference_dtype"]) == (
        "float32",
        "bfloat16",
        "float32",
    )
    assert (one["objects"], five["objects"]) == (1, 5)
    assert one["logit_difference"] > 0 and one["equal_pixels"] > 0.99
    assert one["our_attention_dtype"] == "float32"


def test_memory_attention_is_timed_as_the_library_has_it_as_we_do_and_pooled(grounding):
    rows = [attention_speed(grounding, products=dtype, repeats=1) for dtype in (None, torch.bfloat16)]
    assert [row["products"] for row in rows] == ["float32", "bfloat16"]
    assert rows[0]["memories"] == 9 and min(rows[0]["library_s"], rows[0]["pooled_s"]) > 0
    assert product_dtype_of(grounding) is None, "the modules themselves stay as they are"
    assert "| bfloat16 |" in "\n".join(report.attention_table(rows))


def test_rounding_is_told_for_each_part_and_grows_with_them(grounding):
    encoder, attention, everything = (row["mean_error"] for row in logit_error(grounding))
    assert 0 < encoder <= 1.5 * attention and attention < everything + 0.05


def test_expressions_in_one_call_give_the_masks_of_published_calls():
    compared = Compared(load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32), CPU)
    found = compared.measure(Frames(7, (120, 160)), ("the red circle", "the star"), published=2)
    assert (found["reference_passes"], found["our_passes"]) == (24, 7)
    assert found["equal_pixels"] > 0.999 and found["reference_measured"] == 2
    assert compared.measure(Frames(3, (120, 160)), ("the star", "the ring"), published=1)["our_passes"] == 3


def test_parts_are_summed_over_all_frames(grounding):
    found = parts(grounding, Frames(7, (120, 160)), 2, pace=Pace(batch=4))
    assert found["frames"] == 7 and found["parts_s"] > 0


def test_the_encoder_costs_the_same_whatever_the_batch(grounding):
    one, two = (encoder_speed(grounding, batch=batch, repeats=1) for batch in (1, 2))
    assert one["gflop_per_frame"] == two["gflop_per_frame"] == round(frame_flops(grounding) / 1e9, 3) > 0.1
    assert one["share_of_product"] > 0 and "share_of_chip" not in one


def test_a_chip_is_known_by_a_word_of_its_name():
    assert machine.chip_tflops("NVIDIA H200") == 989 and machine.chip_tflops("NVIDIA L40S") == 362
    assert machine.chip_tflops("NVIDIA L4") == 121 and machine.chip_tflops("NVIDIA H100 PCIe") is None
    for other in ("Some chip", "NVIDIA L40", "NVIDIA H100 NVL", "NVIDIA H200 NVL"):
        assert machine.chip_tflops(other) is None


def test_a_commit_is_named_where_there_is_one(tmp_path):
    assert machine.commit(tmp_path) == "unknown"


def test_growth_is_what_the_work_held_at_its_highest():
    held = growth(lambda: bytearray(b"1" * (80 * MIB)), CPU)
    assert 60 * MIB < held < 400 * MIB


def test_what_runs_alone_gives_its_json_or_says_why_not(tmp_path):
    (tmp_path / "made.json").write_text('{"seconds": 1}', encoding="utf-8")
    assert run_alone("json.tool", tmp_path / "made.json") == {"seconds": 1}
    with pytest.raises(RuntimeError, match="missing"):
        run_alone("json.tool", tmp_path / "missing.json")


def test_a_call_is_measured_with_all_its_expressions(tmp_path):
    found = measure(shapes_clip(tmp_path, 6), 2, "cpu", tmp_path)
    assert (found["frames"], found["objects"]) == (6, 2)
    assert found["peak_bytes"] > 100 * MIB


def test_curves_hold_every_point_that_was_asked_for():
    made = scaling(Extent((), objects=(1, 3), questions=2, clip_frames=4, call_frames=2, repeats=1), "cpu")
    assert [point["objects"] for point in made["objects"]] == [1, 3]
    assert [len(made["questions"][name]) for name in ("kept", "nothing_kept")] == [2, 2]
    assert made["tool_layer"]["frames"] == 2


def test_a_later_question_finds_the_video_seen():
    runtime = Sa2vaRuntime.load(NANO_FOLDER, cache_bytes=2**26)
    seconds = first_tokens(runtime, Frames(5, (120, 160)).pictures, QUESTIONS)
    counts = runtime.cache.counts()
    assert len(seconds) == len(QUESTIONS) and min(seconds) > 0
    assert (counts["visual tokens"].misses, counts["visual tokens"].hits) == (1, len(QUESTIONS) - 1)
    assert counts["readings"].hits == len(QUESTIONS) - 1


def test_the_three_ways_to_call_a_tool_are_compared(clip, tmp_path):
    found = tool_overhead(FakeEngine(tmp_path), clip, repeats=2)
    assert found["engine_ms"] > 0 and {"tool_ratio", "mcp_ratio", "mcp_more_ms"} <= set(found)


def measured(title: str) -> dict:
    calls = [{"question": number, "seconds": 1.0} for number in (1, 2)]
    return {
        "title": title,
        "machine": {"processor": "a slow one", "commit": "abc1234"},
        "propagation": {
            "against_the_published_procedure": [
                ROW
                | {"reference_s": 4.0, "reference_measured": 1, "ours_s": 1.0, "ratio": 4.0}
                | {"reference_passes": 22, "our_passes": 6, "equal_pixels": 1.0}
            ],
            "at_default_precision": [],
            "memory": [ROW | {"reference_mib": 30.0, "our_mib": 10.0, "ratio": 3.0}],
            "against_the_sum_of_parts": [ROW | {"wall_s": 1.1, "parts_s": 1.0, "overhead": 1.1}],
        },
        "encoder": [
            {"dtype": "bfloat16", "batch": 8, "gflop_per_frame": 800.0, "seconds_per_frame": 0.002}
            | {"tflops": 400.0, "share_of_product": 0.5, "share_of_chip": 0.404},
            {"dtype": "bfloat16", "batch": 8, "gflop_per_frame": 800.0, "seconds_per_frame": 0.0015}
            | {"tflops": 533.0, "share_of_product": 0.7, "warm_up_s": 90.5},
        ],
        "questions": {"model": "M", "dtype": "float32", "key_frames": 5}
        | {"first_token_s": [6.0, 0.5], "ratio": 12.0},
        "scaling": {
            "clip_frames": 6,
            "frames": [
                {"frames": count, "objects": objects, "seconds": 1.0, "frames_per_s": 9.0, "peak_mib": peak}
                for count, peak in ((100, 500.0), (2000, 510.0))
                for objects in (1, 8)
            ],
            "objects": [{"objects": 2, "seconds": 1.0, "one_by_one_s": 1.5}],
            "questions": {"kept": calls, "nothing_kept": calls},
            "tool_layer": {"frames": 8, "repeats": 3, "engine_ms": 50.0, "tool_more_ms": 1.0}
            | {"tool_ratio": 1.02, "mcp_more_ms": 3.0, "mcp_ratio": 1.06},
        },
        "long_video": {"minutes": 10, "frames": 7200, "file_mib": 3.0, "seconds": 300.0}
        | {"frames_per_s": 24.0, "pace": 2.0, "process_peak_mib": 700},
    }


def test_a_section_holds_what_was_measured():
    text = report.section(measured("nano, CPU"), picture="scaling.png")
    for words in (
        "## nano, CPU\n",
        "- commit: abc1234",
        "| 6 | 2 | 4.0 * | 1.0 | 4.0 | 22 | 6 | 100.0000 % |",
        "| 6 | 2 | 30.0 | 10.0 | 3.0 |",
        "| 50.0 % | 40.4 % |",
        "| bfloat16, compiled in 90.5 s | 8 |",
        "**12.0 times**",
        "by +2.0 % with one object; by +2.0 % with 8 objects",
        "](scaling.png)",
        "| 10 | 7200 |",
    ):
        assert words in text, words


def test_a_page_keeps_the_sections_of_other_sizes_and_devices(tmp_path):
    page = tmp_path / "RESULTS.md"
    publish(measured("nano, CPU"), page)
    publish({"title": "hiera-l, CPU", "machine": {"commit": "abc1234"}}, page)
    publish(measured("nano, CPU") | {"machine": {"commit": "def5678"}}, page)
    text = page.read_text(encoding="utf-8")
    heads = [line for line in text.splitlines() if line.startswith(("# ", "## "))]
    assert heads == ["# What was measured", "## nano, CPU", "## hiera-l, CPU"]
    assert text.index("def5678") < text.index("abc1234") and text.count("def5678") == 1
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
