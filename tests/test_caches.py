"""What is kept for the next question: the budget, what is saved, and that answers stay the same."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from pretend_gpu import GPU, PretendGpu

from sa2va_tools import Engine, Settings
from sa2va_tools.model import prefetch
from sa2va_tools.model.cache import ByteCache, CacheCounts, Spare, tensor_bytes
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.feature_stream import MOVED, FeatureStream, SeenFrame
from sa2va_tools.model.grounding import FrameFeatures, Sam2Grounding
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.offload import brought_back, sent_away
from sa2va_tools.model.prefetch import prefetched
from sa2va_tools.model.runtime import Sa2vaRuntime

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded():
    return load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32)


@pytest.fixture(scope="module")
def grounding(loaded):
    return loaded.modules.grounding


class Clip:
    """Pictures with keys, that remember which of them were read."""

    def __init__(self, count=6, name="clip"):
        noise = np.random.default_rng(5).integers(0, 255, (count, 30, 40, 3), dtype=np.uint8)
        self.pictures, self.name, self.read, self.asked = list(noise), name, [], 0

    def __len__(self):
        return len(self.pictures)

    def key_of(self, position):
        return self.name, position

    def frames(self, positions):
        self.asked += 1
        for position in positions:
            self.read.append(position)
            yield self.pictures[position]


# ---- the budget -----------------------------------------------------------------------------------


def test_the_least_recently_used_goes_first():
    cache = ByteCache(10)
    for name in "abc":
        cache.put("kind", name, name.upper(), 3)
    assert cache.get("kind", "a") == "A"
    cache.put("other", "d", "D", 4)
    assert [("kind", name) in cache for name in "abc"] == [True, False, True]
    assert cache.counts()["kind"] == CacheCounts(hits=1, misses=0, entries=2, bytes=6)
    assert cache.counts()["other"].bytes == 4


def test_what_is_larger_than_everything_is_not_kept():
    cache = ByteCache(10)
    cache.put("kind", "a", 1, 5)
    cache.put("kind", "b", 1, 11)
    cache.put("kind", "a", 2, 9)
    assert cache.get("kind", "b") is None and cache.get("kind", "a") == 2
    assert cache.counts()["kind"] == CacheCounts(hits=1, misses=1, entries=1, bytes=9)
    cache.clear()
    assert cache.get("kind", "a") is None


def spare_place(budget):
    return Spare(ByteCache(budget), lambda value: f"<{value}>", lambda value: value[1:-1])


def test_what_has_to_go_lies_in_the_spare_place_and_comes_back():
    cache = ByteCache(6, spare_place(6))
    for name in "abcd":
        cache.put("kind", name, name.upper(), 3)
    assert cache.bytes == 6 and cache.capacity == 12
    assert cache.counts()["kind"] == CacheCounts(entries=2, bytes=6, spare_bytes=6)
    assert cache.get("kind", "a") == "A", "and c went away for it"
    assert cache.spare.cache.get("kind", "a") is None and cache.spare.cache.get("kind", "c") == "<C>"
    assert all(("kind", name) in cache for name in "abcd")
    cache.put("kind", "e", "E", 3)
    assert [("kind", name) in cache for name in "abcde"] == [True, False, True, True, True]


def test_a_cache_that_retreats_holds_nothing_and_loses_nothing():
    cache = ByteCache(9, spare_place(20))
    for name in "abc":
        cache.put("kind", name, name.upper(), 3)
    cache.retreat()
    assert cache.bytes == 0 and cache.counts()["kind"].spare_bytes == 9
    without_room = cache.spare_alone()
    assert without_room.get("kind", "b") == "B" and without_room.bytes == 0
    without_room.put("kind", "b", "new", 3)
    assert cache.get("kind", "b") == "new" and cache.bytes == 3
    cache.clear()
    assert not any(("kind", name) in cache for name in "abc")


def test_without_a_spare_place_what_retreats_is_gone():
    cache = ByteCache(9)
    cache.put("kind", "a", "A", 3)
    cache.retreat()
    assert cache.get("kind", "a") is None and cache.bytes == 0


def test_what_memory_cannot_take_back_is_a_miss_and_stays_away():
    room = []
    spare = Spare(ByteCache(9), lambda value: value, lambda value: value if room else None)
    cache = ByteCache(0, spare)
    cache.put("kind", "a", "A", 3)
    assert cache.get("kind", "a") is None and cache.counts()["kind"].misses == 1
    room.append("now")
    assert cache.get("kind", "a") == "A"


def test_tensors_go_to_host_memory_and_return_to_their_device(loaded):
    with PretendGpu(), torch.inference_mode():
        features = loaded.modules.grounding.encode(torch.zeros(1, 3, 128, 128))
        kept = (SeenFrame(3, FrameFeatures(features.skips, features.top.to(GPU)), (4, 5)), "no tensor", None)
        away = sent_away(kept)
        back = brought_back(away)
        assert away[0].features.top.tensor.device == CPU
        assert (back[0].features.top.device, back[0].features.skips[0][0].device) == (GPU, CPU)
    assert back[1:] == kept[1:] and (back[0].position, back[0].size_hw) == (3, (4, 5))
    assert torch.equal(back[0].features.top, kept[0].features.top)


def test_what_was_seen_comes_back_from_host_memory_and_is_read_anew(loaded):
    picture = np.random.default_rng(2).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    question = "<image>What shapes are there?"
    runtime = Sa2vaRuntime(loaded, "nano", cache_bytes=2**26, host_bytes=2**26)
    with runtime.at_work():
        first = runtime.answer(question, runtime.look([picture], video=False, key="picture"))
        runtime.make_room()
        assert runtime.tally.relief == [MOVED] and runtime.cache.bytes == 0
        second = runtime.answer(question, runtime.recall("picture"))
    assert second.token_ids == first.token_ids
    counts = runtime.cache.counts()
    assert counts["visual tokens"].hits == 1
    assert counts["readings"].hits == 0, "to go on from a reading is to have it twice"
    assert runtime.cache.bytes > 0


def test_bytes_are_those_of_all_tensors():
    assert tensor_bytes((torch.zeros(3), [torch.zeros(2, dtype=torch.float16)], "no tensor")) == 16


# ---- working ahead --------------------------------------------------------------------------------


def test_items_are_made_ahead_but_not_far():
    made, third = [], threading.Event()

    def source():
        for number in range(100):
            made.append(number)
            if number == 3:
                third.set()
            yield number

    with prefetched(source(), ahead=2) as items:
        assert next(items) == 0
        assert third.wait(5)
        assert next(items) == 1
    assert len(made) <= 6


def test_what_breaks_ahead_is_raised_in_its_place():
    def source():
        yield 1
        raise OSError("broken")

    with prefetched(source(), ahead=4) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="broken"):
            next(items)


def test_leaving_early_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with prefetched(source(), ahead=1) as items:
        next(items)
    assert closed.is_set()


@pytest.mark.parametrize("why", ["no thread", "no memory"])
def test_without_a_thread_items_are_made_when_they_are_asked_for(monkeypatch, why):
    made, closed = [], []

    def source():
        try:
            for number in range(9):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    def start(thread):
        raise RuntimeError("can't start new thread")

    if why == "no thread":
        monkeypatch.setattr(threading.Thread, "start", start)
    else:
        monkeypatch.setattr(prefetch, "memory_is_short", lambda: True)
    with prefetched(source(), ahead=2) as items:
        assert [next(items), next(items)] == made == [0, 1]
    assert closed and made == [0, 1]


# ---- frames ---------------------------------------------------------------------------------------


def features(stream, positions):
    with torch.inference_mode():
        return {seen.position: seen.features for seen in stream.read(positions)}


@pytest.mark.parametrize("positions", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3]])
@pytest.mark.parametrize("batch", [1, 4])
def test_frames_come_in_order_whatever_the_batch(grounding, positions, batch):
    alone = features(FeatureStream(grounding, Clip()), list(range(6)))
    stream = FeatureStream(grounding, Clip(), batch=batch)
    together = features(stream, positions)
    assert list(together) == positions and stream.tally.encoder_passes == len(positions)
    for position, found in together.items():
        torch.testing.assert_close(found.top, alone[position].top, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("second", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
def test_what_is_kept_is_neither_read_nor_encoded_again(grounding, second):
    cache, clip = ByteCache(2**28), Clip()
    first = features(FeatureStream(grounding, clip, batch=4, cache=cache), [0, 1, 4])
    clip.read.clear()
    stream = FeatureStream(grounding, clip, batch=4, cache=cache)
    again = features(stream, second)
    assert list(again) == second
    assert sorted(clip.read) == [2, 3, 5] and stream.tally.encoder_passes == 3
    assert torch.equal(again[4].top, first[4].top)
    other = FeatureStream(grounding, Clip(name="other"), cache=cache)
    features(other, [0])
    assert other.tally.encoder_passes == 1


def test_a_frame_that_is_pushed_out_meanwhile_is_read_again(grounding):
    cache, clip = ByteCache(2**28), Clip()
    features(FeatureStream(grounding, clip, cache=cache), [0, 1])
    stream = FeatureStream(grounding, clip, cache=cache)
    with torch.inference_mode():
        walk = stream.read([0, 1, 2])
        next(walk)
        cache.clear()
        rest = [seen.position for seen in walk]
    assert rest == [1, 2] and stream.tally.encoder_passes == 2


@pytest.mark.parametrize("order", [list(range(6)), list(range(5, -1, -1))])
@pytest.mark.parametrize(("batch", "after"), [(2, 2), (4, 1), (4, 3), (4, 4)])
def test_no_frame_is_lost_where_what_is_kept_is_dropped_meanwhile(grounding, order, batch, after):
    cache, clip = ByteCache(2**28), Clip()
    known = features(FeatureStream(grounding, clip, batch=batch, cache=cache), order)
    clip.read.clear()
    stream, clip.asked = FeatureStream(grounding, clip, batch=batch, cache=cache), 0
    seen = {}
    with torch.inference_mode():
        for frame in stream.read(order):
            seen[frame.position] = frame.features
            if len(seen) == after:
                stream.give_up_kept()
    assert list(seen) == order and sorted(clip.read) == sorted(order[after:])
    assert stream.tally.encoder_passes == 6 - after
    for at in order:  # encoded in other company: equal up to rounding
        torch.testing.assert_close(seen[at].top, known[at].top, atol=1e-4, rtol=1e-4)
    if after % batch == 0:
        assert clip.asked == 1, "all of them together"


def test_a_long_clip_is_read_in_stretches_to_be_tracked_backwards(grounding):
    clip = Clip(400)
    with torch.inference_mode():
        walk = FeatureStream(grounding, clip).read(list(range(399, -1, -1)))
        assert [next(walk).position for _ in range(3)] == [399, 398, 397]
        walk.close()
    assert max(clip.read) == 399 and len(clip.read) < 200, "at this one, the next, and one in the making"


@pytest.mark.parametrize("order", [list(range(6)), list(range(5, -1, -1))])
def test_no_frame_is_lost_where_batches_become_smaller(grounding, monkeypatch, order):
    whole = Sam2Grounding.encode

    def scarce(self, pixels):
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("no room for two")
        return whole(self, pixels)

    monkeypatch.setattr(Sam2Grounding, "encode", scarce)
    stream = FeatureStream(grounding, Clip(), batch=4)
    assert list(features(stream, order)) == order and stream.tally.encoder_passes == 6


def test_of_a_clip_too_long_for_the_budget_the_first_frames_are_kept(grounding):
    one = FeatureStream(grounding, Clip())
    cache = ByteCache(5 * one._frame_bytes)
    for passes in (6, 4, 4):
        stream = FeatureStream(grounding, Clip(), cache=cache)
        assert list(features(stream, list(range(6)))) == list(range(6))
        assert stream.tally.encoder_passes == passes
    assert cache.counts()["features"].bytes == 2 * one._frame_bytes
    backwards = FeatureStream(grounding, Clip(), batch=4, cache=cache)
    assert list(features(backwards, [5, 4, 3, 2, 1, 0])) == [5, 4, 3, 2, 1, 0]
    assert backwards.tally.encoder_passes == 4


def test_counts_go_on_where_memory_ran_short(grounding):
    cache = ByteCache(2**28)
    features(FeatureStream(grounding, Clip(), cache=cache), [0, 1])
    stream = FeatureStream(grounding, Clip(), cache=cache)
    stream.give_up_kept()
    features(stream, [0, 1, 2])
    assert cache.counts()["features"].misses == 5 and not cache.bytes


# ---- questions ------------------------------------------------------------------------------------


def engines(tmp_path):
    for name, budget in (("kept", 2**30), ("forgotten", 0)):
        settings = Settings(device="cpu", cache_bytes=budget, store_dir=tmp_path / name)
        with Engine.load(settings=settings) as engine:
            yield engine


def test_answers_are_the_same_with_and_without_the_cache(clip, tmp_path):
    said, masks = [], []
    for engine in engines(tmp_path):
        for _ in range(2):
            said.append(engine.describe(clip, "Is there a red square?").text)
            said.append(engine.describe(clip, "What is in the video?").text)
            result = engine.segment(clip, ["the red square"])
            masks.append(result.objects[0].track)
    assert len(set(said)) == 2
    first = masks[0]
    for other in masks[1:]:
        assert [rle["counts"] for rle in other.rles] == [rle["counts"] for rle in first.rles]


def test_a_second_question_pays_for_its_own_words_only(loaded):
    runtime = Sa2vaRuntime(loaded, "nano", cache_bytes=2**30)
    picture = np.full((60, 80, 3), 120, np.uint8)
    fed: list[int] = []
    step = runtime._modules.mllm.step
    runtime._modules.mllm.step = lambda read, cache: fed.append(read.tokens.shape[1]) or step(read, cache)
    try:
        visual = runtime.look([picture], video=False, key="picture")
        assert runtime.recall("picture") is visual
        first = runtime.answer("<image>What is in the image?", visual, max_new_tokens=3)
        whole = fed[0]
        fed.clear()
        second = runtime.answer("<image>Is there a red square?", visual, max_new_tokens=3)
        assert whole > 60 and fed[0] < 25
        fed.clear()
        again = runtime.answer("<image>What is in the image?", visual, max_new_tokens=3)
        assert fed[0] < 25 and again.token_ids == first.token_ids
    finally:
        del runtime._modules.mllm.step
    alone = Sa2vaRuntime(loaded, "nano").answer(
        "<image>Is there a red square?",
        Sa2vaRuntime(loaded, "nano").look([picture], video=False),
        max_new_tokens=3,
    )
    assert second.token_ids == alone.token_ids
    np.testing.assert_allclose(second.seg_prompts, alone.seg_prompts, atol=1e-4)


def test_a_region_is_not_mistaken_for_another(loaded):
    """The same words with other cells are other tokens, though they have the same numbers."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[8:24, 8:24] = (220, 30, 30)
    picture[40:60, 40:60] = (30, 60, 220)
    masks = [np.zeros((64, 64), bool), np.zeros((64, 64), bool)]
    masks[0][8:24, 8:24] = masks[1][40:60, 40:60] = True
    texts = []
    for budget in (2**30, 0):
        runtime = Sa2vaRuntime(loaded, "nano", cache_bytes=budget)
        visual = runtime.look([picture], video=False, key="picture")
        texts.append([runtime.caption(picture, mask, visual=visual).answer.text for mask in masks])
    assert texts[0] == texts[1] and texts[0][0] != texts[0][1]
