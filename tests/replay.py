"""Golden cases of the published code, replayed on a runtime: shared by the parity tests and the GPU check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sa2va_tools.media.sampling import first_positions, uniform_positions
from sa2va_tools.model.families.base import ImageFeatures
from sa2va_tools.model.output import ModelAnswer
from sa2va_tools.model.preprocessing.region_prompts import region_cells
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime, Session
from sa2va_tools.model.tracking.key_frame_prompts import LanguageMaskPrompts, LanguagePrompts
from sa2va_tools.run import Run

Picture = NDArray[np.uint8]


class PictureClip:
    """Pictures as the frame source that the model reads from, uncached."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def cache_key(self, position: int) -> None:
        return None

    def frames(self, positions: Sequence[int]) -> Iterator[Picture]:
        return (self.pictures[position] for position in positions)


class Case:
    """One recorded case: its facts, arrays and input pictures."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.facts: dict[str, Any] = json.loads((folder / "cases.json").read_text(encoding="utf-8"))[name]
        file = folder / f"{name}.npz"
        self.arrays: dict[str, NDArray[Any]] = dict(np.load(file)) if file.is_file() else {}
        candidates = (parent / "inputs" for parent in (folder, *folder.parents))
        self.inputs = next((path for path in candidates if path.is_dir()), folder)

    @property
    def raised_upstream(self) -> bool:
        """Whether the published code failed on this case."""
        return "error" in self.facts

    def pictures(self) -> list[Picture]:
        """The frames of a video, the picture of an image, or nothing."""
        if self.facts.get("frames"):
            return [self._read(f"frame_{index:02d}.png") for index in range(self.facts["frames"])]
        return [self._read(self.facts["image"])] if self.facts.get("image") else []

    def regions(self) -> list[NDArray[np.bool_]]:
        """The masks of region prompts."""
        if not self.facts.get("mask_prompts"):
            return []
        return [mask > 0 for mask in np.load(self.inputs / self.facts["mask_prompts"])["mask_prompts"]]

    def _read(self, name: str) -> Picture:
        with Image.open(self.inputs / name) as image:
            return np.asarray(image.convert("RGB"))


class Replay:
    """Our answer to a case, with everything that was recorded."""

    def __init__(self, session: Session, case: Case, memory_dtype: torch.dtype = torch.bfloat16) -> None:
        self.session, self.case, self.memory_dtype = session, case, memory_dtype
        self.pictures = case.pictures()
        self.video = len(self.pictures) > 1
        is_dual = session.runtime.capabilities.second_decoder
        self.mode = "sa2va-i" if is_dual and self.video else "sa2va"
        pick = uniform_positions if self.mode == "sa2va-i" else first_positions
        self.keys = pick(len(self.pictures), 5) if self.pictures else ()

    @property
    def llm_pictures(self) -> list[Picture]:
        """What the language model sees."""
        return [self.pictures[position] for position in dict.fromkeys(self.keys)]

    def image_features(self) -> ImageFeatures | None:
        """Visual tokens; None without pictures."""
        if not self.pictures:
            return None
        language = self.session.language
        return language.get_image_features(lambda: self.llm_pictures, video=self.video)

    def answer(self) -> ModelAnswer:
        """With the recorded tokens where they were forced."""
        forced = self.case.facts.get("forced_ids")
        options: dict[str, Any] = {}
        if forced is not None:
            options["next_token"] = lambda step, logits: forced[step]
        grid = self.session.runtime.config.region_grid
        cells = [region_cells(mask, grid) for mask in self.case.regions()]
        question, features = self.case.facts["text"], self.image_features()
        return self.session.language.answer(question, features, cells=cells, max_new_tokens=64, **options)

    def masks(self, seg_prompts: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(objects, frames, s, s) logits and (objects, frames, H, W) masks."""
        run = self.session.run
        tracker = self.session.masks.tracker(gate=self.mode == "sa2va-i")
        tracker.memory_dtype = self.memory_dtype
        tracker.recorded_logits = {}
        like = tracker.sam2.no_object_pointer
        embeddings = torch.from_numpy(seg_prompts).to(like.device, like.dtype)
        prompts = LanguagePrompts(embeddings)
        if self.mode == "sa2va-i":
            prompts = LanguageMaskPrompts(embeddings, run)
        before = run.stats.encoder_passes
        frames = list(tracker.propagate(PictureClip(self.pictures), self.keys, prompts))
        frames.sort(key=lambda frame: frame.position)
        assert run.stats.encoder_passes - before == len(self.pictures)
        logits = torch.stack([tracker.recorded_logits[frame.position] for frame in frames], dim=1)
        return logits.float().numpy(), np.stack([frame.masks for frame in frames], axis=1)


@contextmanager
def replay(runtime: Sa2vaRuntime, case: Case, memory_dtype: torch.dtype = torch.bfloat16) -> Iterator[Replay]:
    """A replay in a session of its own, with the recorded shift of the object score."""
    delta = case.facts.get("obj_score_bias_delta") or 0.0
    shift_object_scores(runtime, delta)
    try:
        with runtime.session(Run()) as session:
            yield Replay(session, case, memory_dtype)
    finally:
        shift_object_scores(runtime, -delta)


def shift_object_scores(runtime: Sa2vaRuntime, delta: float) -> None:
    """Add `delta` to the logit of SAM-2's object score."""
    head = runtime.checkpoint.modules.sam2.mask_decoder.pred_obj_score_head
    bias = next(value for name, value in head.named_parameters() if name.endswith("bias") and len(value) == 1)
    with torch.no_grad():
        bias += delta


def decode_runs(runs: list[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A recorded mask: lengths of alternating runs, row by row."""
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(shape)
