"""Writes the generated parts of the nano's model card: its scores, its vocabulary and its pictures."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sa2va_tools.masks.draw import draw_masks
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.output import ModelAnswer
from sa2va_tools.model.text.prompts import IMAGE, clean_answer
from sa2va_tools.nano.exam.cases import CLIP_FRAMES, LONG_FRAMES, Case, Examiner, Exercise, sample_cases
from sa2va_tools.nano.exam.evaluate import load_runtime
from sa2va_tools.run import Run

ROOT = Path(__file__).parents[1]
CARD = NANO_FOLDER / "README.md"
PICTURES = ROOT / "docs" / "nano"
PICTURE_SEED = 41_000_000
"""Its scenes are in no exam and in no training."""
_SCALE = 2
_GAP = 8
_LINE = 13
_CHARACTER = 6
_FRAMES_SHOWN = 6


def update_card(page: str) -> str:
    """The page with new scores and words."""
    report = json.loads((NANO_FOLDER / "scores.json").read_text("utf-8"))
    config = json.loads((NANO_FOLDER / "config.json").read_text("utf-8"))
    page = _replace_section(page, "scores", format_scores(report))
    return _replace_section(page, "words", textwrap.fill(" ".join(config["world_words"]), 110))


def format_scores(report: dict[str, Any]) -> str:
    """Every row of scores.json as a table, held-out pairs next to trained ones."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in report["rows"]:
        score = row["score"]
        text = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] n={score['count']}"
        cells.setdefault((row["ability"], row["metric"]), {})[row["split"]] = text
    lines = ["| ability | metric | held-out pairs | trained pairs |", "|---|---|---|---|"]
    for (ability, metric), splits in cells.items():
        lines.append(f"| {ability} | {metric} | {splits.get('test', '–')} | {splits.get('train', '–')} |")
    speeds = "; ".join(f"{what}: {value:.2f}" for what, value in report["speeds"].items())
    return "\n".join([*lines, "", f"On one core: {speeds}."])


def _replace_section(page: str, name: str, text: str) -> str:
    start = f"<!-- {name} -->\n"
    end = f"<!-- end of {name} -->"
    before, rest = page.split(start, 1)
    return before + start + text + "\n" + end + rest.split(end, 1)[1]


# ---- pictures -----------------------------------------------------------------------------------


def draw_images(examiner: Examiner) -> Image.Image:
    """Answers about images: the first scenes of the seed, good or bad."""
    panels = []
    for task, count in (("refer", 4), ("ground", 2), ("several", 1), ("refuse", 1)):
        for case in sample_cases(Exercise(task), "test", count, PICTURE_SEED):
            answer = examiner.answer(case)
            masks = examiner.segment_first_frame(case, answer.seg_prompts)
            panels.append(_draw_panel(case, answer, masks[:, None], [0]))
    return _arrange(panels, columns=4)


def draw_videos(examiner: Examiner) -> Image.Image:
    """Tracks: in short clips, and in long ones with crossings."""
    panels = []
    for exercise in (Exercise("refer", CLIP_FRAMES), Exercise("refer", LONG_FRAMES, crossing=True)):
        for case in sample_cases(exercise, "test", 3, PICTURE_SEED):
            answer = examiner.answer(case)
            tracks = examiner.track(case, answer.seg_prompts)
            frames = np.linspace(0, exercise.frames - 1, _FRAMES_SHOWN).astype(int).tolist()
            panels.append(_draw_panel(case, answer, tracks, frames))
    return _arrange(panels, columns=1)


def _draw_panel(
    case: Case, answer: ModelAnswer, masks_nthw: NDArray[np.bool_], frames: list[int]
) -> Image.Image:
    """Some frames with their masks in a row, and question and answer below them."""
    pictures = []
    for frame in frames:
        masks = [(number, _enlarge(mask)) for number, mask in enumerate(masks_nthw[:, frame], start=1)]
        pictures.append(draw_masks(_enlarge(case.clip.frames_thwc[frame]), masks, opacity=0.15))
    strip = np.concatenate(pictures, 1)
    height, width = strip.shape[:2]
    question = case.turn.question.removeprefix(IMAGE).strip()
    texts = (f"> {question}", clean_answer(answer.text).text)
    lines = [line for text in texts for line in textwrap.wrap(text, width // _CHARACTER)]
    panel = Image.new("RGB", (width, height + _LINE * max(len(lines), 2) + 4), "white")
    panel.paste(Image.fromarray(strip), (0, 0))
    pen = ImageDraw.Draw(panel)
    for number, line in enumerate(lines):
        pen.text((1, height + 2 + number * _LINE), line, fill="black")
    return panel


def _enlarge(array: NDArray[Any]) -> NDArray[Any]:
    return array.repeat(_SCALE, 0).repeat(_SCALE, 1)


def _arrange(panels: list[Image.Image], *, columns: int) -> Image.Image:
    """The panels in rows on one sheet."""
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


def main() -> None:
    CARD.write_text(update_card(CARD.read_text("utf-8")), "utf-8")
    PICTURES.mkdir(exist_ok=True)
    with load_runtime(NANO_FOLDER).session(Run()) as session:
        examiner = Examiner(session)
        for name, draw in (("images", draw_images), ("videos", draw_videos)):
            sheet = draw(examiner).quantize(256, dither=Image.Dither.NONE)
            sheet.save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
