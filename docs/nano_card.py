"""Writes what is generated of the nano's model card: its scores, its words and its pictures."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sa2va_tools.evaluation.nano_cases import Case, ClipFrames, Exercise, exam_cases
from sa2va_tools.evaluation.nano_eval import runtime_of
from sa2va_tools.evaluation.nano_exam import CLIP_FRAMES, LONG_FRAMES
from sa2va_tools.masks.draw import draw_masks
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.output import ModelAnswer
from sa2va_tools.model.prompt import clean_answer
from sa2va_tools.model.runtime import Sa2vaRuntime

ROOT = Path(__file__).parents[1]
CARD, PICTURES = NANO_FOLDER / "README.md", ROOT / "docs" / "nano"
PICTURE_SEED = 41_000_000  # scenes that no exam and no training has
_SCALE, _GAP, _LINE = 2, 8, 13


def card(page: str) -> str:
    """The page with fresh scores and words."""
    report, config = (
        json.loads((NANO_FOLDER / name).read_text("utf-8")) for name in ("scores.json", "config.json")
    )
    page = _between(page, "scores", scores_table(report))
    return _between(page, "words", textwrap.fill(" ".join(config["world_words"]), 110))


def scores_table(report: dict[str, Any]) -> str:
    """Every row of scores.json, held-out pairs beside trained ones."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in report["rows"]:
        score = row["score"]
        text = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] n={score['count']}"
        cells.setdefault((row["ability"], row["metric"]), {})[row["split"]] = text
    lines = ["| ability | metric | held-out pairs | trained pairs |", "|---|---|---|---|"]
    for (ability, metric), both in cells.items():
        lines.append(f"| {ability} | {metric} | {both.get('test', '–')} | {both.get('train', '–')} |")
    speeds = "; ".join(f"{what}: {value:.2f}" for what, value in report["speeds"].items())
    return "\n".join([*lines, "", f"On one core: {speeds}."])


def _between(page: str, name: str, text: str) -> str:
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = page.split(start, 1)
    return before + start + text + "\n" + end + rest.split(end, 1)[1]


# ---- pictures -----------------------------------------------------------------------------------


def images_picture(runtime: Sa2vaRuntime) -> Image.Image:
    """Answers about images, the first scenes of a seed, good or bad."""
    shown = []
    for task, count in (("refer", 4), ("ground", 2), ("several", 1), ("refuse", 1)):
        for case in exam_cases(Exercise(task), "test", count, PICTURE_SEED):
            answer = runtime.answer(case.turn.question, runtime.look([case.clip.frames_thwc[0]], video=False))
            shown.append(_panel(case, answer, masks_of(runtime, case, answer, 1), [0]))
    return _grid(shown, columns=4)


def videos_picture(runtime: Sa2vaRuntime) -> Image.Image:
    """Tracks: short clips, and long ones with crossings."""
    shown = []
    for exercise in (Exercise("refer", CLIP_FRAMES), Exercise("refer", LONG_FRAMES, crossing=True)):
        for case in exam_cases(exercise, "test", 3, PICTURE_SEED):
            frames = case.clip.frames_thwc
            seen = np.linspace(0, len(frames) - 1, runtime.config.chat_frames).astype(int)
            answer = runtime.answer(case.turn.question, runtime.look([frames[i] for i in seen], video=True))
            masks = masks_of(runtime, case, answer, len(frames))
            shown.append(_panel(case, answer, masks, np.linspace(0, len(frames) - 1, 6).astype(int).tolist()))
    return _grid(shown, columns=1)


def masks_of(runtime: Sa2vaRuntime, case: Case, answer: ModelAnswer, frames: int) -> NDArray[np.bool_]:
    """(T, objects, S, S)"""
    masks = np.zeros((frames, len(answer.seg_prompts), *case.clip.ids_thw.shape[1:]), bool)
    if len(answer.seg_prompts):
        source = ClipFrames(case.clip.frames_thwc[:frames])
        for frame in runtime.masks_from_words(source, answer.seg_prompts):
            masks[frame.position] = frame.masks
    return masks


def _panel(case: Case, answer: ModelAnswer, masks_tnhw: NDArray[np.bool_], frames: list[int]) -> Image.Image:
    pictures = []
    for t in frames:
        picture = case.clip.frames_thwc[t].repeat(_SCALE, 0).repeat(_SCALE, 1)
        found = [
            (number, mask.repeat(_SCALE, 0).repeat(_SCALE, 1))
            for number, mask in enumerate(masks_tnhw[t], start=1)
        ]
        pictures.append(draw_masks(picture, found, opacity=0.15))
    strip = np.concatenate(pictures, 1)
    question = case.turn.question.removeprefix("<image>").strip()
    wrapped = [
        line
        for text in (f"> {question}", clean_answer(answer.text).text)
        for line in textwrap.wrap(text, strip.shape[1] // 6)
    ]
    panel = Image.new("RGB", (strip.shape[1], strip.shape[0] + _LINE * max(len(wrapped), 2) + 4), "white")
    panel.paste(Image.fromarray(strip), (0, 0))
    pen = ImageDraw.Draw(panel)
    for number, line in enumerate(wrapped):
        pen.text((1, strip.shape[0] + 2 + number * _LINE), line, fill="black")
    return panel


def _grid(panels: list[Image.Image], *, columns: int) -> Image.Image:
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(panel.height for panel in row) + _GAP for row in rows]
    width = max(sum(panel.width + _GAP for panel in row) for row in rows)
    sheet = Image.new("RGB", (width, sum(heights)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for panel in row:
            sheet.paste(panel, (left, top))
            left += panel.width + _GAP
        top += height
    return sheet


if __name__ == "__main__":
    CARD.write_text(card(CARD.read_text("utf-8")), "utf-8")
    nano = runtime_of(NANO_FOLDER)
    PICTURES.mkdir(exist_ok=True)
    for name, draw in (("images", images_picture), ("videos", videos_picture)):
        draw(nano).quantize(256, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)
