"""When memory runs short: smaller steps and equal masks, and the result says so; at last an error that tells
what to do, after which the engine works on."""

from __future__ import annotations

import errno
import gc
import re
import resource
import threading
import weakref
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from sa2va_tools import Engine, Settings
from sa2va_tools.engine import exporting, store_backed
from sa2va_tools.engine.job import Job
from sa2va_tools.errors import CancelledError, OutOfMemoryError
from sa2va_tools.model import device as devices
from sa2va_tools.model import out_of_memory, runtime_masks
from sa2va_tools.model.cache import ByteCache
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.device import Pace
from sa2va_tools.model.families.internvl import InternVL
from sa2va_tools.model.feature_stream import OnePicture
from sa2va_tools.model.grounding import FrameFeatures, Sam2Grounding
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.memory import Work, estimate, fitting_pace
from sa2va_tools.model.offload import host_spare
from sa2va_tools.model.out_of_memory import attempt, in_parts, is_out_of_memory, memory_guard
from sa2va_tools.model.output import PointPrompt
from sa2va_tools.model.propagation import MemoryBank, Propagator
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.model.tally import Tally
from sa2va_tools.progress import CancelToken

FRAMES, OBJECTS = 9, 3


@pytest.fixture(scope="module")
def grounding():
    return load_checkpoint(NANO_FOLDER, device=torch.device("cpu"), dtype=torch.float32).modules.grounding


class Clip:
    def __init__(self):
        self.pictures = list(np.random.default_rng(5).integers(0, 255, (FRAMES, 30, 40, 3), dtype=np.uint8))

    def __len__(self):
        return FRAMES

    def key_of(self, position):
        return "clip", position

    def frames(self, positions):
        return (self.pictures[position] for position in positions)


class Scarce:
    """A method of SAM-2 that has room for `most` frames or objects at once, counted by `size`; for none while
    `full` says so."""

    def __init__(self, monkeypatch, name, most, size, full=lambda: False):
        self.sizes: list[int] = []
        whole = getattr(Sam2Grounding, name)

        def scarce(grounding, *given, **named):
            count = size(*given)
            self.sizes.append(count)
            if count > most or full():
                raise torch.OutOfMemoryError(f"no room for {count}")
            return whole(grounding, *given, **named)

        monkeypatch.setattr(Sam2Grounding, name, scarce)


def walked(grounding, tally=None, *, cache=None, embeddings=None):
    walker = Propagator(grounding, gate=False, pace=Pace(batch=8), cache=cache, tally=tally)
    if embeddings is None:
        embeddings = torch.randn(OBJECTS, grounding.config.hidden_dim, generator=torch.Generator())
    with torch.inference_mode():
        frames = {frame.position: frame for frame in walker.language(Clip(), (0,), embeddings)}
    return walker, frames


def same(frames, others):
    assert sorted(frames) == sorted(others) == list(range(FRAMES))
    return min(np.mean(frames[at].masks == others[at].masks) for at in frames)


def test_frames_are_encoded_in_smaller_batches_from_then_on(grounding, monkeypatch):
    embeddings = torch.randn(OBJECTS, grounding.config.hidden_dim)
    _, usual = walked(grounding, embeddings=embeddings)
    scarce, tally = Scarce(monkeypatch, "encode", 3, len), Tally()
    walker, frames = walked(grounding, tally, embeddings=embeddings)
    assert same(frames, usual) > 0.999
    assert scarce.sizes == [1, 8, 4, 2, 2, 2, 2] and walker.encoder_passes == FRAMES
    assert tally.relief == [f"the image encoder took {count} frame(s) at once" for count in (4, 2)]


def test_a_pace_that_one_picture_does_not_need_is_no_relief(monkeypatch):
    loaded = load_checkpoint(NANO_FOLDER, device=torch.device("cpu"), dtype=torch.float32)
    runtime = Sa2vaRuntime(loaded, "nano", pace=Pace(batch=8, group=16))
    monkeypatch.setattr(runtime_masks, "free_bytes", lambda device: 2**23)
    runtime.propagator(gate=False)
    assert runtime.tally.relief, "the whole pace does not fit"
    picture = np.zeros((60, 80, 3), np.uint8)
    with runtime.at_work():
        runtime.masks_from_points(picture, [PointPrompt(((0.5, 0.5),), (1,))])
        list(runtime.masks_from_masks(OnePicture(picture), np.ones((1, 60, 80), bool), 0))
        assert runtime.tally.relief == []


def test_objects_are_followed_in_smaller_groups_from_then_on(grounding, monkeypatch):
    embeddings = torch.randn(OBJECTS, grounding.config.hidden_dim)
    _, usual = walked(grounding, embeddings=embeddings)
    tally = Tally()
    scarce = Scarce(monkeypatch, "encode_memory", 1, lambda features, chosen, dtype: len(chosen.logits))
    walker, frames = walked(grounding, tally, embeddings=embeddings)
    assert same(frames, usual) > 0.999
    assert scarce.sizes == [3, *[1] * (OBJECTS * FRAMES)] and walker.encoder_passes == FRAMES
    assert tally.relief == ["1 object(s) were followed at once"]


def test_what_is_kept_goes_before_batches_shrink(grounding, monkeypatch):
    cache, tally = ByteCache(2**26), Tally()
    cache.put("readings", "other media", torch.zeros(1000), 4000)
    scarce = Scarce(monkeypatch, "encode", 8, len, full=lambda: ("readings", "other media") in cache)
    walker, _ = walked(grounding, tally, cache=cache)
    assert scarce.sizes == [1, 1, 8] and walker.encoder_passes == FRAMES
    assert tally.relief == ["what was kept of other frames was dropped"]


def test_what_is_kept_moves_to_host_memory_where_there_is_some(grounding, monkeypatch):
    """The clip's own frames too: none is encoded again, now or later."""
    cache, tally = ByteCache(2**26, host_spare(2**26)), Tally()
    embeddings = torch.randn(OBJECTS, grounding.config.hidden_dim)
    _, usual = walked(grounding, cache=cache, embeddings=embeddings)
    Scarce(
        monkeypatch,
        "encode_memory",
        OBJECTS,
        lambda features, chosen, dtype: len(chosen.logits),
        full=lambda: cache.bytes > 0,
    )
    walker, frames = walked(grounding, tally, cache=cache, embeddings=embeddings)
    assert same(frames, usual) == 1.0 and walker.encoder_passes == 0
    assert tally.relief == ["what was kept of other frames was moved into host memory"]
    assert cache.bytes == 0 and cache.counts()["features"].spare_bytes > 0


def test_what_is_kept_goes_before_groups_shrink_even_for_one_object(grounding, monkeypatch):
    cache, tally = ByteCache(2**26), Tally()
    cache.put("readings", "other media", torch.zeros(1000), 4000)
    Scarce(
        monkeypatch,
        "encode_memory",
        1,
        lambda features, chosen, dtype: len(chosen.logits),
        full=lambda: ("readings", "other media") in cache,
    )
    walker, frames = walked(
        grounding, tally, cache=cache, embeddings=torch.randn(1, grounding.config.hidden_dim)
    )
    assert len(frames) == walker.encoder_passes == FRAMES
    assert tally.relief == ["what was kept of other frames was dropped"] and not cache.bytes


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (MemoryError(), True),
        (OutOfMemoryError("The file cannot be read: memory is short."), True),
        (cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate"), True),
        (av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("could not create a primitive"), True),
        (cv2.error("OpenCV(5.0.0) error: (-215:Assertion failed) !empty()"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(error, is_one):
    assert is_out_of_memory(error) is is_one


def test_other_errors_are_not_taken_for_a_lack_of_memory(grounding, monkeypatch):
    def broken(grounding, pixels):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Sam2Grounding, "encode", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        walked(grounding)


def test_a_result_says_what_was_done_and_an_engine_survives(clip, tmp_path, monkeypatch):
    settings = Settings(device="cpu", store_dir=tmp_path / "store")
    with Engine.load(settings=settings) as engine:
        with monkeypatch.context() as context:
            Scarce(context, "encode", 2, len)
            short = engine.segment(clip, "the red square", end_s=0.5)
            context.undo()
            Scarce(context, "encode", 0, len)
            with pytest.raises(OutOfMemoryError, match="did not fit") as caught:
                engine.segment(clip, "the red square", start_s=0.6)
            assert caught.value.hint
            assert re.search(r"Wanted: \d+ frame\(s\) of 96×64, 1 object\(s\), 0\.\d GiB", str(caught.value))
            assert "Tried before: " in str(caught.value)
        usual = engine.segment(clip, "the red square", start_s=0.6)
    assert short.objects[0].found and short.provenance.relief
    assert any("Memory ran short" in warning for warning in short.warnings)
    assert usual.objects[0].found and usual.provenance.relief == ()


def test_the_language_model_sees_fewer_frames_where_all_do_not_fit(clip, tmp_path, monkeypatch):
    whole = InternVL.look

    def look(family, pictures, **named):
        if len(pictures) > 2:
            raise torch.OutOfMemoryError("no room for so many")
        return whole(family, pictures, **named)

    with Engine.load(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        with monkeypatch.context() as context:
            context.setattr(InternVL, "look", look)
            told = engine.describe(clip, key_frames=5)
            found = engine.segment(clip, "the red square")
        whole_again = engine.describe(clip, key_frames=5)
        follow_up = engine.describe(clip, "What shape is it?", after=told.handle)
    assert len(told.provenance.key_frames) == 2 and len(whole_again.provenance.key_frames) == 5
    assert told.provenance.relief[-1] == "the language model saw 2 key frame(s)"
    assert follow_up.provenance.key_frames == told.provenance.key_frames
    assert found.objects[0].found and len(found.provenance.key_frames) == 2
    assert any("Memory ran short" in warning for warning in told.warnings)


def test_masks_begin_on_fewer_key_frames_where_all_do_not_fit(clip, tmp_path, monkeypatch):
    with Engine.load(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        with monkeypatch.context() as context:
            # Slots of memory that a frame attends to: those of the key frames, and of the frames behind.
            Scarce(context, "attend", 9, lambda features, memories, pointers: len(memories))
            short = engine.segment(clip, "the red square", key_frames=12)
            more = engine.extend(short.handle, "the square")
            context.undo()
            Scarce(context, "attend", 0, lambda features, memories, pointers: len(memories))
            with pytest.raises(OutOfMemoryError, match=r"masks began on 1 key frame\(s\)"):
                engine.segment(clip, "the red square", key_frames=12)
        usual = engine.segment(clip, "the red square", key_frames=12)
    assert short.provenance.relief[-1] == "masks began on 3 key frame(s)"
    assert short.objects[0].found and short.provenance.complete and usual.provenance.relief == ()
    assert short.objects[0].track.frame_indices == usual.objects[0].track.frame_indices
    assert more.objects[1].found and more.provenance.relief == (), "it begins where the others began"


def test_what_certainly_does_not_fit_is_refused_before_the_system_ends_the_process(
    clip, tmp_path, monkeypatch
):
    with Engine.load(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        with monkeypatch.context() as context:
            context.setattr(runtime_masks, "free_bytes", lambda device: 2**20)
            with pytest.raises(OutOfMemoryError, match=r"begun on 1 key frame.*0\.0 GiB are free") as caught:
                engine.segment(clip, "the red square", key_frames=5)
        assert "masks began on 1 key frame(s)" in str(caught.value) and "Wanted: 16 frame(s)" in str(
            caught.value
        )
        assert engine.segment(clip, "the red square").objects[0].found


def test_nothing_large_is_begun_at_the_last_bytes_of_memory(monkeypatch):
    """There native libraries crash."""
    short, begun, fewer = [True], [], []
    monkeypatch.setattr(out_of_memory, "memory_is_short", lambda room: short[0])
    with pytest.raises(OutOfMemoryError, match="64 MiB"):
        in_parts(4, 4, begun.append, give_up=lambda: False, on_fewer=fewer.append)
    assert not begun and fewer == [2, 1]

    def give_up():
        short[0], was = False, short[0]
        return was

    made, most = in_parts(3, 2, lambda part: (part.start, part.stop), give_up=give_up, on_fewer=fewer.append)
    assert (made, most) == ([(0, 2), (2, 3)], 2)


def test_what_is_free_heeds_the_limit_of_the_process(monkeypatch):
    usual = devices.free_bytes(torch.device("cpu"))
    if usual is None:
        pytest.skip("nobody tells here what is free")
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + 2**26
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert 2**25 < devices.free_bytes(torch.device("cpu")) < min(usual, 2**27)


def test_a_refusal_whose_numbers_do_not_fit_either_is_told_without_them(clip, tmp_path, monkeypatch):
    def short(*given, **named):
        raise MemoryError

    with Engine.load(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        Scarce(monkeypatch, "encode", 0, len)
        monkeypatch.setattr(Sa2vaRuntime, "memory_estimate", short)
        # The plan that is told before has numbers, too.
        monkeypatch.setattr(Job, "_followed", lambda job, walk, *given: list(walk))
        with pytest.raises(OutOfMemoryError, match="did not fit") as caught:
            engine.segment(clip, "the red square")
    assert "Wanted" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("(-4:Insufficient memory)")])
def test_exports_and_views_tell_a_lack_of_memory(clip, tmp_path, monkeypatch, error):
    def short(*given, **named):
        raise error

    with Engine.load(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        found = engine.segment(clip, "the red square")
        monkeypatch.setattr(exporting, "draw_masks", short)
        monkeypatch.setattr(store_backed, "draw_view", short)
        with pytest.raises(OutOfMemoryError, match="Memory is short"):
            engine.export(found.handle, tmp_path / "out")
        with pytest.raises(OutOfMemoryError, match="Memory is short"):
            engine.view(found.handle)
    assert not (tmp_path / "out" / "masks.json").exists()


def test_more_key_frames_want_more_memory():
    config = load_checkpoint(NANO_FOLDER, device=torch.device("cpu"), dtype=torch.float32).config
    few, many = (estimate(config, "float32", Work(key_frames=count), weights=0) for count in (5, 64))
    assert many.grounding > 2 * few.grounding
    free = 4 * (many.grounding // 4)
    assert (
        fitting_pace(config, Pace(group=16), 4, free, 5).group
        > fitting_pace(config, Pace(group=16), 4, free, 64).group
    )


@pytest.mark.parametrize("stage", ["answer", "propagate"])
def test_who_holds_a_cancel_or_a_callbacks_error_does_not_hold_the_walk(clip, tmp_path, stage):
    token, held = CancelToken(), []
    gc.collect()  # what other tests' errors hold

    def stop(progress):
        if progress.stage == stage and progress.done == 3:
            token.cancel()

    def fail(progress):
        if progress.stage == "propagate" and progress.done == 3:
            raise ValueError("the callback's own")

    with Engine.load(settings=Settings(device="cpu", cache_bytes=0, store_dir=tmp_path / "store")) as engine:
        for on_progress, cancel in ((stop, token), (fail, None)):
            try:
                engine.segment(clip, "the red square", on_progress=on_progress, cancel=cancel)
            except (CancelledError, ValueError) as error:
                held.append(error)
        alive = [each for each in gc.get_objects() if type(each) in (MemoryBank, FrameFeatures)]
    assert [type(error) for error in held] == [CancelledError, ValueError]
    assert not alive and not any(thread.name == "prefetch" for thread in threading.enumerate())


def test_who_holds_the_error_does_not_hold_the_tensors():
    made = []

    def fill():
        tensor = torch.zeros(8)
        made.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(OutOfMemoryError) as held, memory_guard("The test"):
        fill()
    assert held.value.__cause__ is not None and made[0]() is None


@pytest.mark.parametrize(
    "error", [cv2.error("(-4:Insufficient memory)"), MemoryError(), OutOfMemoryError("no room")]
)
def test_smaller_steps_follow_whichever_library_lacks_memory(error):
    def work():
        raise error

    assert attempt(work) is None


def test_an_error_that_says_what_did_not_fit_keeps_its_words():
    own = OutOfMemoryError("a.mp4 cannot be decoded: memory is short.", hint="Scale it down.")
    with pytest.raises(OutOfMemoryError) as told, memory_guard("Looking at the pictures"):
        raise own
    assert told.value is own
    with (
        pytest.raises(OutOfMemoryError, match=r"^Smoothing did not fit into memory\. Ask"),
        memory_guard("Smoothing"),
    ):
        raise MemoryError
