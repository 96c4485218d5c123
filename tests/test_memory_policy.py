"""When memory runs short: the cache is dropped, batches become smaller, masks stay equal, and the result says
so; at last an error with numbers, after which the engine works as before."""

from __future__ import annotations

import gc
import re
import resource
import threading
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sa2va_tools import Run, Settings, load_engine
from sa2va_tools.engine import exporting, store_backed
from sa2va_tools.errors import CancelledError, OutOfMemoryError
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.checkpoints.memory_estimate import Work, estimate_memory
from sa2va_tools.model.device import placement
from sa2va_tools.model.device.cache import ByteCache
from sa2va_tools.model.device.memory_policy import CACHE_DROPPED, BatchSizes, MemoryPolicy
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.sam2.modules import FrameFeatures, Sam2
from sa2va_tools.model.tracking.key_frame_prompts import LanguagePrompts
from sa2va_tools.model.tracking.tracker import MemoryBank, Tracker
from sa2va_tools.run import RunStats

FRAMES, OBJECTS = 9, 3
CPU = torch.device("cpu")
SMALLER_BATCHES, SMALLER_GROUPS = (
    "frames were encoded in smaller batches",
    "objects were tracked in smaller batches",
)


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(NANO_FOLDER, devices=(CPU,), dtype=torch.float32, run=Run())


@pytest.fixture(scope="module")
def sam2(checkpoint):
    return checkpoint.modules.sam2


@pytest.fixture
def engine(tmp_path):
    with load_engine(
        settings=Settings(device="cpu", store_dir=tmp_path / "store", reuse_results=False)
    ) as engine:
        yield engine


class Clip:
    def __init__(self):
        self.pictures = list(np.random.default_rng(5).integers(0, 255, (FRAMES, 30, 40, 3), dtype=np.uint8))

    def __len__(self):
        return FRAMES

    def cache_key(self, position):
        return "clip", position

    def frames(self, positions):
        return (self.pictures[position] for position in positions)


class Scarce:
    """A method of SAM-2 that has memory for `limit` frames or objects at once, counted by `size`; for none
    while `full` says so."""

    def __init__(self, monkeypatch, name, limit, size, full=lambda: False):
        self.sizes: list[int] = []
        whole = getattr(Sam2, name)

        def scarce(sam2, *given, **named):
            count = size(*given)
            self.sizes.append(count)
            if count > limit or full():
                raise torch.OutOfMemoryError(f"no room for {count}")
            return whole(sam2, *given, **named)

        monkeypatch.setattr(Sam2, name, scarce)


def count_objects(features, prediction, dtype):
    return len(prediction.logits)


def track(sam2, *, cache=None, objects=OBJECTS):
    """Statistics of tracking that many objects, and the masks."""
    run = Run()
    policy = MemoryPolicy(cache or ByteCache(0), BatchSizes(frames=8), run.stats)
    draw = torch.Generator().manual_seed(0)
    prompts = LanguagePrompts(torch.randn(objects, sam2.config.hidden_dim, generator=draw))
    frames = Tracker(sam2, policy, run, gate=False).propagate(Clip(), (0,), prompts)
    return run.stats, {frame.position: frame for frame in frames}


def share_of_equal_pixels(frames, others):
    assert sorted(frames) == sorted(others) == list(range(FRAMES))
    return min(np.mean(frames[at].masks == others[at].masks) for at in frames)


# ---- smaller steps --------------------------------------------------------------------------------


def test_batches_of_frames_stay_small_until_the_end_of_the_run(sam2, monkeypatch):
    _, usual = track(sam2)
    scarce = Scarce(monkeypatch, "encode", 3, len)
    stats, frames = track(sam2)
    assert share_of_equal_pixels(frames, usual) > 0.999
    assert scarce.sizes == [1, 8, 4, 2, 2, 2, 2] and stats.encoder_passes == FRAMES
    assert stats.memory_fallbacks == [SMALLER_BATCHES]


def test_groups_of_objects_stay_small_until_the_end_of_the_run(sam2, monkeypatch):
    _, usual = track(sam2)
    scarce = Scarce(monkeypatch, "encode_memory", 1, count_objects)
    stats, frames = track(sam2)
    assert share_of_equal_pixels(frames, usual) > 0.999
    assert scarce.sizes == [3, *[1] * (OBJECTS * FRAMES)] and stats.encoder_passes == FRAMES
    assert stats.memory_fallbacks == [SMALLER_GROUPS]


@pytest.mark.parametrize(("method", "size"), [("encode", len), ("encode_memory", count_objects)])
@pytest.mark.parametrize("objects", [1, OBJECTS])
def test_the_cache_is_dropped_before_batches_become_smaller(sam2, monkeypatch, method, size, objects):
    cache = ByteCache(2**26)
    cache.put("features", "other media", torch.zeros(1000), 4000)
    Scarce(monkeypatch, method, 8, size, full=lambda: ("features", "other media") in cache)
    stats, frames = track(sam2, cache=cache, objects=objects)
    assert len(frames) == stats.encoder_passes == FRAMES
    assert stats.memory_fallbacks == [CACHE_DROPPED] and cache.bytes == 0, "it is not filled again"


def test_other_errors_are_not_taken_for_a_lack_of_memory(sam2, monkeypatch):
    def broken(sam2, pixels):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Sam2, "encode", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        track(sam2)


def test_a_step_that_cannot_be_divided_is_tried_once_more():
    cache, tries = ByteCache(10), []
    cache.put("features", "a frame", "its features", 10)
    policy = MemoryPolicy(cache, BatchSizes(), RunStats())

    def work():
        tries.append(cache.bytes)
        if cache.bytes:
            raise MemoryError
        return "done"

    assert policy.retry(work) == "done" and tries == [10, 0]


def test_a_single_item_that_does_not_fit_raises_the_librarys_error():
    sizes = []

    def work(part):
        sizes.append(part.stop - part.start)
        raise torch.OutOfMemoryError("no room")

    policy = MemoryPolicy(ByteCache(0), BatchSizes(objects=4), RunStats())
    with pytest.raises(torch.OutOfMemoryError):
        policy.in_batches("objects", 4, work)
    assert sizes == [4, 2, 1, 1]


# ---- the engine -----------------------------------------------------------------------------------


def test_a_result_says_what_was_done_and_the_engine_survives(engine, clip, monkeypatch):
    with monkeypatch.context() as context:
        Scarce(context, "encode", 0, len)
        with pytest.raises(OutOfMemoryError, match="no room for 1") as caught:
            engine.segment(clip, "the red square")
    text = str(caught.value)
    assert re.search(r"Needed: about 0\.\d GiB with the weights, for 16 frame\(s\) of 96×64 and 1 obj", text)
    assert caught.value.hint
    with monkeypatch.context() as context:
        Scarce(context, "encode_memory", 1, count_objects)
        short = engine.segment(clip, ["the red square", "the square"], gate_by_object_score=False)
    usual = engine.segment(clip, ["the red square", "the square"], gate_by_object_score=False)
    assert short.provenance.memory_fallbacks[-1] == SMALLER_GROUPS
    assert usual.provenance.memory_fallbacks == ()
    assert short.objects[0].found and usual.objects[0].found


def test_a_refusal_lists_what_was_tried(engine, clip, monkeypatch):
    engine.describe(clip)  # something is cached
    Scarce(monkeypatch, "encode", 0, len)
    with pytest.raises(OutOfMemoryError, match=f"Already tried: {CACHE_DROPPED}"):
        engine.segment(clip, "the red square")


def test_what_certainly_does_not_fit_is_refused_before_the_system_ends_the_process(engine, clip, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(placement, "free_bytes", lambda device: 2**10)
        with pytest.raises(OutOfMemoryError, match=r"Free: 0\.0 GiB"):
            engine.segment(clip, "the red square", gate_by_object_score=False, llm_frames=5)
    assert engine.segment(clip, "the red square", gate_by_object_score=False).objects[0].found


def test_free_memory_respects_the_limit_of_the_process(monkeypatch):
    usual = placement.free_bytes(CPU)
    if usual is None:
        pytest.skip("this system does not say how much memory is free")
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + 2**26
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert 2**25 < placement.free_bytes(CPU) < min(usual, 2**27)


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("(-4:Insufficient memory)")])
def test_exports_and_views_without_memory(engine, clip, tmp_path, monkeypatch, error):
    def fail(*given, **named):
        raise error

    found = engine.segment(clip, "the red square", gate_by_object_score=False)
    monkeypatch.setattr(exporting, "draw_masks", fail)
    monkeypatch.setattr(store_backed, "draw_view", fail)
    with pytest.raises(OutOfMemoryError, match="Not enough memory"):
        engine.export(found.handle, tmp_path / "out")
    with pytest.raises(OutOfMemoryError, match="Not enough memory"):
        engine.view(found.handle)
    assert not (tmp_path / "out" / "masks.json").exists()


def test_more_prompt_frames_need_more_memory(checkpoint):
    few, many = (
        estimate_memory(checkpoint.config, "float32", Work(prompt_frames=count), weights=0)
        for count in (5, 64)
    )
    assert many.total > few.total


@pytest.mark.parametrize("stage", ["answer", "propagate"])
def test_holding_the_error_does_not_hold_what_was_computed(clip, tmp_path, stage):
    held = []
    gc.collect()  # what other tests' errors hold

    def cancel(report):
        if report.stage == stage and report.done == 3:
            run.cancel()

    def fail(report):
        if report.stage == "propagate" and report.done == 3:
            raise ValueError("the callback's own")

    with load_engine(settings=Settings(device="cpu", cache_bytes=0, store_dir=tmp_path / "store")) as engine:
        for on_progress in (cancel, fail):
            run = Run(on_progress)
            try:
                engine.segment(clip, "the red square", gate_by_object_score=False, run=run)
            except (CancelledError, ValueError) as error:
                held.append(error)
        alive = [each for each in gc.get_objects() if type(each) in (MemoryBank, FrameFeatures)]
    assert [type(error) for error in held] == [CancelledError, ValueError]
    assert not alive and not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_a_failed_attempt_leaves_no_tensors():
    tensors = []

    def fill():
        tensor = torch.zeros(8)
        tensors.append(weakref.ref(tensor))
        if len(tensors) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        assert tensors[0]() is None
        return "done"

    assert MemoryPolicy(ByteCache(0), BatchSizes(), RunStats()).retry(fill) == "done"
