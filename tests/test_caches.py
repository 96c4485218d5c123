"""The cache and the feature stream: the budget, what is computed again, and that answers stay the same."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from agreement import assert_same_masks

from sa2va_tools import Settings, load_engine
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.model.device.cache import ByteCache, CacheCounts, count_tensor_bytes
from sa2va_tools.model.device.memory_policy import BatchSizes, MemoryPolicy
from sa2va_tools.model.device.prefetch import prefetch
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.model.tracking.frame_features import FeatureStream
from sa2va_tools.run import Run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded():
    return load_checkpoint(NANO_FOLDER, devices=(CPU,), dtype=torch.float32, run=Run())


@pytest.fixture(scope="module")
def sam2(loaded):
    return loaded.modules.sam2


class Clip:
    """Pictures with keys, that remember which of them were read."""

    def __init__(self, count=6, name="clip"):
        noise = np.random.default_rng(5).integers(0, 255, (count, 30, 40, 3), dtype=np.uint8)
        self.pictures, self.name, self.read, self.asked = list(noise), name, [], 0

    def __len__(self):
        return len(self.pictures)

    def cache_key(self, position):
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


def test_bytes_are_those_of_all_tensors():
    assert count_tensor_bytes((torch.zeros(3), [torch.zeros(2, dtype=torch.float16)], "no tensor")) == 16


# ---- working ahead --------------------------------------------------------------------------------


def test_items_are_made_ahead_but_not_far():
    made, third = [], threading.Event()

    def source():
        for number in range(100):
            made.append(number)
            if number == 3:
                third.set()
            yield number

    with prefetch(source(), ahead=2) as items:
        assert next(items) == 0
        assert third.wait(60)
        assert next(items) == 1
    assert len(made) <= 6


def test_what_breaks_ahead_is_raised_in_its_place():
    def source():
        yield 1
        raise OSError("broken")

    with prefetch(source(), ahead=4) as items:
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

    with prefetch(source(), ahead=1) as items:
        next(items)
    assert closed.is_set()


def test_without_a_thread_items_are_made_when_they_are_asked_for(monkeypatch):
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

    monkeypatch.setattr(threading.Thread, "start", start)
    with prefetch(source(), ahead=2) as items:
        assert [next(items), next(items)] == made == [0, 1]
    assert closed and made == [0, 1]


# ---- frames ---------------------------------------------------------------------------------------


def make_stream(sam2, clip, *, batch=1, cache=None):
    run = Run()
    policy = MemoryPolicy(cache or ByteCache(0), BatchSizes(frames=batch), run.stats)
    return FeatureStream(sam2, clip, policy, run)


def features(stream, positions):
    with torch.inference_mode():
        return {frame.position: frame.features for frame in stream.read(positions)}


@pytest.mark.parametrize("positions", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3]])
@pytest.mark.parametrize("batch", [1, 4])
def test_frames_come_in_order_whatever_the_batch(sam2, positions, batch):
    alone = features(make_stream(sam2, Clip()), list(range(6)))
    stream = make_stream(sam2, Clip(), batch=batch)
    together = features(stream, positions)
    assert list(together) == positions and stream.run.stats.encoder_passes == len(positions)
    for position, found in together.items():
        torch.testing.assert_close(found.top, alone[position].top, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("second", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
def test_a_cached_frame_is_neither_decoded_nor_encoded_again(sam2, second):
    cache, clip = ByteCache(2**28), Clip()
    first = features(make_stream(sam2, clip, batch=4, cache=cache), [0, 1, 4])
    clip.read.clear()
    stream = make_stream(sam2, clip, batch=4, cache=cache)
    again = features(stream, second)
    assert list(again) == second
    assert sorted(clip.read) == [2, 3, 5] and stream.run.stats.encoder_passes == 3
    assert torch.equal(again[4].top, first[4].top)
    other = make_stream(sam2, Clip(name="other"), cache=cache)
    features(other, [0])
    assert other.run.stats.encoder_passes == 1


def test_a_frame_that_is_evicted_meanwhile_is_encoded_again(sam2):
    cache, clip = ByteCache(2**28), Clip()
    features(make_stream(sam2, clip, cache=cache), [0, 1])
    stream = make_stream(sam2, clip, cache=cache)
    with torch.inference_mode():
        walk = stream.read([0, 1, 2])
        next(walk)
        cache.clear()
        rest = [seen.position for seen in walk]
    assert rest == [1, 2] and stream.run.stats.encoder_passes == 2


@pytest.mark.parametrize("order", [list(range(6)), list(range(5, -1, -1))])
@pytest.mark.parametrize(("batch", "after"), [(2, 2), (4, 1), (4, 3), (4, 4)])
def test_no_frame_is_lost_when_the_cache_is_dropped_meanwhile(sam2, order, batch, after):
    cache, clip = ByteCache(2**28), Clip()
    known = features(make_stream(sam2, clip, batch=batch, cache=cache), order)
    clip.read.clear()
    stream, clip.asked = make_stream(sam2, clip, batch=batch, cache=cache), 0
    seen = {}
    with torch.inference_mode():
        for frame in stream.read(order):
            seen[frame.position] = frame.features
            if len(seen) == after:
                stream.policy.drop_cache()
    assert list(seen) == order and sorted(clip.read) == sorted(order[after:])
    assert stream.run.stats.encoder_passes == 6 - after
    for at in order:  # encoded in other company: equal up to rounding
        torch.testing.assert_close(seen[at].top, known[at].top, atol=1e-4, rtol=1e-4)
    if after % batch == 0:
        assert clip.asked == 1, "all of them together"


def test_a_long_clip_is_read_in_stretches_to_be_tracked_backwards(sam2):
    clip = Clip(400)
    with torch.inference_mode():
        walk = make_stream(sam2, clip).read(list(range(399, -1, -1)))
        assert [next(walk).position for _ in range(3)] == [399, 398, 397]
        walk.close()
    assert max(clip.read) == 399 and len(clip.read) < 200, "at this one, the next, and one in the making"


@pytest.mark.parametrize("order", [list(range(6)), list(range(5, -1, -1))])
def test_no_frame_is_lost_where_batches_become_smaller(sam2, monkeypatch, order):
    whole = Sam2.encode

    def scarce(self, pixels):
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("no room for two")
        return whole(self, pixels)

    monkeypatch.setattr(Sam2, "encode", scarce)
    stream = make_stream(sam2, Clip(), batch=4)
    assert list(features(stream, order)) == order and stream.run.stats.encoder_passes == 6


def test_of_a_clip_too_long_for_the_budget_the_first_frames_are_cached(sam2):
    one = make_stream(sam2, Clip())
    cache = ByteCache(5 * one._frame_bytes)
    for passes in (6, 4, 4):
        stream = make_stream(sam2, Clip(), cache=cache)
        assert list(features(stream, list(range(6)))) == list(range(6))
        assert stream.run.stats.encoder_passes == passes
    assert cache.counts()["features"].bytes == 2 * one._frame_bytes
    backwards = make_stream(sam2, Clip(), batch=4, cache=cache)
    assert list(features(backwards, [5, 4, 3, 2, 1, 0])) == [5, 4, 3, 2, 1, 0]
    assert backwards.run.stats.encoder_passes == 4


def test_misses_are_counted_after_the_cache_was_dropped(sam2):
    cache = ByteCache(2**28)
    features(make_stream(sam2, Clip(), cache=cache), [0, 1])
    stream = make_stream(sam2, Clip(), cache=cache)
    stream.policy.drop_cache()
    features(stream, [0, 1, 2])
    assert cache.counts()["features"].misses == 5 and not cache.bytes


# ---- questions ------------------------------------------------------------------------------------


def engines(tmp_path):
    for name, budget in (("kept", 2**30), ("forgotten", 0)):
        settings = Settings(device="cpu", cache_bytes=budget, store_dir=tmp_path / name)
        with load_engine(settings=settings) as engine:
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
    for other in masks[1:]:
        assert_same_masks(other, masks[0])


@contextmanager
def language_of(checkpoint, cache_bytes):
    with Sa2vaRuntime(checkpoint, "nano", cache_bytes=cache_bytes).session(Run()) as session:
        yield session.language


def test_a_second_question_pays_for_its_own_words_only(loaded, monkeypatch):
    picture = np.full((60, 80, 3), 120, np.uint8)
    fed: list[int] = []
    mllm = loaded.modules.mllm
    step = mllm.step

    def count_step(inputs, cache):
        fed.append(inputs.inputs_embeds.shape[1])
        return step(inputs, cache)

    monkeypatch.setattr(mllm, "step", count_step)
    with language_of(loaded, 2**30) as language:
        features = language.get_image_features(lambda: [picture], video=False, key="picture")
        assert (
            language.get_image_features(lambda: pytest.fail("decoded again"), video=False, key="picture")
            is features
        )
        first = language.answer("<image>What is in the image?", features, max_new_tokens=3)
        whole = fed[0]
        fed.clear()
        second = language.answer("<image>Is there a red square?", features, max_new_tokens=3)
        assert whole > 60 and fed[0] < 25
        fed.clear()
        again = language.answer("<image>What is in the image?", features, max_new_tokens=3)
        assert fed[0] < 25 and again.token_ids == first.token_ids
    with language_of(loaded, 0) as language:
        features = language.get_image_features(lambda: [picture], video=False)
        alone = language.answer("<image>Is there a red square?", features, max_new_tokens=3)
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
        with language_of(loaded, budget) as language:
            features = language.get_image_features(lambda: [picture], video=False, key="picture")
            texts.append([language.caption(picture, mask, features=features).answer.text for mask in masks])
    assert texts[0] == texts[1] and texts[0][0] != texts[0][1]
