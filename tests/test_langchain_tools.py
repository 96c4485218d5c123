"""The LangChain tools: the standard test suites, and what those do not test."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import ToolCall
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

import langchain_sa2va
from langchain_sa2va import (
    PROGRESS_EVENT,
    Sa2VASegmentByTextTool,
    Sa2VAToolkit,
    Sa2VATrackRegionTool,
    Sa2VAViewTool,
)
from sa2va_tools.errors import RequestError
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.run import Progress, Run
from sa2va_tools.testing import FakeEngine, synthetic_clip
from sa2va_tools.tools.catalogue import CATALOGUE


@pytest.fixture(scope="module")
def engine():
    with FakeEngine() as fake:
        yield fake


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(synthetic_clip(tmp_path_factory.mktemp("media") / "clip.mp4"))


class StandardCase:
    """What the standard suites need. They read properties, not fixtures."""

    arguments: ClassVar[dict] = {}

    @pytest.fixture(autouse=True)
    def _over_the_fake_engine(self, engine, clip):
        self._engine, self._clip = engine, clip

    @property
    def tool_constructor_params(self):
        return {"engine": self._engine}

    @property
    def tool_invoke_params_example(self):
        return {"media": self._clip, **self.arguments}


class SegmentCase(StandardCase):
    tool_constructor = Sa2VASegmentByTextTool
    arguments: ClassVar[dict] = {"expressions": ["red square", "unicorn"]}


class TrackCase(StandardCase):
    tool_constructor = Sa2VATrackRegionTool
    arguments: ClassVar[dict] = {"regions": [{"box_xyxy": [5, 5, 40, 40]}], "frame_index": 3}


class ViewCase(StandardCase):
    tool_constructor = Sa2VAViewTool

    @property
    def tool_invoke_params_example(self):
        return {"handles": self._clip}


class TestSegmentUnit(SegmentCase, ToolsUnitTests):
    pass


class TestSegmentIntegration(SegmentCase, ToolsIntegrationTests):
    pass


class TestTrackUnit(TrackCase, ToolsUnitTests):
    pass


class TestTrackIntegration(TrackCase, ToolsIntegrationTests):
    pass


class TestViewUnit(ViewCase, ToolsUnitTests):
    pass


class TestViewIntegration(ViewCase, ToolsIntegrationTests):
    pass


def tools_by_name(engine) -> dict:
    return {tool.name: tool for tool in Sa2VAToolkit(engine=engine).get_tools()}


def call(tool, **arguments):
    return tool.invoke(ToolCall(name=tool.name, args=arguments, id="1", type="tool_call"))


def test_the_toolkit_has_the_texts_and_schemas_of_the_catalogue(engine):
    tools = Sa2VAToolkit(engine=engine).get_tools()
    assert [tool.name for tool in tools] == [tool.name for tool in CATALOGUE]
    for lang_tool, tool in zip(tools, CATALOGUE, strict=True):
        assert lang_tool.description == tool.description
        assert lang_tool.args_schema is tool.arguments
        shown = convert_to_openai_tool(lang_tool)["function"]
        assert shown["parameters"] == tool.input_schema()
        assert shown["description"] == tool.description


def test_strict_schemas_are_shown_and_null_stands_for_what_is_not_given(engine, clip):
    plain = tools_by_name(engine)
    strict = {tool.name: tool for tool in Sa2VAToolkit(engine=engine, strict_schemas=True).get_tools()}
    required = {
        "describe": {"media": clip},
        "segment_by_text": {"media": clip, "expressions": ["red"]},
        "ground_conversation": {"media": clip},
        "caption_region": {"media": clip, "regions": [{"box_xyxy": [5, 5, 40, 40]}]},
        "track_region": {"media": clip, "regions": [{"box_xyxy": [5, 5, 40, 40]}], "frame_index": 2},
        "view": {"handles": [clip]},
    }
    for tool in CATALOGUE:
        shown = convert_to_openai_tool(strict[tool.name], strict=True)["function"]
        assert shown["parameters"] == tool.input_schema(strict=True)
        assert shown["strict"] and shown["parameters"] != tool.input_schema()
        given = required[tool.name]
        nulls = {name: None for name in shown["parameters"]["properties"] if name not in given}
        assert nulls
        first, second = call(plain[tool.name], **given), call(strict[tool.name], **given, **nulls)
        assert (first.status, first.text) == ("success", second.text)


def test_every_tool_has_a_class_with_its_name(engine):
    classes = {type(tool).__name__ for tool in Sa2VAToolkit(engine=engine).get_tools()}
    assert classes == {name for name in langchain_sa2va.__all__ if name.endswith("Tool")} - {"Sa2VATool"}
    assert all(getattr(langchain_sa2va, name).__name__ == name for name in classes)


def test_the_artifact_is_the_whole_result(engine, clip):
    tools = tools_by_name(engine)
    message = call(tools["segment_by_text"], media=clip, expressions="red square")
    assert message.status == "success"
    assert [block["type"] for block in message.content_blocks] == ["text"]
    mask = message.artifact["masks"][0]["handle"]
    assert mask in message.content[0]["text"]
    viewed = call(tools["view"], handles=mask)
    assert [block["type"] for block in viewed.content_blocks] == ["text", "image"]
    assert viewed.artifact == {"text": viewed.content[0]["text"]}
    assert call(tools["caption_region"], regions=[{"mask": mask}]).artifact["regions"][0]["text"]


def test_what_the_model_can_correct_is_an_error_message(clip, tmp_path):
    with FakeEngine(access=AccessPolicy((tmp_path,))) as fenced:
        tools = tools_by_name(fenced)
        denied = call(tools["describe"], media=clip)
        unknown = call(tools["describe"], media=clip, questoin="?")
        empty = call(tools["segment_by_text"], media=clip, expressions=" ")
    assert denied.status == unknown.status == empty.status == "error"
    assert str(tmp_path) in denied.content
    assert "Did you mean 'question'" in unknown.content
    assert "empty" in empty.content


def test_a_lack_of_memory_is_an_error_message(clip):
    class Starved(FakeEngine):
        def segment(self, *args, **options):
            raise MemoryError

        def describe(self, *args, **options):
            raise ZeroDivisionError

    with Starved() as starved:
        tools = tools_by_name(starved)
        message = call(tools["segment_by_text"], media=clip, expressions="red")
        with pytest.raises(ZeroDivisionError):
            call(tools["describe"], media=clip)
    assert message.status == "error" and "Not enough memory" in message.content


def test_a_wrong_setting_is_not_reported_as_an_argument(monkeypatch, clip):
    monkeypatch.setenv("SA2VA_CACHE_BYTES", "abc")
    for tool in (Sa2VAToolkit().get_tools()[1], Sa2VASegmentByTextTool()):
        message = call(tool, media=clip, expressions="red")
        assert message.status == "error" and "The setting SA2VA_CACHE_BYTES is wrong" in message.content
        assert "Argument" not in message.content


async def test_async_calls_return_the_same(engine, clip):
    tool = tools_by_name(engine)["segment_by_text"]
    arguments = {"media": clip, "expressions": ["red"]}
    (block,), (same,) = await tool.ainvoke(arguments), tool.invoke(arguments)
    assert block["text"] == same["text"]


async def test_cancelling_the_task_stops_the_work(clip):
    class Endless(FakeEngine):
        started, stopped = threading.Event(), threading.Event()

        def describe(self, *args, run: Run, **options):
            self.started.set()
            try:
                while True:
                    run.raise_if_cancelled()
            finally:
                self.stopped.set()

    with Endless() as endless:
        task = asyncio.create_task(tools_by_name(endless)["describe"].ainvoke({"media": clip}))
        assert await asyncio.to_thread(endless.started.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert endless.stopped.is_set()


async def test_pictures_come_while_more_calls_wait_than_asyncio_has_threads(clip):
    class Waiting(FakeEngine):
        def describe(self, *args, run: Run, **options):
            while True:
                run.raise_if_cancelled()
                time.sleep(0.01)

    with Waiting() as engine:
        tools = tools_by_name(engine)
        waiting = [asyncio.create_task(tools["describe"].ainvoke({"media": clip})) for _ in range(40)]
        assert await tools["view"].ainvoke({"handles": clip})
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


def test_the_engine_is_opened_by_the_first_call_and_shared(monkeypatch, clip):
    opened = []

    def open_fake(model, *, settings, access):
        opened.append(model)
        return FakeEngine(access=access)

    monkeypatch.setattr("sa2va_tools.engine.local.LocalEngine.from_settings", open_fake)
    toolkit = Sa2VAToolkit(model="nano", roots=Path(clip).parent)
    tools = {tool.name: tool for tool in toolkit.get_tools()}
    assert opened == []
    mask = call(tools["segment_by_text"], media=clip, expressions="red").artifact["masks"][0]["handle"]
    assert call(tools["view"], handles=mask).status == "success"
    assert opened == ["nano"]
    toolkit.close()
    assert call(tools["view"], handles=clip).status == "success"
    assert opened == ["nano", "nano"]


@pytest.mark.parametrize(
    ("include", "names"),
    [
        (["view", "describe"], ["describe", "view"]),
        (("view", "view"), ["view"]),
        ("view", ["view"]),
        ({"view", "describe"}, ["describe", "view"]),
        ((name for name in ["view"]), ["view"]),
        ([], []),
        (None, [tool.name for tool in CATALOGUE]),
    ],
)
def test_tools_are_selected_by_name(engine, include, names):
    assert [tool.name for tool in Sa2VAToolkit(engine=engine).get_tools(include=include)] == names


def test_an_unknown_name_lists_the_names(engine):
    with pytest.raises(RequestError, match=r"no tool 'segment'\. Did you mean 'segment_by_text'") as caught:
        Sa2VAToolkit(engine=engine).get_tools(include=["view", "segment"])
    assert all(tool.name in caught.value.hint for tool in CATALOGUE)
    for wrong in (5, [5], [None], {5}, b"view"):
        with pytest.raises(RequestError, match=r"include|tool"):
            Sa2VAToolkit(engine=engine).get_tools(include=wrong)


@pytest.mark.parametrize(
    ("module", "missing", "package", "extra"),
    [
        ("langchain_sa2va", "langchain_core", "langchain-core", "langchain"),
        ("langchain_sa2va.toolkit", "langchain_core", "langchain-core", "langchain"),
        ("langchain_sa2va.middleware", "langchain", "langchain", "agents"),
    ],
)
def test_an_import_without_its_package_names_the_extra_in_one_sentence(module, missing, package, extra):
    code = f"import sys; sys.modules[{missing!r}] = None; import {module}"
    path = os.pathsep.join(sys.path)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(f"sa2va_tools.errors.MissingExtraError: This needs the package '{package}'")
    assert f'pip install "sa2va-tools[{extra}]"' in last
    assert ended.stderr.count("Traceback") == 1


def test_progress_reaches_the_function_and_the_callbacks(engine, clip):
    received: list[Progress] = []
    events = []

    class Listener(BaseCallbackHandler):
        def on_tool_start(self, serialized, input_str, *, run_id, **_):
            events.append(run_id)

        def on_custom_event(self, name, data, *, run_id, **_):
            events.append((name, data, run_id))

    tools = Sa2VAToolkit(engine=engine, on_progress=received.append).get_tools()
    tools[1].invoke({"media": clip, "expressions": "red"}, config={"callbacks": [Listener()]})
    assert received[-1].done == received[-1].total == 16
    run_id, *reports = events
    assert reports == [(PROGRESS_EVENT, asdict(progress), run_id) for progress in received]


async def test_the_function_hears_of_progress_in_the_context_of_the_call(engine, clip):
    caller = ContextVar("caller", default="")
    heard = set()
    (tool,) = Sa2VAToolkit(engine=engine, on_progress=lambda _: heard.add(caller.get())).get_tools("describe")
    caller.set("first")
    await tool.ainvoke({"media": clip})
    caller.set("second")
    tool.invoke({"media": clip})
    assert heard == {"first", "second"}


async def test_progress_is_part_of_the_stream_of_events(engine, clip):
    tool = tools_by_name(engine)["segment_by_text"]
    events = [
        event async for event in tool.astream_events({"media": clip, "expressions": "red"}, version="v2")
    ]
    reports = [event for event in events if event["event"] == "on_custom_event"]
    assert {event["name"] for event in reports} == {PROGRESS_EVENT}
    assert [event["data"]["done"] for event in reports if event["data"]["stage"] == "propagate"][-1] == 16
    assert events[-1]["event"] == "on_tool_end"
