"""The MCP server as its clients see it, with both versions of the handshake, without a transport."""

import json
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from sa2va_server.mcp.jobs import JobStatus
from sa2va_server.mcp.server import CatalogueServer
from sa2va_tools.errors import CheckpointNotFoundError
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.run import Progress, Run
from sa2va_tools.testing import FakeEngine, synthetic_clip
from sa2va_tools.tools.catalogue import CATALOGUE

LIST_BUDGET = 2_920
"""Characters per tool, in the context of every client."""
RESULT_BUDGET = 900_000

both_versions = pytest.mark.parametrize("mode", ["auto", "legacy"])


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    synthetic_clip(folder / "clip.mp4")
    return folder


@pytest.fixture
def clip(root) -> str:
    return str(root / "clip.mp4")


@asynccontextmanager
async def connect(mode: str, root: Path, source=None):
    server = CatalogueServer(
        source or (lambda: FakeEngine(access=AccessPolicy((root,)))), roots=[root], report_every_s=0.01
    )
    async with Client(server, mode=mode) as client:
        yield client


async def call_refused(client: Client, name: str, **arguments: object) -> str:
    """The text of a call's error. The server must answer the next call."""
    result = await client.call_tool(name, arguments)
    assert result.is_error, result
    assert result.structured_content is None
    assert (await client.list_tools()).tools
    return result.content[0].text


class BlockingEngine(FakeEngine):
    """`segment` reports once, then works until it is released or cancelled."""

    def __init__(self, root: Path) -> None:
        super().__init__(access=AccessPolicy((root,)))
        self.started = threading.Event()
        self.release = threading.Event()
        self.stopped = threading.Event()

    def segment(self, media, expressions, options=None, *, run: Run, **fields):
        if not self.release.is_set():
            run.report("propagate", 3, 600)
            self.started.set()
            try:
                self._work(run)
            finally:
                self.stopped.set()
        return super().segment(media, expressions, options, run=run, **fields)

    def _work(self, run: Run) -> None:
        while not self.release.wait(0.005):
            run.raise_if_cancelled()


@both_versions
async def test_lists_the_catalogue_with_its_schemas_within_the_budget(mode, root):
    async with connect(mode, root) as client:
        listed = await client.list_tools()
    assert [tool.name for tool in listed.tools] == [tool.name for tool in CATALOGUE]
    for wire, tool in zip(listed.tools, CATALOGUE, strict=True):
        assert wire.input_schema == tool.input_schema()
        assert wire.output_schema == tool.output_schema()
        assert wire.annotations.read_only_hint and not wire.annotations.destructive_hint
        assert wire.annotations.idempotent_hint and wire.annotations.open_world_hint is False
    document = listed.model_dump(by_alias=True, exclude_none=True, mode="json")
    assert len(json.dumps(document, ensure_ascii=False)) <= LIST_BUDGET * len(CATALOGUE)


@both_versions
async def test_strict_schemas_are_listed_on_request_and_nulls_are_accepted(mode, root, clip):
    engine = FakeEngine(access=AccessPolicy((root,)))
    async with Client(CatalogueServer(engine, roots=[root], strict_schemas=True), mode=mode) as client:
        listed = (await client.list_tools()).tools
        assert [tool.input_schema for tool in listed] == [
            tool.input_schema(strict=True) for tool in CATALOGUE
        ]
        properties = next(tool for tool in listed if tool.name == "segment_by_text").input_schema[
            "properties"
        ]
        arguments = dict.fromkeys(properties) | {"media": clip, "expressions": ["red"]}
        found = await client.call_tool("segment_by_text", arguments)
    assert not found.is_error and found.structured_content["masks"][0]["found"]


@both_versions
async def test_the_instructions_name_the_folders_and_the_handles(mode, root):
    async with connect(mode, root) as client:
        assert str(root) in client.instructions and "mask:" in client.instructions
        status = await client.read_resource("sa2va://status")
        assert json.loads(status.contents[0].text)["roots"] == [str(root)]


@both_versions
async def test_every_tool_answers_and_accepts_handles_of_others(mode, root, clip):
    async with connect(mode, root) as client:
        found = await client.call_tool("segment_by_text", {"media": clip, "expressions": ["red", "unicorn"]})
        assert not found.is_error
        assert found.content[0].text == found.structured_content["summary"]
        mask = found.structured_content["masks"][0]["handle"]
        for name, arguments in (
            ("describe", {"media": clip}),
            ("ground_conversation", {"media": clip, "question": "What is there?"}),
            ("caption_region", {"regions": [{"mask": mask}]}),
            ("track_region", {"media": clip, "regions": [{"box_xyxy": [5, 5, 40, 40]}], "frame_index": 8}),
        ):
            result = await client.call_tool(name, arguments)
            assert not result.is_error and result.structured_content["handle"].startswith("answer:"), result
        viewed = await client.call_tool("view", {"handles": [mask]})
        assert [block.type for block in viewed.content] == ["text", "image"]
        assert viewed.structured_content is None and mask in viewed.content[0].text
        assert len(viewed.model_dump_json()) < RESULT_BUDGET


@both_versions
async def test_a_path_outside_the_roots_is_refused_whether_or_not_it_exists(mode, root, tmp_path):
    synthetic_clip(tmp_path / "there.mp4", frames=2)
    async with connect(mode, root) as client:
        there = await call_refused(client, "describe", media=str(tmp_path / "there.mp4"))
        missing = await call_refused(client, "describe", media=str(tmp_path / "missing.mp4"))
    assert there == missing
    assert str(root) in there and "there.mp4" not in there


@both_versions
async def test_without_roots_every_path_is_refused_with_a_hint(mode, clip):
    engine = FakeEngine(access=AccessPolicy(()))
    async with Client(CatalogueServer(engine), mode=mode) as client:
        assert "--root" in await call_refused(client, "describe", media=clip)
        assert "--root" in client.instructions


@both_versions
async def test_mistakes_get_an_error_with_a_next_step(mode, root, clip):
    (root / "corrupt.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\x07" * 500)
    async with connect(mode, root) as client:
        assert "clip.mp4" in await call_refused(client, "describe", media=str(root / "clap.mp4"))
        assert "corrupt.mp4" in await call_refused(client, "describe", media=str(root / "corrupt.mp4"))
        assert "e.g." in await call_refused(client, "segment_by_text", media=clip, expressions="  ")
        assert "segment_by_text" in await call_refused(client, "view", handles="mask:abcdefgh23")
        unknown = await call_refused(client, "segment_by_text", media=clip, expresions="red")
        assert "'expresions'" in unknown and "Did you mean 'expressions'" in unknown
        assert "stride" in await call_refused(
            client, "segment_by_text", media=clip, expressions="x", stride="fast"
        )
        assert "Did you mean 'view'" in await call_refused(client, "veiw", handles=clip)
        assert not (await client.call_tool("describe", {"media": clip})).is_error


@both_versions
async def test_a_bug_is_logged_and_its_details_are_not_sent(mode, root, clip, caplog):
    class Broken(FakeEngine):
        def describe(self, *args, **kwargs):
            raise ZeroDivisionError("secret detail")

    async with connect(mode, root, Broken()) as client:
        text = await call_refused(client, "describe", media=clip)
        assert not (await client.call_tool("segment_by_text", {"media": clip, "expressions": "red"})).is_error
    assert "ZeroDivisionError" in text and "secret detail" not in text
    assert "secret detail" in caplog.text and "Traceback" in caplog.text


@both_versions
async def test_a_lack_of_memory_is_reported_with_a_hint(mode, root, clip):
    class Starved(FakeEngine):
        def segment(self, *args, **options):
            raise MemoryError

    async with connect(mode, root, lambda: Starved(access=AccessPolicy((root,)))) as client:
        text = await call_refused(client, "segment_by_text", media=clip, expressions="red")
    assert "Not enough memory" in text and "reduce the work" in text and "bug" not in text


@both_versions
async def test_an_engine_that_cannot_be_opened_is_tried_again(mode, root, clip):
    attempts = []

    def open_engine():
        attempts.append(1)
        if len(attempts) == 1:
            raise CheckpointNotFoundError("There is no checkpoint at /models/x.", hint="Use nano.")
        return FakeEngine()

    async with connect(mode, root, open_engine) as client:
        assert attempts == []
        assert "Use nano" in await call_refused(client, "describe", media=clip)
        assert not (await client.call_tool("describe", {"media": clip})).is_error
    assert len(attempts) == 2


@both_versions
async def test_progress_is_reported_while_nothing_changes(mode, root, clip):
    engine = BlockingEngine(root)
    received: list[tuple[float, str]] = []

    async def on_progress(value, _total, message):
        received.append((value, message))
        if len([1 for _, words in received if words.startswith("propagate 3/600")]) >= 3:
            engine.release.set()

    async with connect(mode, root, engine) as client:
        with anyio.fail_after(200):
            result = await client.call_tool(
                "segment_by_text", {"media": clip, "expressions": "red"}, progress_callback=on_progress
            )
    assert not result.is_error
    values = [value for value, _ in received]
    assert values == sorted(set(values))


def test_the_end_of_a_growing_answer_is_quoted():
    status = JobStatus("starting")
    status.update(Progress("answer", 3, None, "writing the answer, 3 tokens", "A red\nsquare"))
    assert status.text == 'answer: writing the answer, 3 tokens "A red square"'
    status.update(Progress("answer", 900, None, "writing the answer, 900 tokens", "word " * 900))
    assert '"…' in status.text and status.text.endswith('word "') and len(status.text) < 130
    status.update(Progress("answer", 1, None, "writing the answer, 1 tokens", ""))
    assert status.text == "answer: writing the answer, 1 tokens"


@both_versions
async def test_cancelling_a_call_stops_its_work_and_the_next_call_succeeds(mode, root, clip):
    engine = BlockingEngine(root)
    arguments = {"media": clip, "expressions": "red"}
    async with connect(mode, root, engine) as client:
        with anyio.fail_after(200):
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "segment_by_text", arguments)
                await anyio.to_thread.run_sync(engine.started.wait, 120)
                group.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(engine.stopped.wait, 120)
            assert not engine.release.is_set()
            engine.release.set()
            assert not (await client.call_tool("segment_by_text", arguments)).is_error


@both_versions
async def test_calls_take_turns_and_a_waiting_one_says_so(mode, root, clip):
    engine = BlockingEngine(root)
    waiting = anyio.Event()
    results = []

    async def on_progress(_value, _total, message):
        if message.startswith("waiting for an earlier call"):
            waiting.set()

    async with connect(mode, root, engine) as client:

        async def call(name: str, arguments: dict) -> None:
            results.append((name, await client.call_tool(name, arguments, progress_callback=on_progress)))

        with anyio.fail_after(200):
            async with anyio.create_task_group() as group:
                group.start_soon(call, "segment_by_text", {"media": clip, "expressions": "red"})
                await anyio.to_thread.run_sync(engine.started.wait, 120)
                group.start_soon(call, "describe", {"media": clip})
                await waiting.wait()
                engine.release.set()
    assert [name for name, _ in results] == ["segment_by_text", "describe"]
    assert not any(result.is_error for _, result in results)


@both_versions
async def test_the_engine_is_closed_with_the_server(mode, root, clip):
    closed = []

    class Closing(FakeEngine):
        def close(self):
            closed.append(1)
            super().close()

    async with connect(mode, root, Closing) as client:
        await client.call_tool("describe", {"media": clip})
        assert not closed
    assert closed == [1]


@both_versions
async def test_a_mask_is_a_resource_with_its_rle(mode, root, clip):
    async with connect(mode, root) as client:
        found = await client.call_tool("segment_by_text", {"media": clip, "expressions": "a box"})
        handle = found.structured_content["masks"][0]["handle"]
        link = next(block for block in found.content if block.type == "resource_link")
        assert link.name == handle
        document = json.loads((await client.read_resource(str(link.uri))).contents[0].text)
        frames = document["objects"][0]["frames"]
        assert len(frames) == document["media"]["frame_count"] == 16
        assert frames[0]["rle"]["size"] == document["media"]["size_wh"][::-1]
        with pytest.raises(MCPError, match="mask:aaaaaaaaaa"):
            await client.read_resource("sa2va://masks/aaaaaaaaaa/rle.json")
