"""A fake engine for tests of the layers above the model.

It opens the media, checks arguments and stores its results as the real engine does, but never loads a model:
its masks are rectangles whose place follows from the words, its answers are fixed sentences. It is
deterministic and needs no torch. It never stands in where a real engine is meant to run.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sa2va_tools import __version__
from sa2va_tools.engine.calls import Call, Calls
from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.conversation import Conversation, load_conversation
from sa2va_tools.engine.frame_plan import FramePlan
from sa2va_tools.engine.lane import Lane
from sa2va_tools.engine.library import Library, OpenedMedia
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.engine.options import DescribeOptions, FrameRange, SegmentOptions, TrackOptions
from sa2va_tools.engine.previous_result import load_previous_result, make_extension
from sa2va_tools.engine.protocol import MediaInput
from sa2va_tools.engine.recording import Recorder, as_segment_result
from sa2va_tools.engine.regions import Region
from sa2va_tools.engine.requests import Expressions, caption_question, describe_question, ground_question
from sa2va_tools.engine.results import AnswerResult, CaptionResult, Provenance, RegionCaption, SegmentResult
from sa2va_tools.engine.store_backed import StoreBackedEngine
from sa2va_tools.masks import rle
from sa2va_tools.masks.rle import Rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.sampling import first_positions
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.model.output import DEFAULT_MASK_OPTIONS, MaskOptions
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits
from sa2va_tools.store.store import Store
from sa2va_tools.testing.clips import ShapeAt, drifting, rectangles_around, still

ABSENT_WORD = "unicorn"
"""An expression with this word is not found."""
LLM_FRAMES = 5


class FakeEngine(StoreBackedEngine):
    """See the module. Without `store_dir` its store is a temporary folder that is deleted with the engine.

    With `reuse_results` it answers repeated calls from its store, as the real engine does by default.
    """

    def __init__(
        self,
        store_dir: Path | None = None,
        *,
        access: AccessPolicy | None = None,
        limits: MediaLimits | None = None,
        reuse_results: bool = False,
    ) -> None:
        if store_dir is None:
            store_dir = Path(tempfile.mkdtemp(prefix="sa2va-fake-"))
            self._remove_store = weakref.finalize(self, shutil.rmtree, store_dir, ignore_errors=True)
        super().__init__(Library(Store(store_dir), access or AccessPolicy(None), limits or MediaLimits()))
        self.calls = Calls(self.library, Lane(), lambda run: {"name": "fake"}, reuse=reuse_results)

    def close(self) -> None:
        """There is no model to release; handles stay valid as long as the engine lives."""

    def _describe(
        self, media: MediaInput, question: str | None, options: DescribeOptions, run: Run
    ) -> AnswerResult:
        recorder, _, conversation = self._start(media, options, run)
        ref = recorder.opened.ref
        asked = describe_question(question, video=recorder.clip.is_video)

        def compute() -> AnswerResult:
            width, height = ref.size_wh
            text = f"This {ref.kind} has {width} by {height} pixels."
            run.report("answer", 1, text=text)
            turns = _add_turns(conversation, [asked], [text])
            return recorder.record_answer("describe", asked, text, text, turns=turns)

        return self.calls.answer(_make_call("describe", recorder, options, question=question), compute)

    def _start_segment(
        self, media: MediaInput, expressions: Expressions, options: SegmentOptions, run: Run
    ) -> tuple[Call, Generator[FrameResult, None, SegmentResult]]:
        recorder, plan, conversation = self._start(media, options, run)

        def work() -> Generator[FrameResult, None, SegmentResult]:
            objects = [self._drift(recorder, label) for label in expressions.texts]
            yield from _stream_frames(recorder.clip, objects)
            answers = [f"Here is {label}." for label in expressions.texts]
            turns = _add_turns(conversation, expressions.texts, answers)
            return _record_segment(recorder, plan, expressions, objects, answers, turns)

        return _make_call("segment", recorder, options, **asdict(expressions)), work()

    def _extend(self, answer: str, expressions: Expressions, run: Run) -> SegmentResult:
        previous = load_previous_result(self.library, answer, run)
        new = previous.select_new(expressions)
        plan = _plan(previous.clip, previous.options.mode, None)
        recorder = self._recorder(previous.opened, previous.clip, plan, run, previous.options)

        def compute() -> SegmentResult:
            objects = [*previous.objects, *(self._drift(recorder, label) for label in new.texts)]
            labels = Expressions((*previous.labels, *new.texts), new.warnings)
            answers = [text for _, text in previous.answers] + [f"Here is {label}." for label in new.texts]
            return _record_segment(recorder, plan, labels, objects, answers, ())

        return self.calls.answer(_make_call("extend", recorder, **asdict(new), answer=answer), compute)

    def _ground(
        self, media: MediaInput, question: str | None, options: SegmentOptions, run: Run
    ) -> AnswerResult:
        recorder, plan, conversation = self._start(media, options, run)
        text = "There is a box and another shape."
        asked = ground_question(question, video=recorder.clip.is_video)

        def compute() -> AnswerResult:
            objects = []
            for phrase in ("a box", "another shape"):
                start = text.index(phrase)
                objects.append(self._drift(recorder, phrase, (start, start + len(phrase))))
            turns = _add_turns(conversation, [asked], [text])
            extension = make_extension(plan, recorder.clip, objects)
            return recorder.record_answer(
                "ground", asked, text, text, objects, turns=turns, extension=extension
            )

        return self.calls.answer(_make_call("ground", recorder, options, question=question), compute)

    def _caption_region(
        self,
        media: MediaInput,
        regions: Sequence[Region],
        question: str | None,
        frame_index: int | None,
        run: Run,
    ) -> CaptionResult:
        opened = self._open(media, run)
        frame = self._choose_frame(regions, opened, frame_index, run)
        clip = Clip(opened.media, (frame,), run)
        recorder = self._recorder(opened, clip, FramePlan("image", (0,), ()), run)
        marked, warnings = self._mark_regions(opened, regions, frame, run)

        def compute() -> CaptionResult:
            captions = []
            for label, mask in marked:
                item = self._record(recorder, label, still(mask))
                captions.append(RegionCaption(item, f"This region covers {rle.area(mask)} pixels."))
            text = "\n".join(caption.text for caption in captions)
            return recorder.record_captions(caption_question(question), captions, text, warnings)

        pointed = [region.model_dump(mode="json") for region in regions]
        return self.calls.answer(_make_call("caption", recorder, regions=pointed, question=question), compute)

    def _track(
        self, media: MediaInput, regions: Sequence[Region], options: TrackOptions, run: Run
    ) -> SegmentResult:
        opened, clip, frame = self._open_tracked_clip(media, regions, options, run)
        position = clip.find_positions([frame])
        plan = FramePlan("track" if clip.is_video else "image", position, position)
        recorder = self._recorder(opened, clip, plan, run, options)
        marked, warnings = self._mark_regions(opened, regions, frame, run)

        def compute() -> SegmentResult:
            objects = [self._record(recorder, label, still(mask)) for label, mask in marked]
            labels = "\n".join(label for label, _ in marked)
            answer = recorder.record_answer("track", labels, "", "", objects, warnings)
            return as_segment_result(answer)

        pointed = [region.model_dump(mode="json") for region in regions]
        call = _make_call("track", recorder, options, regions=pointed, frame_index=frame)
        return self.calls.answer(call, compute)

    def _start(
        self, media: MediaInput, options: DescribeOptions | SegmentOptions, run: Run
    ) -> tuple[Recorder, FramePlan, Conversation]:
        """Open the media and the conversation, and choose the frames."""
        opened, clip = self._open_clip(media, options, run)
        conversation = load_conversation(self.library, options.after, opened, clip)
        masks = options if isinstance(options, SegmentOptions) else None
        plan = _plan(clip, "chat" if masks is None else masks.mode, options.llm_frames)
        plan = conversation.apply_to(plan, clip)
        return self._recorder(opened, clip, plan, run, masks), plan, conversation

    def _recorder(
        self, opened: OpenedMedia, clip: Clip, plan: FramePlan, run: Run, options: MaskOptions | None = None
    ) -> Recorder:
        """Without `options` there will be no masks."""
        shown = options or DEFAULT_MASK_OPTIONS
        provenance = Provenance(
            checkpoint="fake",
            revision="none",
            family="fake",
            mode=plan.mode,
            llm_frames=clip.source_frames(plan.llm_positions),
            prompt_frames=clip.source_frames(plan.prompt_positions),
            frames=0 if options is None else len(clip),
            size_wh=opened.ref.size_wh,
            device="cpu",
            dtype="none",
            version=__version__,
            gate_by_object_score=shown.gate_by_object_score,
            threshold=shown.threshold,
            smooth=shown.smooth,
        )
        return Recorder(self.library, opened, clip, provenance, run)

    def _drift(self, recorder: Recorder, label: str, span: tuple[int, int] | None = None) -> MaskObject:
        return self._record(recorder, label, drifting(label, recorder.opened.ref.size_wh), span)

    def _record(
        self, recorder: Recorder, label: str, shape_at: ShapeAt, span: tuple[int, int] | None = None
    ) -> MaskObject:
        frames = recorder.clip.frame_indices
        run = recorder.run
        size_wh = recorder.opened.ref.size_wh
        rles = []
        for done, frame in enumerate(frames, start=1):
            run.raise_if_cancelled()
            rles.append(shape_at(frame))
            run.report("propagate", done, len(frames), label)
        if ABSENT_WORD in label:
            return MaskObject.missing(label, size_wh, "The model answered without a mask.", span)
        ones = (1.0,) * len(frames)
        return recorder.record_object(label, MaskTrack(size_wh, frames, tuple(rles), ones, ones), span)

    def _mark_regions(
        self, opened: OpenedMedia, regions: Sequence[Region], frame_index: int, run: Run
    ) -> tuple[list[tuple[str, Rle]], tuple[str, ...]]:
        """Labels and masks, and warnings; points and boxes become the rectangle around them."""
        marked = self._check_regions(regions, opened, frame_index, run)
        masks = marked.make_masks(lambda prompts: rectangles_around(prompts, opened.ref.size_wh))
        named = [(label, rle.encode(mask)) for label, mask in zip(marked.labels, masks, strict=True)]
        return named, marked.warnings


def _make_call(kind: str, recorder: Recorder, options: FrameRange | None = None, **asked: object) -> Call:
    given = {} if options is None else asdict(options)
    return Call.of(kind, recorder.opened, recorder.clip, given | asked)


def _add_turns(
    conversation: Conversation, questions: Sequence[str], answers: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    earlier = ((turn.question, turn.answer) for turn in conversation.turns)
    return (*earlier, *zip(questions, answers, strict=True))


def _plan(clip: Clip, mode: str, llm_frames: int | None) -> FramePlan:
    if not clip.is_video:
        return FramePlan("image", (0,), (0,))
    positions = first_positions(len(clip), llm_frames or LLM_FRAMES)
    return FramePlan("sa2va" if mode == "auto" else mode, positions, positions)


def _stream_frames(clip: Clip, objects: Sequence[MaskObject]) -> Iterator[FrameResult]:
    found = [item for item in objects if item.found]
    for frame in clip.frame_indices if found else ():
        times = clip.times_s([frame])
        yield FrameResult(
            index=frame,
            time_s=times[0] if times else None,
            labels=tuple(item.label for item in found),
            masks=np.stack([item.mask(frame) for item in found]),
            scores=np.ones(len(found), np.float32),
        )


def _record_segment(
    recorder: Recorder,
    plan: FramePlan,
    expressions: Expressions,
    objects: Sequence[MaskObject],
    answers: Sequence[str],
    turns: tuple[tuple[str, str], ...],
) -> SegmentResult:
    text = "\n".join(answers)
    pairs = list(zip(expressions.texts, answers, strict=False))
    answer = recorder.record_answer(
        "segment",
        "\n".join(expressions.texts),
        text,
        text,
        objects,
        expressions.warnings,
        turns=turns,
        extension=make_extension(plan, recorder.clip, objects, pairs),
    )
    return as_segment_result(answer, tuple(answers))
