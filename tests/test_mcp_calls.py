"""Several calls at once, through the MCP server as a process: what needs no model never waits, what waits is
told for what, and equal calls cost one run."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from sa2va_tools.testing import synthetic_clip

SERVER = str(Path(__file__).with_name("fake_stdio_server.py"))


@pytest.fixture
def root(tmp_path) -> Path:
    synthetic_clip(tmp_path / "clip.mp4")
    return tmp_path


@pytest.fixture
def held(root) -> dict:
    """Arguments of a call that works until `release`."""
    return {"media": str(root / "clip.mp4"), "expressions": ["held square"]}


def release(root: Path) -> None:
    (root / "release").touch()


def worked(root: Path) -> list[str]:
    """The expressions whose work has begun."""
    return (root / "worked").read_text("utf-8").splitlines()


class Caller:
    """A client that remembers what its calls were told and answered."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.results: dict[str, object] = {}
        self._heard: dict[str, list[str]] = {}
        self._news = anyio.Event()

    async def call(self, title: str, name: str, arguments: dict) -> None:
        async def on_progress(_value, _total, message):
            self._heard.setdefault(title, []).append(message)
            self._news.set()
            self._news = anyio.Event()

        self.results[title] = await self.client.call_tool(name, arguments, progress_callback=on_progress)

    async def hear(self, title: str, words: str) -> str:
        """The first message to a call that contains these words."""
        while True:
            news = self._news
            for message in self._heard.get(title, []):
                if words in message:
                    return message
            await news.wait()


@asynccontextmanager
async def connect(root: Path, mode: str = "auto") -> AsyncIterator[Caller]:
    server = StdioServerParameters(
        command=sys.executable,
        args=[SERVER, str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with anyio.fail_after(200):
        async with Client(server, mode=mode) as client:
            yield Caller(client)


async def test_what_needs_no_model_is_answered_while_another_call_runs(root, held):
    clip = held["media"]
    async with connect(root) as caller, anyio.create_task_group() as group:
        first = await caller.client.call_tool("segment_by_text", {"media": clip, "expressions": ["a box"]})
        group.start_soon(caller.call, "long", "segment_by_text", held)
        await caller.hear("long", "frame 1 of 600")
        call = caller.client.call_tool

        viewed = await call("view", {"handles": first.structured_content["handle"]})
        assert [block.type for block in viewed.content] == ["text", "image"]
        for name, arguments in (
            ("segment_by_text", {"media": clip, "expressions": ["  "]}),
            ("segment_by_text", {"media": str(root / "none.mp4"), "expressions": ["a"]}),
            ("describe", {"media": "/etc/hostname"}),
            ("describe", {"media": clip, "after": "answer:aaaaaaaaaa"}),
            ("caption_region", {"regions": ["mask:aaaaaaaaaa"]}),
            ("track_region", {"media": clip, "regions": [{"box_xyxy": [0, 0, 9000, 9]}]}),
            ("view", {"handles": "mask:aaaaaaaaaa"}),
        ):
            assert (await call(name, arguments)).is_error, name
        again = await call("segment_by_text", {"media": clip, "expressions": ["a box"]})
        assert again.structured_content["provenance"]["from_store"] is True
        mask_id = first.structured_content["masks"][0]["handle"].removeprefix("mask:")
        assert (await caller.client.read_resource(f"sa2va://masks/{mask_id}/rle.json")).contents
        assert "long" not in caller.results
        release(root)
    assert not caller.results["long"].is_error


async def test_waiting_calls_are_told_what_runs_how_far_it_is_and_their_place(root, held):
    clip = held["media"]
    async with connect(root) as caller, anyio.create_task_group() as group:
        group.start_soon(caller.call, "long", "segment_by_text", held)
        await caller.hear("long", "frame 1 of 600")
        group.start_soon(caller.call, "second", "describe", {"media": clip})
        await caller.hear("second", "waiting: segment of clip.mp4 runs, frame 1 of 600; your place: 1")
        group.start_soon(caller.call, "third", "ground_conversation", {"media": clip})
        await caller.hear("third", "waiting: segment of clip.mp4 runs, frame 1 of 600; your place: 2")
        release(root)
    assert sorted(caller.results) == ["long", "second", "third"]
    assert not any(result.is_error for result in caller.results.values())


async def test_equal_calls_at_the_same_time_cost_one_run(root, held):
    spelled_out = {**held, "expressions": "held square", "stride": 1, "mode": "auto"}
    async with connect(root) as caller, anyio.create_task_group() as group:
        group.start_soon(caller.call, "first", "segment_by_text", held)
        await caller.hear("first", "frame 1 of 600")
        group.start_soon(caller.call, "second", "segment_by_text", spelled_out)
        await caller.hear("second", "joined an equal call that runs already; propagate: frame 1 of 600")
        release(root)
    first, second = (caller.results[title].structured_content for title in ("first", "second"))
    assert first == second and first["masks"][0]["found"]
    assert worked(root) == ["held square"]


async def test_a_repeated_call_is_answered_from_the_store(root, held):
    release(root)
    async with connect(root) as caller:
        first = await caller.client.call_tool("segment_by_text", held)
        media = first.structured_content["media"]["handle"]
        again = await caller.client.call_tool("segment_by_text", {**held, "media": media})
    assert worked(root) == ["held square"]
    assert "from the store" in again.content[0].text.lower()
    provenance = again.structured_content.pop("provenance")
    assert provenance == {**first.structured_content.pop("provenance"), "from_store": True}
    assert again.structured_content == first.structured_content


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_one_of_two_equal_calls_can_be_cancelled_and_the_last_one_stops_the_work(mode, root):
    endless = {"media": str(root / "clip.mp4"), "expressions": ["endless square"]}
    async with connect(root, mode) as caller, anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(caller.call, "first", "segment_by_text", endless)
                await caller.hear("first", "frame 1 of 600")
                group.start_soon(caller.call, "second", "segment_by_text", endless)
                await caller.hear("second", "joined an equal call")
                scope.cancel()
        group.start_soon(caller.call, "next", "describe", {"media": endless["media"]})
        await caller.hear("next", "waiting: segment of clip.mp4 runs, frame 1 of 600")
        assert worked(root) == ["endless square"], "the work went on for the second call"
        group.cancel_scope.cancel()
    assert not caller.results


async def test_a_cancelled_call_frees_the_model_and_is_not_joined(root):
    endless = {"media": str(root / "clip.mp4"), "expressions": ["endless square"]}
    async with connect(root) as caller:
        for _ in range(2):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.call, "endless", "segment_by_text", endless)
                await caller.hear("endless", "frame 1 of 600")
                group.cancel_scope.cancel()
            caller._heard.clear()
        assert worked(root) == ["endless square"] * 2
        assert not (await caller.client.call_tool("describe", {"media": endless["media"]})).is_error
