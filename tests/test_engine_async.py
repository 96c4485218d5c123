"""Streams of frames, and engines for asyncio: the results of plain calls, and leaving stops the work."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from sa2va_tools import AsyncEngine, Run, Settings, load_engine
from sa2va_tools.errors import CancelledError, RequestError
from sa2va_tools.testing import FakeEngine, synthetic_clip

WORDS = ["the red square", "the square"]
OPTIONS = {"gate_by_object_score": False}


@pytest.fixture(scope="module", params=["local", "fake"])
def engine(request, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    if request.param == "fake":
        yield FakeEngine(store)
        return
    with load_engine(settings=Settings(device="cpu", store_dir=store)) as engine:
        yield engine


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    return synthetic_clip(tmp_path_factory.mktemp("media") / "long.mp4", frames=300)


# ---- streams --------------------------------------------------------------------------------------


def test_a_stream_gives_the_frames_and_then_the_result(engine, clip):
    whole = engine.segment(clip, WORDS, **OPTIONS)
    stream = engine.stream(clip, WORDS, **OPTIONS)
    with pytest.raises(RequestError, match="not finished"):
        _ = stream.result
    frames = list(stream)
    assert sorted(frame.index for frame in frames) == list(whole.frame_indices)
    for frame in frames:
        assert frame.labels == tuple(WORDS) and frame.masks.dtype == bool
        assert np.mean(frame.masks == whole.frame(frame.index).masks) > 0.999
    assert stream.result.handle == whole.handle
    assert engine.view(stream.result.handle).legend


def test_frames_of_a_stream_come_while_later_ones_are_still_to_be_made(engine, long_clip):
    if isinstance(engine, FakeEngine):
        pytest.skip("it makes all its masks at once")
    reports = []
    run = Run(reports.append)
    with engine.stream(long_clip, WORDS, run=run, **OPTIONS) as stream:
        first = next(stream)
        assert first.index == 0 and first.masks.shape == (2, 64, 96)
    assert not any(report.stage == "propagate" and report.done > 50 for report in reports)


def test_closing_a_stream_frees_the_engine(engine, clip, long_clip):
    stream = engine.stream(long_clip, WORDS, **OPTIONS)
    next(stream)
    stream.close()
    assert list(stream) == []
    with pytest.raises(RequestError, match="not finished"):
        _ = stream.result
    assert engine.describe(clip).text


def test_waiting_gives_the_result(engine, clip):
    stream = engine.stream(clip, WORDS, **OPTIONS)
    next(stream)
    assert stream.wait().objects[0].found


def test_a_stream_of_nothing_has_no_frames_but_a_result(engine):
    blank = np.full((48, 64, 3), 120, np.uint8)
    words = "a unicorn" if isinstance(engine, FakeEngine) else "the yellow star"
    stream = engine.stream(blank, words)
    frames = list(stream)
    found = stream.result.objects[0].found
    assert found or all(not frame.masks.any() for frame in frames)


# ---- asyncio --------------------------------------------------------------------------------------


async def test_coroutines_give_what_plain_calls_give(engine, clip, tmp_path):
    asynchronous = AsyncEngine(engine)
    result = await asynchronous.segment(clip, WORDS, **OPTIONS)
    assert result.handle == engine.segment(clip, WORDS, **OPTIONS).handle
    assert (await asynchronous.describe(clip)).text == engine.describe(clip).text
    assert (await asynchronous.track(clip, (10, 10, 40, 40))).objects[0].found
    assert (await asynchronous.caption_region(clip, (10, 10, 40, 40))).captions
    assert (await asynchronous.ground(clip)).text
    assert (await asynchronous.extend(result.handle, "a ball")).handle
    assert (await asynchronous.view(result.handle)).image
    assert await asynchronous.export(result.handle, tmp_path / "out", formats=["json"])
    assert (await asynchronous.find_media(clip)).handle == result.media.handle


async def test_frames_of_a_stream_in_an_async_loop(engine, clip):
    asynchronous = AsyncEngine(engine)
    frames = [frame async for frame in asynchronous.stream(clip, WORDS, **OPTIONS)]
    assert len(frames) == 16


async def test_cancelling_a_task_cancels_its_work(engine, clip, long_clip):
    working = threading.Event()

    def on_progress(report):
        if report.stage == "propagate":
            working.set()
            while not run.cancelled:
                time.sleep(0.01)  # or the work may be done before it is cancelled

    run = Run(on_progress)
    call = AsyncEngine(engine).track(long_clip, (10, 10, 40, 40), run=run)
    task = asyncio.create_task(call)
    while not working.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.cancelled
    assert (await AsyncEngine(engine).describe(clip)).text, "the model is free again"


async def test_a_task_that_waits_for_the_model_can_be_cancelled(clip, tmp_path):
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path)) as engine:
        stream = engine.stream(clip, WORDS, **OPTIONS)
        next(stream)  # the model now works for this stream alone
        task = asyncio.create_task(AsyncEngine(engine).describe(clip))
        await asyncio.sleep(0.3)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.wait().objects


async def test_pictures_and_refusals_come_while_many_calls_wait_for_the_model(engine, clip):
    """More calls than asyncio has threads."""
    handle = engine.segment(clip, WORDS, **OPTIONS).handle
    asynchronous = AsyncEngine(engine)
    stream = engine.stream(clip, WORDS, **OPTIONS)
    next(stream)  # the model now works for this stream alone
    waiting = [asyncio.create_task(asynchronous.describe(clip, f"What is {n}?")) for n in range(40)]
    assert (await asynchronous.view(handle)).image
    with pytest.raises(RequestError, match="answer:aaaaaaaaaa"):
        await asynchronous.describe(clip, after="answer:aaaaaaaaaa")
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    stream.close()
    await asyncio.wait(waiting)
    assert all(task.cancelled() for task in waiting)


async def test_leaving_an_async_loop_stops_the_work(engine, clip, long_clip):
    frames = AsyncEngine(engine).stream(long_clip, WORDS, **OPTIONS)
    async for _ in frames:
        break
    await frames.aclose()
    assert (await AsyncEngine(engine).describe(clip)).text


async def test_another_task_may_call_while_a_stream_is_open(engine, clip):
    """Threads are shared by many calls: the one that made a frame may make the next call."""
    asynchronous = AsyncEngine(engine)
    others = []
    async for _ in asynchronous.stream(clip, WORDS, **OPTIONS):
        others.append(asyncio.create_task(asynchronous.segment(clip, f"square {len(others)}")))
        await asyncio.sleep(0)
    results = await asyncio.gather(*others)
    assert [result.objects[0].label for result in results] == [f"square {n}" for n in range(16)]


async def test_a_call_inside_ones_own_stream_is_refused_as_it_would_wait_for_itself(engine, clip):
    asynchronous = AsyncEngine(engine)
    async for _ in asynchronous.stream(clip, WORDS, **OPTIONS):
        with pytest.raises(RequestError, match="inside its own stream"):
            await asynchronous.describe(clip, "inside?")
        assert (await asynchronous.view(str(clip), max_side=64)).image, "needs no model"


async def test_a_task_may_call_as_soon_as_it_has_left_its_stream(engine, clip):
    asynchronous = AsyncEngine(engine)
    for number in range(3):
        async for _ in asynchronous.stream(clip, WORDS, **OPTIONS):
            break
        assert (await asynchronous.describe(clip, f"after break {number}?")).text


async def test_errors_reach_the_task(engine, clip):
    with pytest.raises(RequestError, match="empty"):
        await AsyncEngine(engine).segment(clip, "")
    run = Run()
    run.cancel()
    with pytest.raises(CancelledError):
        await AsyncEngine(engine).segment(clip, WORDS, run=run)


async def test_the_engine_is_closed_with_its_wrapper(tmp_path, clip):
    engine = load_engine(settings=Settings(device="cpu", store_dir=tmp_path))
    async with AsyncEngine(engine) as asynchronous:
        await asynchronous.describe(clip)
        assert engine.host.cache_counts()
    assert not engine.host.cache_counts()
