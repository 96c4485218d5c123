"""Measurements as Markdown, and the page of results, where each size and device has a section."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sa2va_tools.atomic import write_bytes

_TITLE = "# What was measured"
_INTRO = (
    "Written by `make bench` (see `benchmarks/`), a section for each size and device. Ratios compare runs "
    "of one call of it on the same machine; absolute numbers hold for that machine alone. Nothing "
    "here says how good answers are: for that see the model card."
)
_MARK = re.compile(r"^(?=## )", re.MULTILINE)


def section(made: dict[str, Any], *, picture: str | None = None) -> str:
    """One run; what was not measured has no table."""
    parts = [f"## {made['title']}", _facts(made)]
    if made.get("quick"):
        parts.append("Reduced run (`--quick`): it shows that everything works, and little more.")
    if "propagation" in made:
        parts += propagation_tables(made["propagation"])
    if "encoder" in made:
        parts += encoder_table(made["encoder"])
    if "attention" in made:
        parts += attention_table(made["attention"])
    if "approximations" in made:
        parts += approximations_table(made["approximations"])
    if "rounding" in made:
        parts += rounding_table(made["rounding"])
    if "questions" in made:
        parts += questions_table(made["questions"])
    if "expressions" in made:
        parts += expressions_table(made["expressions"])
    if "scaling" in made:
        parts += scaling_tables(made["scaling"])
        if picture is not None:
            parts.append(f"![Time and memory against frames, objects and calls]({picture})")
    if "long_video" in made:
        parts += long_video_table(made["long_video"])
    return "\n\n".join(parts) + "\n"


def write_section(page: Path, text: str) -> None:
    """Put the section into the page: in the place of the one with its heading, else at the end."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    sections = [part for part in _MARK.split(old) if part.startswith("## ")]
    titles = [part.partition("\n")[0] for part in sections]
    title = text.partition("\n")[0]
    if title in titles:
        sections[titles.index(title)] = text
    else:
        sections.append(text)
    whole = "\n\n".join([_TITLE, _INTRO, *(part.strip() for part in sections)]) + "\n"
    write_bytes(page, whole.encode())


def propagation_tables(made: dict[str, Any]) -> list[str]:
    return [
        "### Beside the published procedure",
        "Seconds for the masks of a clip in memory; both ways on the same modules and weights; a published "
        "time is measured once and stands in all rows about the same clip. *: one object went the published "
        "way, and its time was multiplied, for there each goes by itself. Equal pixels are of "
        "the objects that went both ways, in SAM-2's own grid.",
        _both_ways(made["against_the_published_procedure"], "objects"),
        *_default_precision_table(made["at_default_precision"]),
        *_memory_table(made["memory"]),
        "The engine's time over the sum of its steps, each timed alone:",
        table(
            ("frames", "objects", "wall s", "steps s", "ratio"),
            (
                (row["frames"], row["objects"], row["wall_s"], row["parts_s"], row["overhead"])
                for row in made["against_the_sum_of_parts"]
            ),
        ),
    ]


def _both_ways(rows: Sequence[dict[str, Any]], what: str) -> str:
    """Rows about so many objects, or expressions."""
    heads = ("frames", what, "published s", "ours s", "ratio", "encoder passes", "ours", "equal pixels")
    return table(
        heads,
        (
            (
                row["frames"],
                row[what],
                f"{row['reference_s']}{' *' if row['reference_measured'] < row[what] else ''}",
                row["ours_s"],
                row["ratio"],
                row["reference_passes"],
                row["our_passes"],
                f"{100 * row['equal_pixels']:.4f} %",
            )
            for row in rows
        ),
    )


def _default_precision_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    row = rows[0]
    return [
        f"In the number formats that the engine chooses by itself: {row['our_dtype']}, image encoder "
        f"{row['our_encoder_dtype']}, products of memory attention {row['our_attention_dtype']}; the "
        f"published way in {row['reference_dtype']}.",
        _both_ways(rows, "objects"),
    ]


def expressions_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [
        "### Expressions",
        "Several in one call beside a published call for each, words and masks together: modules of "
        f"{rows[0]['model']} with generated weights, which answer `[SEG]` to everything. *: one call went "
        "the published way, and its time was multiplied.",
        _both_ways(rows, "expressions"),
    ]


def _memory_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    return [
        "Memory beside weights and clip: how far the peak rose (the allocator's on CUDA, else the process's "
        "resident memory), each way in a process of its own.",
        table(
            ("frames", "objects", "published MiB", "ours MiB", "ratio"),
            (
                (row["frames"], row["objects"], row["reference_mib"], row["our_mib"], row["ratio"])
                for row in rows
            ),
        ),
    ]


def encoder_table(made: Sequence[dict[str, Any]]) -> list[str]:
    return [
        "### The image encoder alone",
        "Beside what a product of large matrices reaches on the same device, and beside the chip's published "
        "peak where that is known. Compiled is `SA2VA_COMPILE_ENCODER=1`, with what it takes when a model is "
        "loaded.",
        table(
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
                for row in made
            ),
        ),
    ]


def attention_table(made: Sequence[dict[str, Any]]) -> list[str]:
    one = made[0]
    return [
        "### Memory attention",
        f"One frame and {one['objects']} object(s) over {one['memories']} memories; modules in "
        f"{one['dtype']}, as in transformers, and ours with the large products in the format named. Pooled "
        "is fast tracking (`SA2VA_FAST_TRACKING`), which is off by default.",
        table(
            ("products in", "transformers s", "ours s", "ratio", "pooled s", "ours / pooled"),
            (
                (
                    row["products"],
                    row["library_s"],
                    row["exact_s"],
                    row["ratio_to_library"],
                    row["pooled_s"],
                    row["ratio"],
                )
                for row in made
            ),
        ),
    ]


def approximations_table(made: Sequence[dict[str, Any]]) -> list[str]:
    return [
        "### What faster arithmetic costs",
        "The nano's tracks of the same prompts, against those of exact float32 (IoU over all frames) and "
        "against the truth (J&F). Clips of 100 frames are crossings.",
        table(
            ("frames", "arithmetic", "tracks", "IoU with exact", "worst IoU", "J&F"),
            (
                (
                    row["frames"],
                    row["variant"],
                    row["tracks"],
                    row["iou_with_exact"],
                    row["worst_iou"],
                    row["j_and_f"],
                )
                for row in made
            ),
        ),
    ]


def rounding_table(made: Sequence[dict[str, Any]]) -> list[str]:
    return [
        "### Rounding",
        "Logits of a tracked frame's mask in bfloat16 against float32, in parts of their standard deviation "
        "(generated weights, whose logits lie closer together than trained ones).",
        table(
            ("in bfloat16", "mean error", "largest error"),
            ((row["bfloat16"], row["mean_error"], row["largest_error"]) for row in made),
        ),
    ]


def questions_table(made: dict[str, Any]) -> list[str]:
    first, *later = made["first_token_s"]
    return [
        "### The first token of an answer",
        f"Modules of {made['model']} with generated weights ({made['dtype']}), {made['key_frames']} key "
        "frames; each question is another one about the same video. The answer to the second begins "
        f"**{made['ratio']} times** as fast as that to the first.",
        table(
            ("question", "seconds to the first token", "first ÷ this"),
            [(1, first, 1.0), *((n, s, round(first / s, 1)) for n, s in enumerate(later, start=2))],
        ),
    ]


def scaling_tables(made: dict[str, Any]) -> list[str]:
    curves: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for point in made["frames"]:
        curves[point["objects"]].append(point)
    grown = "; ".join(
        f"by {_percent(points)} with {'one object' if count == 1 else f'{count} objects'}"
        for count, points in curves.items()
    )
    clip = f"{made['clip_frames']} frames"
    kept, nothing = made["questions"]["kept"], made["questions"]["nothing_kept"]
    layer = made["tool_layer"]
    return [
        "### Frames",
        "One segment call about a file, each in a process of its own; the peak is of the whole process, "
        "libraries and weights included (on CUDA of torch's allocator). From the shortest to the longest it "
        f"grows {grown}.",
        table(
            ("frames", "objects", "seconds", "frames/s", "peak MiB"),
            (
                (p["frames"], p["objects"], p["seconds"], p["frames_per_s"], p["peak_mib"])
                for p in made["frames"]
            ),
        ),
        "### Objects",
        f"{clip}, what the engine keeps is there.",
        table(
            ("objects", "in one call, s", "in a call each, s", "ratio"),
            (
                (p["objects"], p["seconds"], p["one_by_one_s"], round(p["one_by_one_s"] / p["seconds"], 2))
                for p in made["objects"]
            ),
        ),
        "### Calls about the same file",
        f"{clip}, another expression each time; as shipped, and with nothing kept (`SA2VA_CACHE_BYTES=0`).",
        table(
            ("call", "as shipped, s", "nothing kept, s", "ratio"),
            (
                (a["question"], a["seconds"], b["seconds"], round(b["seconds"] / a["seconds"], 2))
                for a, b in zip(kept, nothing, strict=True)
            ),
        ),
        "### The tool layer",
        f"The same call {layer['repeats']} times, in turns: {layer['frames']} frames, one expression, "
        f"{layer['engine_ms']} ms through the engine (the fastest of each). What is added does not "
        "depend on the clip.",
        table(
            ("way", "more ms", "ratio to the engine alone"),
            (
                ("the catalogue's tool", layer["tool_more_ms"], layer["tool_ratio"]),
                ("MCP, in memory", layer["mcp_more_ms"], layer["mcp_ratio"]),
            ),
        ),
    ]


def long_video_table(made: dict[str, Any]) -> list[str]:
    return [
        "### A long video",
        "720p H.264 at 12 frames a second, one expression, every frame; the peak is of the whole process.",
        table(
            ("minutes", "frames", "file MiB", "seconds", "frames/s", "video s per s", "peak MiB"),
            [
                (
                    made["minutes"],
                    made["frames"],
                    made["file_mib"],
                    made["seconds"],
                    made["frames_per_s"],
                    made["pace"],
                    made["process_peak_mib"],
                )
            ],
        ),
    ]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """GitHub's Markdown, numbers as they are."""
    lines = [heads, ["---:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _facts(made: dict[str, Any]) -> str:
    machine = made["machine"]
    return "\n".join(f"- {name}: {value}" for name, value in machine.items())


def _percent(points: Sequence[dict[str, Any]]) -> str:
    return f"{100 * (points[-1]['peak_mib'] / points[0]['peak_mib'] - 1):+.1f} %"
