"""One call's work on the model: encode frames, generate answers, track, record provenance."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sa2va_tools import __version__
from sa2va_tools.engine.clip import Clip, frame_cache_key
from sa2va_tools.engine.conversation import Conversation
from sa2va_tools.engine.frame_plan import FramePlan
from sa2va_tools.engine.library import Library, OpenedMedia
from sa2va_tools.engine.model_host import ModelHost
from sa2va_tools.engine.recording import Recorder
from sa2va_tools.engine.requests import find_unknown_words
from sa2va_tools.engine.results import Provenance
from sa2va_tools.engine.tracks import build_tracks
from sa2va_tools.errors import MediaUnreadableError, OutOfMemoryError
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.memory_errors import is_memory_error, quote_error
from sa2va_tools.model.output import (
    DEFAULT_MASK_OPTIONS,
    FrameMasks,
    MaskOptions,
    ModelAnswer,
    PointPrompt,
    RegionAnswer,
)
from sa2va_tools.run import Run
from sa2va_tools.wording import argument

if TYPE_CHECKING:
    from sa2va_tools.model.families.base import ImageFeatures
    from sa2va_tools.model.runtime.runtime import Session

_MAX_WORDS_SHOWN = 5
TrackFrames = Generator[FrameMasks, None, list[MaskTrack]]


class FramePlanner(Protocol):
    """Says which frames a call uses. Asked again with a shorter clip if the media breaks off."""

    def plan(self, clip: Clip) -> FramePlan: ...


@dataclass(slots=True)
class Job:
    """A loaded model, a clip, and the run that both belong to."""

    library: Library
    opened: OpenedMedia
    clip: Clip
    model: Session
    run: Run
    max_new_tokens: int
    options: MaskOptions = DEFAULT_MASK_OPTIONS
    plan: FramePlan | None = None
    """Of the frames that were used; None before that is known."""
    objects: int = 1
    """Tracked together."""
    tracked_frames: int | None = None
    """Frames that got masks; None before there were any."""
    readable_frames: int | None = None
    """Frames up to where decoding breaks off; None if it does not, or that was not noticed."""

    # ---- words --------------------------------------------------------------------------------

    def ask(
        self, planner: FramePlanner, questions: Sequence[str], conversation: Conversation
    ) -> list[ModelAnswer]:
        """One answer per question, independent of each other, about the planner's frames. If the media breaks
        off before one of these, they are chosen again from what can be decoded."""
        self.plan = planner.plan(self.clip)
        try:
            features = self._get_features(self.plan)
        except MediaUnreadableError:
            readable = self.clip.trim_to_readable()
            self.readable_frames = len(readable)
            if not 0 < len(readable) < len(self.clip):
                raise
            self.plan = planner.plan(readable)
            features = self._get_features(self.plan)
        return self.model.language.answer_all(
            questions, features, history=conversation.turns, max_new_tokens=self.max_new_tokens
        )

    def _get_features(self, plan: FramePlan) -> ImageFeatures:
        positions = plan.llm_positions
        video = self.clip.is_video
        self.run.report("look", 0, len(positions), "looking at the frames")
        key = ("frames", video, *(self.clip.cache_key(position) for position in positions))
        features = self.model.language.get_image_features(
            lambda: self.clip.read_pictures(positions), video=video, key=key
        )
        self.run.report("look", len(positions), len(positions))
        return features

    def caption(
        self, picture: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]], question: str
    ) -> list[RegionAnswer]:
        """One answer per region of `picture`, the clip's only frame, which is encoded once."""
        self.plan = FramePlan("image", (0,), ())
        features = None
        if self.model.runtime.capabilities.caption_region:
            self.run.report("look", 0, 1, "looking at the picture")
            key = ("frames", False, self.clip.cache_key(0))
            features = self.model.language.get_image_features(lambda: [picture], video=False, key=key)
        return [
            self.model.language.caption(
                picture,
                mask,
                question,
                features=features,
                max_new_tokens=self.max_new_tokens,
                label=f"the answer {number} of {len(masks)}",
            )
            for number, mask in enumerate(masks, start=1)
        ]

    # ---- masks --------------------------------------------------------------------------------

    def segment_points(
        self, frame_index: int, picture: NDArray[np.uint8], prompts: Sequence[PointPrompt]
    ) -> NDArray[np.bool_]:
        """(n, height, width) masks for points on `picture`, which is that source frame."""
        with self.run.timed("segment"):
            key = frame_cache_key(self.clip.media, frame_index)
            return self.model.masks.segment_points(picture, prompts, key=key).masks

    def track_words(self, seg_prompts: NDArray[np.float32]) -> TrackFrames:
        """Masks of all objects frame by frame, in one pass; returns one track per prompt embedding."""
        if not len(seg_prompts):
            return []
        assert self.plan is not None  # the prompts come from an answer
        self._announce(len(seg_prompts))
        frames = self.model.masks.track_words(
            self.clip,
            seg_prompts,
            mode=self.plan.mode,
            prompt_positions=self.plan.prompt_positions,
            options=self.options,
        )
        return (yield from self._track(frames))

    def track_masks(
        self, masks: NDArray[np.bool_], position: int
    ) -> Generator[FrameMasks, None, list[tuple[MaskTrack, bool]]]:
        """Track masks given at `position` both ways; there they stay as they were given. Returns each track,
        and whether the model could see anything in the mask."""
        mode = "track" if self.clip.is_video else "image"
        self.plan = FramePlan(mode, (position,), (position,))
        self._announce(len(masks))
        frames = self.model.masks.track_masks(self.clip, masks, position, options=self.options)
        tracks = yield from self._track(frames)
        frame = self.clip.frame_indices[position]
        return [
            (track.replace_mask(frame, rle.encode(mask)), bool(track.area(frame)))
            for track, mask in zip(tracks, masks, strict=True)
        ]

    def _track(self, frames: Generator[FrameMasks, None, None]) -> TrackFrames:
        with self.run.timed("propagate"), closing(frames):
            tracks = yield from build_tracks(self.clip, frames, self.objects, self.run)
        self.tracked_frames = len(tracks[0].frame_indices)
        return tracks

    def _announce(self, objects: int) -> None:
        """Say what the work amounts to, and refuse what certainly does not fit."""
        self.objects = objects
        prompt_frames = None if self.plan is None else len(self.plan.prompt_positions)
        self.model.runtime.require_working_memory(prompt_frames)
        size = f"{len(self.clip)} frame(s), {objects} object(s), {self._required_gib:.1f} GiB"
        self.run.report("plan", message=size)

    # ---- memory -------------------------------------------------------------------------------

    @property
    def _required_gib(self) -> float:
        """About how much memory the whole call needs."""
        from sa2va_tools.model.checkpoints.memory_estimate import Work

        plan = self.plan
        pixels = prod(self.clip.media.size_wh)
        together = min(self.objects, self.model.policy.sizes.objects)
        work = Work(
            objects=together,
            video=self.clip.is_video,
            llm_frames=len(plan.llm_positions) if plan else None,
            prompt_frames=len(plan.prompt_positions) if plan and plan.prompt_positions else None,
            frame_bytes=pixels * (self.objects + _FULL_SIZE_BYTES),
        )
        return self.model.runtime.estimate_memory(work).total / 2**30

    def refuse_for_memory(self, error: Exception) -> OutOfMemoryError:
        """The library's out-of-memory error as ours, with what is needed, what is free and what was tried."""
        free = self.model.runtime.free_bytes
        tried = self.run.stats.memory_fallbacks
        width, height = self.clip.media.size_wh
        message = (
            error.message
            if isinstance(error, OutOfMemoryError)
            else (f"Not enough memory{quote_error(error)}.")
        )
        parts = [
            message,
            f"Needed: about {self._required_gib:.1f} GiB with the weights, for {len(self.clip)} frame(s) of "
            f"{width}×{height} and {self.objects} object(s).",
            "" if free is None else f"Free: {free / 2**30:.1f} GiB.",
            f"Already tried: {'; '.join(tried)}." if tried else "",
        ]
        return OutOfMemoryError(
            " ".join(filter(None, parts)),
            hint="Use fewer objects or frames at once, smaller images or a smaller checkpoint, or reduce "
            f"{argument('llm_frames')}.",
        )

    # ---- the result ---------------------------------------------------------------------------

    def recorder(self) -> Recorder:
        """Where the results go. MediaUnreadableError if the file changed during the call."""
        recorder = Recorder(self.library, self.opened, self.clip, self._provenance(), self.run)
        recorder.require_unchanged_media()
        return recorder

    def _provenance(self) -> Provenance:
        assert self.plan is not None  # a result has frames
        runtime = self.model.runtime
        stats = self.run.stats
        info = runtime.device_info
        return Provenance(
            checkpoint=runtime.name,
            revision=runtime.revision,
            family=runtime.config.family_name,
            mode=self.plan.mode,
            llm_frames=self.clip.source_frames(self.plan.llm_positions),
            prompt_frames=self.clip.source_frames(self.plan.prompt_positions) if self.tracked_frames else (),
            frames=self.tracked_frames or 0,
            size_wh=self.clip.media.size_wh,
            device=info.device,
            dtype=info.dtype,
            version=__version__,
            timings_s={name: round(seconds, 4) for name, seconds in stats.timings_s.items()},
            complete=self.clip.media.complete and self._used_frames == len(self.clip),
            encoder_passes=stats.encoder_passes,
            memory_fallbacks=tuple(stats.memory_fallbacks),
            gate_by_object_score=self.options.gate_by_object_score,
            threshold=float(self.options.threshold),
            smooth=self.options.smooth,
        )

    @property
    def _used_frames(self) -> int:
        """Frames of the clip that could be used."""
        counts = (self.tracked_frames, self.readable_frames, len(self.clip))
        return next(count for count in counts if count is not None)

    def warnings(self, answers: Sequence[ModelAnswer] = (), texts: Sequence[str] = ()) -> list[str]:
        """What to tell the caller about missing frames, the checkpoint, unknown words and the answers."""
        warnings = self._world_warnings(texts)
        if self._used_frames < len(self.clip):
            verb = "could be read" if self.tracked_frames is None else "got masks"
            frames = f"only {self._used_frames} of its {len(self.clip)} frames"
            warnings.append(f"{self.clip.media.name} breaks off: {frames} {verb}.")
        if any(answer.truncated for answer in answers):
            warnings.append(f"An answer was cut off at {self.max_new_tokens} tokens.")
        return warnings

    def _world_warnings(self, texts: Sequence[str]) -> list[str]:
        """For a model of a toy world: what it knows, and which words it has never seen."""
        config = self.model.runtime.config
        name = self.model.runtime.name
        if config.world is None:
            return []
        warnings = []
        unknown = find_unknown_words(texts, config.world_words) if config.world_words else []
        if unknown:
            listed = ", ".join(f'"{word}"' for word in unknown[:_MAX_WORDS_SHOWN])
            rest = len(unknown) - _MAX_WORDS_SHOWN
            more = f" and {rest} more" if rest > 0 else ""
            warnings.append(
                f"{name} was not trained on {listed}{more}: the answer may be a guess, or ignore these words."
            )
        world = config.world if unknown else config.world.partition(":")[0]
        return [*warnings, f"{name} only knows a toy world ({world}); about anything else it guesses."]


_FULL_SIZE_BYTES = 24
"""Bytes per pixel of a decoded frame, the logits of one object while they are enlarged and cut, and its RLE.
The mask of each object takes one more."""


@contextmanager
def open_job(
    host: ModelHost,
    library: Library,
    opened: OpenedMedia,
    clip: Clip,
    run: Run,
    *,
    options: MaskOptions = DEFAULT_MASK_OPTIONS,
    max_new_tokens: int | None = None,
) -> Iterator[Job]:
    """The model at work on a clip. Raises what `ModelHost.use` does, and OutOfMemoryError with numbers."""
    limit = host.settings.max_new_tokens if max_new_tokens is None else max_new_tokens
    with host.use(run) as model:
        job = Job(library, opened, clip, model, run, limit, options)
        try:
            yield job
        except BaseException as error:
            # Features cached so far serve later calls, unless they are of a file that has changed.
            if library.has_changed(opened):
                model.runtime.cache.clear()
            if isinstance(error, Exception) and is_memory_error(error):
                raise job.refuse_for_memory(error) from error
            raise
