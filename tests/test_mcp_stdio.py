"""The MCP server as a process, over its standard streams."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from sa2va_tools.testing import synthetic_clip

SERVER = str(Path(__file__).with_name("fake_stdio_server.py"))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    synthetic_clip(folder / "clip.mp4")
    return folder


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_main_job_over_stdio(mode, root):
    server = StdioServerParameters(
        command=sys.executable,
        args=[SERVER, str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    received = []

    async def on_progress(value, _total, message):
        received.append((value, message))

    with anyio.fail_after(200):
        async with Client(server, mode=mode) as client:
            assert len((await client.list_tools()).tools) == 6
            described = await client.call_tool("describe", {"media": str(root / "clip.mp4")})
            assert not described.is_error, described
            found = await client.call_tool(
                "segment_by_text",
                {"media": described.structured_content["media"]["handle"], "expressions": ["red square"]},
                progress_callback=on_progress,
            )
            handle = found.structured_content["masks"][0]["handle"]
            viewed = await client.call_tool("view", {"handles": handle})
            assert [block.type for block in viewed.content] == ["text", "image"]
            denied = await client.call_tool("describe", {"media": "/etc/hostname"})
            assert denied.is_error and str(root) in denied.content[0].text
            await _cancel_an_endless_call(client, root)
            assert not (await client.call_tool("describe", {"media": str(root / "clip.mp4")})).is_error
    assert received


async def test_the_command_serves_pictures_first_if_asked_to(root, tmp_path):
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "sa2va_server", "mcp", "--root", str(root), "--picture-first", "--store", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with anyio.fail_after(200):
        async with Client(server) as client:
            viewed = await client.call_tool("view", {"handles": str(root / "clip.mp4")})
    assert [block.type for block in viewed.content] == ["image", "text"]


async def _cancel_an_endless_call(client: Client, root: Path) -> None:
    working = anyio.Event()

    async def on_progress(_value, _total, message):
        if message.startswith("propagate: frame 1 of 600"):
            working.set()

    async with anyio.create_task_group() as group:
        arguments = {"media": str(root / "clip.mp4"), "expressions": ["endless"]}
        group.start_soon(client.call_tool, "segment_by_text", arguments, None, on_progress)
        await working.wait()
        group.cancel_scope.cancel()


INITIALIZE = {
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    },
}
INITIALIZED = {"method": "notifications/initialized"}


@contextmanager
def start_server(root: Path) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, SERVER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _send(process: subprocess.Popen, *messages: dict) -> None:
    for message in messages:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.flush()


def test_only_messages_are_written_to_standard_output(root):
    arguments = {"media": str(root / "clip.mp4")}
    call = {"id": 2, "method": "tools/call", "params": {"name": "describe", "arguments": arguments}}
    with start_server(root) as process:
        _send(process, INITIALIZE, INITIALIZED, call)
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        rest, errors = process.communicate(timeout=200)
    assert rest == ""
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["isError"] is False
    assert "noise into Python's buffer" in errors and "noise into the descriptor" in errors
    assert process.returncode == 0


def test_a_client_that_hangs_up_stops_the_work_and_the_process(root):
    """Also if calls wait or share work."""
    endless = {"media": str(root / "clip.mp4"), "expressions": ["endless"]}
    other = {"media": str(root / "clip.mp4")}
    with start_server(root) as process:
        _send(process, INITIALIZE, INITIALIZED)
        process.stdout.readline()
        calls = [("segment_by_text", endless), ("segment_by_text", endless), ("describe", other)]
        for number, (name, arguments) in enumerate(calls, start=2):
            params = {"name": name, "arguments": arguments, "_meta": {"progressToken": number}}
            _send(process, {"id": number, "method": "tools/call", "params": params})
            words = ("propagate", "joined", "waiting")[number - 2]
            while words not in process.stdout.readline():
                assert process.poll() is None
        process.communicate(timeout=200)
    assert process.returncode == 0


def test_the_server_starts_without_model_code():
    code = (
        "import sys, sa2va_server.mcp.server as server; server.CatalogueServer(lambda: None);"
        "print([name for name in ('torch', 'transformers', 'av') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.stdout.strip() == "[]"
