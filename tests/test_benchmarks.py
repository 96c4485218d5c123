"""The benchmarks work, and their tables show what was measured. No time is compared with anything here."""

from __future__ import annotations

import pytest
import torch

from benchmarks import machine
from benchmarks.__main__ import publish
from benchmarks.attention import measure_attention
from benchmarks.clips import write_shapes_clip
from benchmarks.encoder import count_frame_flops, measure_encoder
from benchmarks.expressions import ExpressionComparison
from benchmarks.first_tokens import QUESTIONS, measure_first_tokens
from benchmarks.measuring import MIB, measure_growth, run_module
from benchmarks.models import MemoryClip, build_sam2
from benchmarks.one_call import measure_call
from benchmarks.overhead import measure_tool_overhead
from benchmarks.parts import compare_with_parts
from benchmarks.precision import find_tracks, track_masks
from benchmarks.propagation import Comparison, Published, compare_at_precision
from benchmarks.report import write_report
from benchmarks.rounding import measure_rounding
from benchmarks.scaling import Extent, measure_objects
from benchmarks.steps import Plan
from benchmarks.tables import attention_table
from sa2va_tools import load_engine
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.device.memory_policy import BatchSizes
from sa2va_tools.model.device.placement import Precision
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.runtime.language import IMAGE_FEATURES, KV_PREFIX
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.model.sam2.cpu_memory_attention import MemoryCrossAttention
from sa2va_tools.run import Run
from sa2va_tools.testing import FakeEngine

CPU = torch.device("cpu")
SIZES = BatchSizes(frames=4)
SMALL_HW = (120, 160)
FLOAT32 = Precision(torch.float32, torch.float32, torch.float32)
ROW = {"frames": 6, "objects": 2}


@pytest.fixture(scope="module")
def sam2():
    return build_sam2("nano", CPU, torch.float32)


@pytest.fixture(scope="module")
def comparison(sam2):
    return Comparison(Published(sam2), SIZES)


@pytest.mark.parametrize(("frames", "objects", "published"), [(7, 2, 24), (3, 1, 6), (1, 3, 3)])
def test_both_ways_give_the_same_masks_ours_with_one_pass_a_frame(comparison, frames, objects, published):
    row = comparison.compare(MemoryClip(frames, SMALL_HW), objects)
    assert (row["reference_passes"], row["our_passes"]) == (published, frames)
    # One by one and in batches: logits differ by rounding, and with them pixels whose logit is next to zero.
    assert row["equal_pixels"] > 0.999 and row["logit_difference"] < 1e-3
    assert row["reference_measured"] == objects


def test_of_several_objects_one_may_go_the_published_way(sam2):
    comparison = Comparison(Published(sam2), SIZES, measures_all_objects=False)
    row = comparison.compare(MemoryClip(3, SMALL_HW), 2)
    assert (row["reference_measured"], row["reference_passes"]) == (1, 12)


def test_formats_are_compared_where_the_engine_chooses_others(comparison):
    assert compare_at_precision("nano", comparison, [1], FLOAT32) == []
    chosen = Precision(torch.float32, torch.bfloat16, torch.float32)
    one, five = compare_at_precision("nano", comparison, [1], chosen)
    assert (one["our_dtype"], one["our_encoder_dtype"]) == ("float32", "bfloat16")
    assert (one["our_attention_dtype"], one["reference_dtype"]) == ("float32", "float32")
    assert (one["objects"], five["objects"]) == (1, 5)
    assert one["logit_difference"] > 0 and one["equal_pixels"] > 0.99


def test_memory_attention_is_timed_as_the_library_has_it_and_as_the_engine_does(sam2):
    rows = [measure_attention(sam2, product_dtype=dtype, repeats=1) for dtype in (None, torch.bfloat16)]
    assert [row["products"] for row in rows] == ["float32", "bfloat16"]
    assert rows[0]["memories"] == 9 and min(rows[0]["library_s"], rows[0]["ours_s"]) > 0
    own = {each.product_dtype for each in sam2.modules() if isinstance(each, MemoryCrossAttention)}
    assert own == {None}, "the modules themselves stay as they are"
    assert "| bfloat16 |" in "\n".join(attention_table(rows))


def test_rounding_grows_with_the_parts_in_bfloat16(sam2):
    encoder, attention, everything = (row["mean_error"] for row in measure_rounding(sam2))
    assert 0 < encoder <= 1.5 * attention and attention < everything + 0.05


def test_tracks_for_the_precision_have_masks_near_the_truth():
    runtime = Sa2vaRuntime.load(NANO_FOLDER, device="cpu")
    tracks = find_tracks(runtime, frames=16, clips=2)
    assert len(tracks) == 2
    for track in tracks:
        masks, truth = track_masks(runtime, track), track.case.clip.masks_thw(track.thing)
        assert masks.shape == truth.shape and (masks & truth).sum() > 0.5 * truth.sum()


def test_expressions_in_one_call_give_the_masks_of_published_calls():
    checkpoint = load_checkpoint(NANO_FOLDER, devices=(CPU,), dtype=torch.float32, run=Run())
    comparison = ExpressionComparison(checkpoint, CPU)
    row = comparison.measure(MemoryClip(7, SMALL_HW), ("the red circle", "the star"), published=2)
    assert (row["reference_passes"], row["our_passes"]) == (24, 7)
    assert row["equal_pixels"] > 0.999 and row["reference_measured"] == 2
    row = comparison.measure(MemoryClip(3, SMALL_HW), ("the star", "the ring"), published=1)
    assert row["our_passes"] == 3


def test_parts_are_summed_over_all_frames(sam2):
    row = compare_with_parts(sam2, MemoryClip(7, SMALL_HW), 2, sizes=SIZES)
    assert row["frames"] == 7 and row["parts_s"] > 0


def test_the_encoder_costs_the_same_whatever_the_batch(sam2):
    one, two = (measure_encoder(sam2, batch=batch, repeats=1) for batch in (1, 2))
    assert one["gflop_per_frame"] == two["gflop_per_frame"] == round(count_frame_flops(sam2) / 1e9, 3) > 0.1
    assert "share_of_product" in one and "share_of_chip" not in one


def test_a_chip_is_known_by_a_word_of_its_name():
    find = machine.find_chip_tflops
    assert find("NVIDIA H200") == 989 and find("NVIDIA L40S") == 362
    assert find("NVIDIA L4") == 121 and find("NVIDIA H100 PCIe") is None
    for other in ("Some chip", "NVIDIA L40", "NVIDIA H100 NVL", "NVIDIA H200 NVL"):
        assert find(other) is None


def test_outside_a_repository_the_commit_is_unknown(tmp_path):
    assert machine.find_commit(tmp_path) == "unknown"


def test_growth_is_what_the_work_held_at_its_highest():
    held = measure_growth(lambda: bytearray(b"1" * (80 * MIB)), CPU)
    assert 60 * MIB < held < 400 * MIB


def test_a_module_that_runs_alone_gives_its_json_or_says_why_not(tmp_path):
    (tmp_path / "result.json").write_text('{"seconds": 1}', encoding="utf-8")
    assert run_module("json.tool", tmp_path / "result.json") == {"seconds": 1}
    with pytest.raises(RuntimeError, match="missing"):
        run_module("json.tool", tmp_path / "missing.json")


def test_a_call_is_measured_with_all_its_expressions(tmp_path):
    call = measure_call(write_shapes_clip(tmp_path, 6), 2, "cpu", tmp_path)
    assert (call["frames"], call["objects"]) == (6, 2)
    assert call["peak_bytes"] > 100 * MIB


def test_a_curve_has_every_point_that_was_asked_for(tmp_path):
    with load_engine("nano", store_dir=tmp_path, device="cpu") as engine:
        points = measure_objects(Extent(objects=(1, 3)), engine, write_shapes_clip(tmp_path, 4))
    assert [point["objects"] for point in points] == [1, 3]


def test_a_later_question_finds_the_video_in_the_cache():
    runtime = Sa2vaRuntime.load(NANO_FOLDER, device="cpu", cache_bytes=2**26)
    seconds = measure_first_tokens(runtime, MemoryClip(5, SMALL_HW).pictures, QUESTIONS)
    counts = runtime.cache.counts()
    assert len(seconds) == len(QUESTIONS) and min(seconds) > 0
    assert (counts[IMAGE_FEATURES].misses, counts[IMAGE_FEATURES].hits) == (1, len(QUESTIONS) - 1)
    assert counts[KV_PREFIX].hits == len(QUESTIONS) - 1


def test_the_three_ways_to_call_a_tool_are_compared(clip, tmp_path):
    pytest.importorskip("mcp")
    row = measure_tool_overhead(FakeEngine(tmp_path), clip, repeats=2)
    assert row["engine_ms"] > 0 and {"tool_ratio", "mcp_ratio", "mcp_more_ms"} <= set(row)


def test_without_the_server_extra_mcp_is_left_out(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.overhead.find_spec", lambda name: None)
    row = measure_tool_overhead(FakeEngine(tmp_path), clip, repeats=2)
    assert "tool_ratio" in row and "mcp_ratio" not in row


@pytest.mark.parametrize(
    ("size", "steps"),
    [
        ("nano", ["propagation", "encoder", "attention", "precision", "scaling", "long_video"]),
        ("hiera-l", ["propagation", "encoder", "attention", "rounding"]),
    ],
)
def test_a_quick_run_has_these_steps(size, steps):
    assert list(Plan(size, CPU, quick=True).steps()) == steps


def results(title: str) -> dict:
    calls = [{"call": number, "seconds": 1.0} for number in (1, 2)]
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
        "first_tokens": {"model": "M", "dtype": "float32", "llm_frames": 5}
        | {"first_token_s": [6.0, 0.5], "ratio": 12.0},
        "scaling": {
            "clip_frames": 6,
            "frames": [
                {"frames": count, "objects": objects, "seconds": 1.0, "frames_per_s": 9.0, "peak_mib": peak}
                for count, peak in ((100, 500.0), (2000, 510.0))
                for objects in (1, 8)
            ],
            "objects": [{"objects": 2, "seconds": 1.0, "one_by_one_s": 1.5}],
            "calls": {"cached": calls, "not_cached": calls},
            "tool_layer": {"frames": 8, "repeats": 3, "engine_ms": 50.0, "tool_more_ms": 1.0}
            | {"tool_ratio": 1.02, "mcp_more_ms": 3.0, "mcp_ratio": 1.06},
        },
        "long_video": {"minutes": 10, "frames": 7200, "file_mib": 3.0, "seconds": 300.0}
        | {"frames_per_s": 24.0, "speed": 2.0, "process_peak_mib": 700},
    }


def test_a_section_holds_what_was_measured():
    text = write_report(results("nano, CPU"), picture="scaling.png")
    for words in (
        "## nano, CPU\n",
        "- commit: abc1234",
        "| 6 | 2 | 4.0 * | 1.0 | 4.0 | 22 | 6 | 100.0000 % |",
        "| 6 | 2 | 30.0 | 10.0 | 3.0 |",
        "| 50.0 % | 40.4 % |",
        "| bfloat16, compiled in 90.5 s | 8 |",
        "**12.0 times**",
        "by +2.0 % with one object; by +2.0 % with 8 objects",
        "| MCP, in memory | 3.0 | 1.06 |",
        "](scaling.png)",
        "| 10 | 7200 |",
    ):
        assert words in text, words


def test_a_page_keeps_the_sections_of_other_sizes_and_devices(tmp_path):
    page = tmp_path / "RESULTS.md"
    publish(results("nano, CPU"), page)
    publish({"title": "hiera-l, CPU", "machine": {"commit": "abc1234"}}, page)
    publish(results("nano, CPU") | {"machine": {"commit": "def5678"}}, page)
    text = page.read_text(encoding="utf-8")
    heads = [line for line in text.splitlines() if line.startswith(("# ", "## "))]
    assert heads == ["# What was measured", "## nano, CPU", "## hiera-l, CPU"]
    assert text.index("def5678") < text.index("abc1234") and text.count("def5678") == 1
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
