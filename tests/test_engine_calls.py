"""Repeated calls are answered from the store: exactly the same calls, completely, and only if nothing is
damaged or gone."""

from __future__ import annotations

import gzip
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from sa2va_tools import Run, Settings, load_engine
from sa2va_tools.engine import calls
from sa2va_tools.errors import CancelledError
from sa2va_tools.testing import FakeEngine, synthetic_clip
from sa2va_tools.tools.catalogue import find_tool

BOX = {"box_xyxy": (10, 10, 60, 50)}


class CountingEngine(FakeEngine):
    """Counts what it computes."""

    def __init__(self, store_dir, **options) -> None:
        super().__init__(store_dir, reuse_results=True, **options)
        self.computed = 0

    def _recorder(self, *args):
        recorder = super()._recorder(*args)
        return _CountingRecorder(recorder, self)


class _CountingRecorder:
    """A recorder that tells when an answer is recorded."""

    def __init__(self, recorder, engine) -> None:
        self._recorder = recorder
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._recorder, name)

    def record_answer(self, *args, **options):
        self._engine.computed += 1
        return self._recorder.record_answer(*args, **options)

    def record_captions(self, *args, **options):
        self._engine.computed += 1
        return self._recorder.record_captions(*args, **options)


@pytest.fixture
def media(tmp_path):
    return synthetic_clip(tmp_path / "clip.mp4", frames=6)


@pytest.fixture
def engine(tmp_path):
    return CountingEngine(tmp_path / "store")


CALLS = {
    "describe": lambda engine, media: engine.describe(media, "What is there?"),
    "segment": lambda engine, media: engine.segment(media, ["a box", "a unicorn", "a box"]),
    "ground": lambda engine, media: engine.ground(media),
    "caption": lambda engine, media: engine.caption_region(media, [BOX, (5, 5, 30, 30)], frame_index=2),
    "track": lambda engine, media: engine.track(media, BOX, frame_index=1, stride=2),
}


def as_fresh(result):
    """The result without the note that it comes from the store."""
    return replace(result, provenance=replace(result.provenance, from_store=False))


@pytest.mark.parametrize("name", CALLS)
def test_a_repeated_call_gives_the_whole_result_again(engine, media, name):
    first = CALLS[name](engine, media)
    again = CALLS[name](engine, media)
    assert engine.computed == 1
    assert not first.provenance.from_store and again.provenance.from_store
    assert as_fresh(again) == first


def test_masks_of_a_result_from_the_store_can_be_used_like_others(engine, media, tmp_path):
    first, again = (engine.segment(media, "a box") for _ in range(2))
    assert np.array_equal(again["a box"].mask(3), first["a box"].mask(3))
    assert again.save(tmp_path / "out", ["json"])
    more = engine.extend(again.handle, "a ball")
    assert engine.extend(first.handle, "a ball").provenance.from_store
    assert [item.label for item in more.objects] == ["a box", "a ball"]
    assert engine.computed == 2


def test_another_engine_and_another_name_of_the_file_find_the_same_answer(engine, media, tmp_path):
    first = engine.segment(media, "a box")
    other = CountingEngine(tmp_path / "store")
    copy = shutil.copy(media, tmp_path / "copy.mp4")
    for source in (copy, first.media.handle, first.objects[0].handle):
        assert other.segment(source, "a box", stride=1).handle == first.handle
    assert other.segment(copy, "a box").media.name == "copy.mp4"
    assert other.computed == 0


DIFFERENT = {
    "other words": lambda engine, media: engine.segment(media, "a ball"),
    "one more word": lambda engine, media: engine.segment(media, ["a box", "a ball"]),
    "repeated words": lambda engine, media: engine.segment(media, ["a box", "a box"]),
    "a shorter range": lambda engine, media: engine.segment(media, "a box", end_s=0.3),
    "a stride": lambda engine, media: engine.segment(media, "a box", stride=2),
    "a threshold": lambda engine, media: engine.segment(media, "a box", threshold=0.6),
    "smoothing": lambda engine, media: engine.segment(media, "a box", smooth=True),
    "no gate": lambda engine, media: engine.segment(media, "a box", gate_by_object_score=False),
    "a mode": lambda engine, media: engine.segment(media, "a box", mode="sa2va-i"),
    "frames seen": lambda engine, media: engine.segment(media, "a box", llm_frames=2),
    "a conversation": lambda engine, media: engine.segment(
        media, "a box", after=engine.describe(media, "What?").handle
    ),
    "another kind": lambda engine, media: engine.ground(media, "a box"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_call_that_differs_in_anything_is_computed(engine, media, name):
    engine.segment(media, "a box")
    assert not DIFFERENT[name](engine, media).provenance.from_store


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Which colour?"},
        {"llm_frames": 2},
        {"max_new_tokens": 7},
        {"start_s": 0.2},
        {"after": True},
    ],
    ids=str,
)
def test_a_description_that_differs_in_anything_is_computed(engine, media, change):
    first = engine.describe(media)
    if "after" in change:
        change = {"after": first.handle}
    assert not engine.describe(media, **change).provenance.from_store
    assert engine.describe(media, **change).provenance.from_store


def test_another_frame_or_region_is_computed(engine, media):
    engine.caption_region(media, BOX, frame_index=1)
    for call in (
        lambda: engine.caption_region(media, BOX, frame_index=2),
        lambda: engine.caption_region(media, (10, 10, 60, 51), frame_index=1),
        lambda: engine.caption_region(media, [BOX, BOX], frame_index=1),
        lambda: engine.caption_region(media, BOX, "Why?", frame_index=1),
        lambda: engine.track(media, BOX, frame_index=1),
    ):
        assert not call().provenance.from_store


def test_a_file_with_other_content_under_the_same_name_is_computed(engine, media):
    first = engine.segment(media, "a box")
    content = media.read_bytes()
    synthetic_clip(media, frames=6, size_wh=(100, 64))
    assert not engine.segment(media, "a box").provenance.from_store
    media.write_bytes(content)
    assert engine.segment(media, "a box").handle == first.handle
    assert engine.computed == 2


def test_frames_in_memory_are_the_same_if_pixels_and_rate_are(engine):
    frames = np.zeros((4, 48, 64, 3), np.uint8)
    engine.segment(frames, "a box", fps=10)
    assert engine.segment(frames.copy(), "a box", fps=10).provenance.from_store
    assert not engine.segment(frames, "a box", fps=20).provenance.from_store


def test_numbers_of_numpy_are_numbers(engine, media):
    first = engine.segment(media, "a box", llm_frames=3, threshold=0.25, smooth=True, end_s=0.4)
    numbers = {"llm_frames": np.int64(3), "threshold": np.float64(0.25), "smooth": np.bool_(True)}
    again = engine.segment(media, "a box", end_s=np.float64(0.4), **numbers)
    assert again.provenance.from_store and again.handle == first.handle
    engine.track(media, BOX, frame_index=np.int64(2))
    assert engine.track(media, BOX, frame_index=2).provenance.from_store


def test_another_version_of_the_code_computes(engine, media, monkeypatch):
    engine.segment(media, "a box")
    monkeypatch.setattr(calls, "_describe_code", lambda: {"source": "changed"})
    assert not engine.segment(media, "a box").provenance.from_store


@pytest.mark.parametrize("kind", ["call", "answer", "mask"])
@pytest.mark.parametrize("harm", ["delete", "cut", "swap", "nonsense"])
def test_what_is_damaged_or_gone_is_computed_again_and_is_whole_then(engine, media, kind, harm):
    first = engine.segment(media, "a box")
    (file,) = (engine.library.store.root / "v3" / kind).iterdir()
    if harm == "delete":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif harm == "swap":
        other = FakeEngine(engine.library.store.root.with_name("other"), reuse_results=True)
        other.segment(media, "a ball")
        (foreign,) = (other.library.store.root / "v3" / kind).iterdir()
        file.write_bytes(foreign.read_bytes())
    else:
        file.write_bytes(gzip.compress(b'{"format": "sa2va-call/1", "outcome": [1, {"answer": 3}]}'))
    again = engine.segment(media, "a box")
    assert not again.provenance.from_store and again == first
    assert engine.segment(media, "a box").provenance.from_store
    assert engine.view(again.handle).legend


def test_an_answer_is_not_lost_if_it_cannot_be_noted(engine, media):
    root = engine.library.store.root
    (root / "v3").mkdir(parents=True)
    (root / "v3" / "call").write_bytes(b"in the way")
    for _ in range(2):
        result = engine.segment(media, "a box")
        assert result.objects[0].found and not result.provenance.from_store
        assert any("will be computed again" in warning for warning in result.warnings)


def test_nothing_of_a_cancelled_call_is_served(engine, media):
    run = Run(lambda progress: run.cancel() if (progress.stage, progress.done) == ("propagate", 3) else None)
    with pytest.raises(CancelledError):
        engine.segment(media, ["a box", "a ball"], run=run)
    result = engine.segment(media, ["a box", "a ball"])
    assert not result.provenance.from_store and len(result.objects) == 2


class HeldEngine(CountingEngine):
    """Its work waits for `release`, unless it is cancelled."""

    def __init__(self, store_dir) -> None:
        super().__init__(store_dir)
        self.working = threading.Event()
        self.release = threading.Event()

    def _drift(self, recorder, label, span=None):
        self.working.set()
        while not self.release.wait(0.005):
            recorder.run.raise_if_cancelled()
        return super()._drift(recorder, label, span)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_an_equal_call_waits_for_the_running_one_and_takes_its_answer(media, tmp_path, is_cancelled):
    engine = HeldEngine(tmp_path / "store")
    handle = engine.find_media(media).handle
    told, waits = [], threading.Event()
    first_run = Run()

    def hear(progress):
        told.append(progress.message)
        if progress.stage == "waiting":
            waits.set()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(engine.segment, media, "a box", run=first_run)
        assert engine.working.wait(60)
        second = threads.submit(engine.segment, handle, "a box", run=Run(hear))
        assert waits.wait(60)
        if is_cancelled:
            engine.working.clear()
            first_run.cancel()
            assert isinstance(first.exception(60), CancelledError)
            assert engine.working.wait(60), "the second call does the work then"
        engine.release.set()
        result = second.result(60)
    assert "segment of clip.mp4 runs" in told[1]
    assert engine.computed == 1 and result.objects[0].found
    assert result.provenance.from_store is not is_cancelled


def test_reuse_can_be_switched_off(media, tmp_path):
    engine = FakeEngine(tmp_path / "store")
    assert not [engine.segment(media, "a box") for _ in range(2)][1].provenance.from_store
    assert CountingEngine(tmp_path / "store").segment(media, "a box").provenance.from_store


def test_tools_say_in_words_and_in_structure_that_the_answer_was_stored(engine, media):
    tool = find_tool("segment_by_text")
    arguments = tool.parse({"media": str(media), "expressions": "a box"})
    first, again = (tool.run(engine, arguments, Run()) for _ in range(2))
    assert "from_store" not in first.as_dict()["provenance"] and "store" not in first.text
    assert again.as_dict()["provenance"]["from_store"] is True
    assert again.text.startswith(first.text) and "the same call was computed before" in again.text


# ---- with the nano --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(device="cpu", store_dir=tmp_path_factory.mktemp("store"))


REAL_CALLS = {
    "describe": lambda engine, media: engine.describe(media),
    "segment": lambda engine, media: engine.segment(
        media, ["the red square", "a purple elephant"], gate_by_object_score=False
    ),
    "ground": lambda engine, media: engine.ground(media),
    "caption": lambda engine, media: engine.caption_region(media, (10, 10, 40, 40)),
    "track": lambda engine, media: engine.track(media, (10, 10, 40, 40), frame_index=2),
    "caption of a track": lambda engine, media: engine.caption_region(
        media, engine.track(media, (10, 10, 40, 40), frame_index=2).objects[0].handle, frame_index=4
    ),
}


@pytest.mark.parametrize("name", REAL_CALLS)
def test_the_nano_answers_repeated_calls_without_being_loaded(settings, clip, name):
    with load_engine(settings=settings) as engine:
        first = REAL_CALLS[name](engine, clip)
        repeated = REAL_CALLS[name](engine, clip)
    with load_engine(settings=settings) as engine:
        later = REAL_CALLS[name](engine, clip)
        assert not engine.host.cache_counts(), "the weights were loaded"
    assert as_fresh(repeated) == as_fresh(later) == first
    assert later.provenance.from_store and later.provenance.timings_s == first.provenance.timings_s


def test_another_checkpoint_dtype_or_limit_computes(settings, clip, tmp_path):
    from sa2va_tools.model.hub.names import NANO_FOLDER

    copy = shutil.copytree(NANO_FOLDER, tmp_path / "copy")
    with load_engine(settings=settings) as engine:
        engine.describe(clip, "What is there?")
    for changes in ({"model": str(copy)}, {"dtype": "bfloat16"}, {"max_new_tokens": 5}):
        with load_engine(settings=settings.model_copy(update=changes)) as engine:
            assert not engine.describe(clip, "What is there?").provenance.from_store, changes


def test_a_stream_makes_its_masks_anew_and_its_result_is_found_later(settings, clip):
    with load_engine(settings=settings) as engine:
        with engine.stream(clip, "the square") as stream:
            result = stream.wait()
        assert engine.segment(clip, "the square").provenance.from_store
        with engine.stream(clip, "the square") as stream:
            assert len(list(stream)) == 16
        assert not stream.result.provenance.from_store and stream.result.handle == result.handle
