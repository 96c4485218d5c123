"""How the nano does on files of another renderer, asked through the engine as a user would ask."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.evaluation.foreign_clips import ForeignClip, absent_name, foreign_clip
from sa2va_tools.evaluation.metrics import bootstrap, mean
from sa2va_tools.evaluation.nano_cases import EXAM_SEED
from sa2va_tools.evaluation.nano_report import Row
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback, ignore_progress
from sa2va_tools.training.world import SHAPES

ABILITY = "another renderer's files (all 48 pairs)"


def foreign_exam(
    engine: Engine,
    *,
    count: int = 120,
    seed: int = EXAM_SEED,
    on_progress: ProgressCallback = ignore_progress,
    cancel: CancelToken | None = None,
) -> tuple[Row, ...]:
    """`count` files; of each one object by "the {colour} {shape}" (mean IoU over its frames), the presence of
    one name (half of them absent) and one count. Raises what the engine raises."""
    values: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            if cancel is not None:
                cancel.raise_if_cancelled()
            rng = random.Random(f"{seed} foreign {number}")
            clip = foreign_clip(rng)
            path = Path(folder) / f"{number}.mp4"
            clip.write(path)
            values["mean IoU"].append(_segmented(engine, path, clip, rng))
            values["presence"].append(_present(engine, path, clip, rng))
            values["count"].append(_counted(engine, path, clip, rng))
            on_progress(Progress("files", number + 1, count, path.name))
    return tuple(Row(ABILITY, "test", metric, bootstrap(some, mean)) for metric, some in values.items())


def _segmented(engine: Engine, path: Path, clip: ForeignClip, rng: random.Random) -> float:
    index = rng.randrange(len(clip.objects))
    found = engine.segment(path, f"the {clip.objects[index].name}").objects[0]
    truth = clip.masks_nthw[index]
    ours = np.zeros_like(truth)
    if found.track is not None:
        for frame in filter(found.track.covers, range(len(truth))):
            ours[frame] = found.track.mask(frame)
    union = (ours | truth).sum((1, 2))
    return float(np.mean(np.where(union > 0, (ours & truth).sum((1, 2)) / np.maximum(union, 1), 1.0)))


def _present(engine: Engine, path: Path, clip: ForeignClip, rng: random.Random) -> float:
    there = rng.random() < 0.5
    name = rng.choice(clip.objects).name if there else absent_name(rng, clip)
    article = "an" if name[0] in "aeiou" else "a"
    said = engine.describe(path, f"Is there {article} {name}?").text
    return float(said.startswith("Yes" if there else "No"))


def _counted(engine: Engine, path: Path, clip: ForeignClip, rng: random.Random) -> float:
    words, number = "objects", len(clip.objects)
    if rng.random() < 0.5:
        shape = rng.choice(clip.objects).shape if rng.random() < 0.8 else rng.choice(SHAPES)
        words = shape + ("es" if shape.endswith("s") else "s")
        number = sum(thing.shape == shape for thing in clip.objects)
    return float(engine.describe(path, f"How many {words} are there?").text.strip(" .") == str(number))
