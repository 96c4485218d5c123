"""Measurements as Markdown tables, each under its heading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def make_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """GitHub's Markdown, with numbers as they are."""
    lines = [heads, ["---:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def pick_columns(columns: Mapping[str, str], rows: Iterable[Row]) -> str:
    """A table of some values of each row; `columns` gives the heading of each."""
    return make_table(list(columns.values()), ([row[name] for name in columns] for row in rows))


def propagation_tables(result: Row) -> list[str]:
    return [
        "### Compared to the published procedure",
        "Seconds for the masks of a clip in memory, with the same modules and weights. The published time is "
        "measured once for each clip and repeated in its rows. *: measured for one object and multiplied, "
        "because the published code tracks objects one at a time. Equal pixels are those of the objects that "
        "both tracked, in SAM-2's own grid.",
        _compare_ways(result["against_the_published_procedure"], "objects"),
        *_default_precision_table(result["at_default_precision"]),
        *_memory_table(result["memory"]),
        "The engine's time over the sum of its steps, each timed alone:",
        pick_columns(
            {
                "frames": "frames",
                "objects": "objects",
                "wall_s": "wall s",
                "parts_s": "steps s",
                "overhead": "ratio",
            },
            result["against_the_sum_of_parts"],
        ),
    ]


def _compare_ways(rows: Sequence[Row], counted: str) -> str:
    """Rows about a number of objects, or of expressions."""
    heads = ("frames", counted, "published s", "ours s", "ratio", "encoder passes", "ours", "equal pixels")
    return make_table(
        heads,
        (
            (
                row["frames"],
                row[counted],
                f"{row['reference_s']}{' *' if row['reference_measured'] < row[counted] else ''}",
                row["ours_s"],
                row["ratio"],
                row["reference_passes"],
                row["our_passes"],
                f"{100 * row['equal_pixels']:.4f} %",
            )
            for row in rows
        ),
    )


def _default_precision_table(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    row = rows[0]
    return [
        f"In the number formats that the engine chooses by itself: {row['our_dtype']}, image encoder "
        f"{row['our_encoder_dtype']}, products of memory attention {row['our_attention_dtype']}; the "
        f"published way in {row['reference_dtype']}.",
        _compare_ways(rows, "objects"),
    ]


def _memory_table(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    columns = {
        "frames": "frames",
        "objects": "objects",
        "reference_mib": "published MiB",
        "our_mib": "ours MiB",
        "ratio": "ratio",
    }
    return [
        "Memory above weights and clip: how far the peak rose (the allocator's on CUDA, otherwise the "
        "process's resident memory), each way in a process of its own.",
        pick_columns(columns, rows),
    ]


def encoder_table(rows: Sequence[Row]) -> list[str]:
    return [
        "### The image encoder alone",
        "Compared to what a product of large matrices reaches on the same device, and to the chip's "
        "published peak if that is known. Compiled is `SA2VA_COMPILE=1`, with the time that it takes when a "
        "model is loaded.",
        make_table(
            ("format", "batch", "GFLOP a frame", "s a frame", "TFLOP/s", "of a product", "of the peak"),
            (
                (
                    row["dtype"] + (f", compiled in {row['warm_up_s']} s" if "warm_up_s" in row else ""),
                    row["batch"],
                    row["gflop_per_frame"],
                    row["seconds_per_frame"],
                    row["tflops"],
                    f"{100 * row['share_of_product']:.1f} %",
                    f"{100 * row['share_of_chip']:.1f} %" if "share_of_chip" in row else "–",
                )
                for row in rows
            ),
        ),
    ]


def attention_table(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    columns = {"products": "products in", "library_s": "transformers s", "ours_s": "ours s", "ratio": "ratio"}
    return [
        "### Memory attention",
        f"One frame and {first['objects']} object(s) over {first['memories']} memories; modules in "
        f"{first['dtype']}, as in transformers, and ours with the large products in the format named.",
        pick_columns(columns, rows),
    ]


def precision_table(rows: Sequence[Row]) -> list[str]:
    columns = {
        "frames": "frames",
        "variant": "arithmetic",
        "tracks": "tracks",
        "iou_with_exact": "IoU with exact",
        "worst_iou": "worst IoU",
        "j_and_f": "J&F",
    }
    return [
        "### What faster arithmetic costs",
        "The nano's tracks of the same prompts, compared to those of exact float32 (IoU over all frames) and "
        "to the truth (J&F). In the clips of 100 frames objects cross.",
        pick_columns(columns, rows),
    ]


def rounding_table(rows: Sequence[Row]) -> list[str]:
    columns = {"bfloat16": "in bfloat16", "mean_error": "mean error", "largest_error": "largest error"}
    return [
        "### Rounding",
        "Logits of a tracked frame's mask in bfloat16 compared to float32, as parts of their standard "
        "deviation (random weights, whose logits lie closer together than trained ones).",
        pick_columns(columns, rows),
    ]


def first_tokens_table(result: Row) -> list[str]:
    first, *later = result["first_token_s"]
    return [
        "### The first token of an answer",
        f"Modules of {result['model']} with random weights ({result['dtype']}), {result['llm_frames']} "
        "frames; each question is another one about the same video. The answer to the second begins "
        f"**{result['ratio']} times** as fast as that to the first.",
        make_table(
            ("question", "seconds to the first token", "first ÷ this"),
            [(1, first, 1.0), *((n, s, round(first / s, 1)) for n, s in enumerate(later, start=2))],
        ),
    ]


def expressions_table(rows: Sequence[Row]) -> list[str]:
    return [
        "### Expressions",
        "Several in one call compared to a published call for each, words and masks together: modules of "
        f"{rows[0]['model']} with random weights, which answer `[SEG]` to everything. *: one call went the "
        "published way and its time was multiplied.",
        _compare_ways(rows, "expressions"),
    ]


def scaling_tables(result: Row) -> list[str]:
    clip = f"{result['clip_frames']} frames"
    return [
        *_frames_table(result["frames"]),
        "### Objects",
        f"{clip}, which the engine has cached.",
        make_table(
            ("objects", "in one call, s", "in a call each, s", "ratio"),
            (
                (p["objects"], p["seconds"], p["one_by_one_s"], round(p["one_by_one_s"] / p["seconds"], 2))
                for p in result["objects"]
            ),
        ),
        "### Calls about the same file",
        f"{clip}, another expression each time; with the cache, and without one (`SA2VA_CACHE_BYTES=0`).",
        make_table(
            ("call", "with the cache, s", "without, s", "ratio"),
            (
                (a["call"], a["seconds"], b["seconds"], round(b["seconds"] / a["seconds"], 2))
                for a, b in zip(result["calls"]["cached"], result["calls"]["not_cached"], strict=True)
            ),
        ),
        *_tool_layer_table(result["tool_layer"]),
    ]


def _frames_table(points: Sequence[Row]) -> list[str]:
    curves: dict[int, list[Row]] = defaultdict(list)
    for point in points:
        curves[point["objects"]].append(point)
    growth = "; ".join(
        f"by {_percent_growth(curve)} with {'one object' if count == 1 else f'{count} objects'}"
        for count, curve in curves.items()
    )
    columns = {
        "frames": "frames",
        "objects": "objects",
        "seconds": "seconds",
        "frames_per_s": "frames/s",
        "peak_mib": "peak MiB",
    }
    return [
        "### Frames",
        "One segment call about a file, each in a process of its own; the peak is that of the whole process "
        "with its libraries and weights (on CUDA of torch's allocator). From the shortest to the longest it "
        f"grows {growth}.",
        pick_columns(columns, points),
    ]


def _percent_growth(curve: Sequence[Row]) -> str:
    return f"{100 * (curve[-1]['peak_mib'] / curve[0]['peak_mib'] - 1):+.1f} %"


def _tool_layer_table(layer: Row) -> list[str]:
    return [
        "### The tool layer",
        f"The same call {layer['repeats']} times, in turns: {layer['frames']} frames, one expression, "
        f"{layer['engine_ms']} ms through the engine (the fastest of each). What is added does not "
        "depend on the clip.",
        make_table(
            ("way", "more ms", "ratio to the engine alone"),
            (
                (words, layer[f"{name}_more_ms"], layer[f"{name}_ratio"])
                for name, words in (("tool", "the catalogue's tool"), ("mcp", "MCP, in memory"))
                if f"{name}_ratio" in layer
            ),
        ),
    ]


def long_video_table(result: Row) -> list[str]:
    columns = {
        "minutes": "minutes",
        "frames": "frames",
        "file_mib": "file MiB",
        "seconds": "seconds",
        "frames_per_s": "frames/s",
        "speed": "video s per s",
        "process_peak_mib": "peak MiB",
    }
    return [
        "### A long video",
        "720p H.264 at 12 frames a second, one expression, every frame; the peak is that of the whole "
        "process.",
        pick_columns(columns, [result]),
    ]
