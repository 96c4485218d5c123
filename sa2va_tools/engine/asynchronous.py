"""Any engine for asyncio: calls run in threads, and cancelling a task cancels its work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial, update_wrapper
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sa2va_tools.checks import start_run, type_error
from sa2va_tools.engine.call_threads import CallThreads
from sa2va_tools.engine.mask_access import FrameResult
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.engine.streaming import SegmentStream
from sa2va_tools.run import Run

Args = ParamSpec("Args")
T = TypeVar("T")


def _as_coroutine(
    method: Callable[Concatenate[Engine, Args], T],
) -> Callable[Concatenate[AsyncEngine, Args], Coroutine[Any, Any, T]]:
    """A method of `Engine` as one of `AsyncEngine`, with its arguments and its docstring."""

    async def call(self: AsyncEngine, /, *args: Args.args, **kwargs: Args.kwargs) -> T:
        return await self._call(getattr(self.engine, method.__name__), args, kwargs)

    update_wrapper(call, method)
    return call


class AsyncEngine:
    """The methods of `Engine` as coroutines, with the same arguments.

    When the task that awaits a call is cancelled, the work is cancelled too, and the cancellation is raised
    only after it has stopped, so that the model is free again.
    """

    def __init__(self, engine: Engine) -> None:
        if not isinstance(engine, Engine):
            raise type_error("engine", engine, "an engine, as load_engine returns it")
        self.engine = engine
        self._threads = CallThreads()
        self._streams: dict[asyncio.Task[Any] | None, Run] = {}
        """The open stream of each task."""

    describe = _as_coroutine(Engine.describe)
    segment = _as_coroutine(Engine.segment)
    extend = _as_coroutine(Engine.extend)
    ground = _as_coroutine(Engine.ground)
    caption_region = _as_coroutine(Engine.caption_region)
    track = _as_coroutine(Engine.track)
    view = _as_coroutine(Engine.view)
    export = _as_coroutine(Engine.export)
    masks_json = _as_coroutine(Engine.masks_json)
    find_media = _as_coroutine(Engine.find_media)
    find_frame = _as_coroutine(Engine.find_frame)
    find_handles = _as_coroutine(Engine.find_handles)
    list_results = _as_coroutine(Engine.list_results)
    load_result = _as_coroutine(Engine.load_result)
    remove_results = _as_coroutine(Engine.remove_results)

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[FrameResult]:
        """See `Engine.stream`. Leaving the loop early stops the work."""
        run: Run = start_run(kwargs.pop("run", None))
        kwargs["run"] = run
        stream: SegmentStream = await self._call(self.engine.stream, args, kwargs)
        task = asyncio.current_task()
        try:
            while (frame := await self._threads.call(partial(next, stream, None), run)) is not None:
                self._streams[task] = run
                yield frame
        finally:
            self._streams.pop(task, None)
            run.cancel()
            await asyncio.shield(self._threads.start(stream.close))

    async def close(self) -> None:
        """Release the model, once the running call has ended."""
        await self._threads.start(self.engine.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, method: Callable[..., T], args: Any, kwargs: dict[str, Any]) -> T:
        run: Run = start_run(kwargs.pop("run", None))
        caller = await self._find_open_stream() or run
        return await self._threads.call(partial(method, *args, run=run, **kwargs), run, caller)

    async def _find_open_stream(self) -> Run | None:
        """The stream that this task is inside of: a call that waited for it would wait for itself."""
        task = asyncio.current_task()
        if task in self._streams:
            for _ in range(2):  # after a `break`, asyncio closes the stream in its next two steps
                await asyncio.sleep(0)
        return self._streams.get(task)
