"""One call's use of the model: looking, asking and propagating, with progress, cancel and timings."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from sa2va_tools import __version__
from sa2va_tools.engine.clip import Clip, frame_key
from sa2va_tools.engine.key_frames import FramePlan, fewer_keys, fewer_seen
from sa2va_tools.engine.questions import unknown_words
from sa2va_tools.engine.results import Provenance
from sa2va_tools.engine.tracks import collect_tracks
from sa2va_tools.errors import MediaUnreadableError, OutOfMemoryError
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.model.output import (
    USUAL_WISHES,
    FrameMasks,
    MaskWishes,
    ModelAnswer,
    PointPrompt,
    RegionAnswer,
)
from sa2va_tools.progress import CancelToken, Progress, ProgressCallback

if TYPE_CHECKING:
    from sa2va_tools.model.families.base import VisualInput
    from sa2va_tools.model.prompt import Turn
    from sa2va_tools.model.runtime import Sa2vaRuntime

Made = TypeVar("Made")
_WORDS_SHOWN = 5


@dataclass(slots=True)
class Writing:
    """Tells of answers while they are written."""

    on_progress: ProgressCallback
    what: str
    text: str | None = None

    def on_text(self, text: str) -> None:
        """All that can be read so far; told with the next token's number."""
        self.text = text

    def on_token(self, count: int) -> None:
        message = f"writing {self.what}, {count} tokens"
        self.on_progress(Progress("answer", count, None, message, self.text))


@dataclass(slots=True)
class Job:
    """A loaded model, a clip, and who wants to hear of it."""

    runtime: Sa2vaRuntime
    clip: Clip
    on_progress: ProgressCallback
    cancel: CancelToken | None
    max_new_tokens: int
    wishes: MaskWishes = USUAL_WISHES
    seconds: dict[str, float] = field(default_factory=dict)
    objects: int = 1
    """To be followed together."""
    seen: int | None = None
    """Frames for the language model, and `key_frames` that condition the masks; None before that is known."""
    key_frames: int | None = None
    followed: int | None = None
    """Frames that got masks; None before there were any."""
    readable: int | None = None
    """Frames up to where decoding breaks off; None where it was not met."""

    def answers(
        self, plan_of: Callable[[Clip], FramePlan], questions: Sequence[str], history: Sequence[Turn] = ()
    ) -> tuple[list[ModelAnswer], FramePlan]:
        """An answer to each question about the frames that `plan_of` the clip shows. It is asked again with
        the clip's beginning where the rest does not decode; fewer frames are shown where all do not fit into
        memory. The plan that is returned says what was shown."""
        made_room, visual, clip = False, None, self.clip
        plan = plan_of(clip)
        while True:
            self.seen = len(plan.seen)
            try:
                visual = self.look(plan.seen)
                if len(questions) == 1:
                    return [self.ask(questions[0], visual, history=history)], plan
                return self.ask_all(questions, visual, history=history), plan
            except MediaUnreadableError:
                if self.readable is not None:
                    raise
                clip = self.clip.readable()
                self.readable = len(clip)
                if not 0 < len(clip) < len(self.clip):
                    raise
                plan = plan_of(clip)
                continue
            except OutOfMemoryError:
                # A conversation is about the frames that it began with.
                fewer = plan if history else fewer_seen(plan, clip)
                if made_room and fewer == plan:
                    raise
            visual = None  # before room is made
            self.runtime.make_room()
            if made_room:
                plan = fewer
                self.runtime.tally.saw(len(plan.seen))
            made_room = True

    def look(self, positions: Sequence[int]) -> VisualInput:
        """Visual tokens of the frames at `positions`, computed once for all questions."""
        with self._stage("look"):
            self.on_progress(Progress("look", 0, len(positions), "looking at the key frames"))
            key = self._seen_key(positions, video=self.clip.is_video)
            visual = self.runtime.recall(key)
            if visual is None:
                pictures = self.clip.pictures(positions)
                visual = self.runtime.look(pictures, video=self.clip.is_video, key=key, cancel=self.cancel)
            self.on_progress(Progress("look", len(positions), len(positions)))
            return visual

    def _seen_key(self, positions: Sequence[int], *, video: bool) -> Hashable:
        return "frames", video, *(self.clip.key_of(position) for position in positions)

    def ask(self, question: str, visual: VisualInput, *, history: Sequence[Turn] = ()) -> ModelAnswer:
        writing = Writing(self.on_progress, "the answer")
        with self._stage("answer"):
            return self.runtime.answer(
                question,
                visual,
                history=history,
                max_new_tokens=self.max_new_tokens,
                cancel=self.cancel,
                on_token=writing.on_token,
                on_text=writing.on_text,
            )

    def ask_all(
        self, questions: Sequence[str], visual: VisualInput, *, history: Sequence[Turn] = ()
    ) -> list[ModelAnswer]:
        """One answer per question, written together; none of the questions hears of the others."""
        what = "the answer" if len(questions) == 1 else f"{len(questions)} answers"
        with self._stage("answer"):
            return self.runtime.answer_all(
                questions,
                visual,
                history=history,
                max_new_tokens=self.max_new_tokens,
                cancel=self.cancel,
                on_token=Writing(self.on_progress, what).on_token,
            )

    def caption(
        self, picture: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]], question: str
    ) -> list[RegionAnswer]:
        """One answer per region of `picture`, the clip's only frame, which is looked at once."""
        visual = None
        if self.runtime.capabilities.caption_region:
            with self._stage("look"):
                self.on_progress(Progress("look", 0, 1, "looking at the picture"))
                key = self._seen_key((0,), video=False)
                look = partial(self.runtime.look, [picture], video=False, key=key, cancel=self.cancel)
                visual = self.runtime.recall(key) or self._with_room(look)
        answers = []
        for number, mask in enumerate(masks, start=1):
            writing = Writing(self.on_progress, f"the answer {number} of {len(masks)}")
            with self._stage("answer"):
                answer = self._with_room(
                    partial(
                        self.runtime.caption,
                        picture,
                        mask,
                        question,
                        visual=visual,
                        max_new_tokens=self.max_new_tokens,
                        cancel=self.cancel,
                        on_token=writing.on_token,
                        on_text=writing.on_text,
                    )
                )
            answers.append(answer)
        return answers

    def masks_from_points(
        self, frame_index: int, picture: NDArray[np.uint8], prompts: Sequence[PointPrompt]
    ) -> NDArray[np.bool_]:
        """`picture` is that source frame."""
        with self._stage("segment"):
            key = frame_key(self.clip.media, frame_index)
            point = partial(self.runtime.masks_from_points, picture, prompts, key=key, cancel=self.cancel)
            return self._with_room(point).masks

    def _with_room(self, work: Callable[[], Made]) -> Made:
        """What `work` makes; where memory lacks, once more without what is kept."""
        try:
            return work()
        except OutOfMemoryError:
            if not self.runtime.cache.bytes:
                raise
        self.runtime.make_room()
        return work()

    def propagate_words(
        self, plan: FramePlan, seg_prompts: NDArray[np.float32]
    ) -> tuple[list[MaskTrack], FramePlan]:
        """One track per [SEG], all in one pass over the frames, and the plan that was kept to: with fewer key
        frames where they do not all fit into memory."""
        if not len(seg_prompts):
            return [], plan
        while True:
            try:
                with self._stage("propagate"):
                    walk = self.runtime.masks_from_words(
                        self.clip,
                        seg_prompts,
                        mode=plan.mode,
                        key_positions=plan.keys,
                        wishes=self.wishes,
                        cancel=self.cancel,
                    )
                    return self._followed(walk, len(seg_prompts), len(plan.keys)), plan
            except OutOfMemoryError:
                fewer = fewer_keys(plan)
                if fewer == plan:
                    raise
            # Each of them is attended to by every frame, however small the groups and batches have become.
            plan = fewer
            self.runtime.make_room()
            self.runtime.tally.began_on(len(plan.keys))

    def propagate_masks(self, masks: NDArray[np.bool_], position: int) -> list[tuple[MaskTrack, bool]]:
        """One track per mask given at `position`, both ways; there it is as it was given. The second value of
        each is False where the mask was too small for the model to see anything in it."""
        with self._stage("propagate"):
            walk = self.runtime.masks_from_masks(
                self.clip, masks, position, wishes=self.wishes, cancel=self.cancel
            )
            tracks = self._followed(walk, len(masks), 1)
            frame = self.clip.frame_indices[position]
            return [
                (track.given(frame, rle.encode(mask)), bool(track.mask(frame).any()))
                for track, mask in zip(tracks, masks, strict=True)
            ]

    def _followed(
        self, walk: Generator[FrameMasks, None, None], objects: int, key_frames: int
    ) -> list[MaskTrack]:
        """Told beforehand what it will come to, and learnt from afterwards."""
        runtime, frames = self.runtime, len(self.clip)
        before, began = runtime.tally.encoder_passes, time.perf_counter()
        self.objects, self.key_frames = objects, key_frames
        lacking, megapixels = frames - runtime.kept_frames(self.clip), prod(self.clip.media.size_wh) / 1e6
        seconds = runtime.speed.seconds(lacking, frames * objects, megapixels)
        told = "" if seconds is None else f", about {seconds:.1f} s"
        words = f"{frames} frame(s), {objects} object(s){told}, {self._wanted_gib:.1f} GiB"
        self.on_progress(Progress("plan", 0, None, words))
        from sa2va_tools.model.out_of_memory import memory_guard  # torch is here once a model is

        # Closed at once, for an error that somebody keeps would keep the walk, with its tensors.
        with memory_guard("The masks at full size"), closing(walk):
            tracks = collect_tracks(self.clip, walk, objects, self.on_progress)
        self.followed = len(tracks[0].frame_indices)
        passes = runtime.tally.encoder_passes - before
        if not runtime.tally.relief:  # retries would count for the usual way
            took = time.perf_counter() - began
            runtime.speed.learn(passes, self.followed * objects, took, megapixels)
        return tracks

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """In this block a refusal for lack of memory tells what was wanted, is free and was tried."""
        try:
            yield
        except OutOfMemoryError as error:
            try:
                numbers = self._numbers()
            except MemoryError:  # it is as short as that
                raise error from None
            raise OutOfMemoryError(f"{error.message} {numbers}", hint=error.hint) from error

    def _numbers(self) -> str:
        """What was wanted, is free and was tried, in words."""
        free, tried = self.runtime.free_bytes, self.runtime.tally.relief
        width, height = self.clip.media.size_wh
        said = [
            f"Wanted: {len(self.clip)} frame(s) of {width}×{height}, {self.objects} object(s), "
            f"{self._wanted_gib:.1f} GiB with the weights.",
            "" if free is None else f"Free: {free / 2**30:.1f} GiB.",
            f"Tried before: {'; '.join(tried)}." if tried else "",
        ]
        return " ".join(filter(None, said))

    @property
    def _wanted_gib(self) -> float:
        """About."""
        wanted = self.runtime.memory_estimate(
            self.objects,
            video=self.clip.is_video,
            pixels=prod(self.clip.media.size_wh),
            seen=self.seen,
            key_frames=self.key_frames,
        )
        return wanted.total / 2**30

    @property
    def _reached(self) -> int:
        """Frames of the clip that could be used."""
        return next(count for count in (self.followed, self.readable, len(self.clip)) if count is not None)

    def provenance(self, mode: str, seen: Sequence[int]) -> Provenance:
        """`seen` are positions that the language model saw."""
        facts = self.runtime.facts
        return Provenance(
            checkpoint=self.runtime.name,
            revision=self.runtime.revision,
            family=self.runtime.config.family_name,
            mode=mode,
            key_frames=self.clip.sources(tuple(seen)),
            frames=self.followed or 0,
            size_wh=self.clip.media.size_wh,
            device=facts.device,
            dtype=facts.dtype,
            version=__version__,
            timings_s={name: round(seconds, 4) for name, seconds in self.seconds.items()},
            complete=self.clip.media.complete and self._reached == len(self.clip),
            encoder_passes=self.runtime.tally.encoder_passes,
            relief=tuple(self.runtime.tally.relief),
            gate_by_object_score=self.wishes.gate,
            threshold=float(self.wishes.threshold),
            smooth=self.wishes.smooth,
        )

    def warnings(self, answers: Sequence[ModelAnswer] = (), asked: Sequence[str] = ()) -> list[str]:
        """What is to be said of the media, the checkpoint, the user's own words `asked` and the answers."""
        said = [*self.clip.media.warnings, *self._warnings_of_world(asked)]
        if self._reached < len(self.clip):
            got = "could be read" if self.followed is None else "got masks"
            said.append(
                f"{self.clip.media.name} breaks off while it is decoded: {self._reached} of {len(self.clip)} "
                f"frames {got}."
            )
        if any(answer.truncated for answer in answers):
            said.append(f"An answer was cut off at {self.max_new_tokens} tokens.")
        return said

    def _warnings_of_world(self, asked: Sequence[str]) -> list[str]:
        config, name = self.runtime.config, self.runtime.name
        if config.world is None:
            return []
        said = []
        strange = unknown_words(asked, config.world_words) if config.world_words else []
        if strange:
            listed = ", ".join(f'"{word}"' for word in strange[:_WORDS_SHOWN])
            more = f" and {len(strange) - _WORDS_SHOWN} more" if len(strange) > _WORDS_SHOWN else ""
            said.append(f"{name} never learnt {listed}{more}: expect a guess, or an answer to the rest.")
        known = config.world if strange else config.world.partition(":")[0]
        return [*said, f"{name} is a demo model of a toy world ({known}); the rest is guessed."]

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
