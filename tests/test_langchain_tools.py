"""The LangChain tools: the standard suites, and what those do not ask."""

import asyncio
import threading
from typing import ClassVar

import pytest
from langchain_core.messages import ToolCall
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

import langchain_sa2va
from langchain_sa2va import Sa2VASegmentByTextTool, Sa2VAToolkit, Sa2VATrackRegionTool, Sa2VAViewTool
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.progress import CancelToken
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
    """What the standard suites need to know of a tool; they read properties, not fixtures."""

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


def called(tool, **arguments):
    return tool.invoke(ToolCall(name=tool.name, args=arguments, id="1", type="tool_call"))


def test_the_toolkit_offers_the_catalogue_with_its_words_and_schemas(engine):
    tools = Sa2VAToolkit(engine=engine).get_tools()
    assert [tool.name for tool in tools] == [tool.name for tool in CATALOGUE]
    for lang_tool, tool in zip(tools, CATALOGUE, strict=True):
        assert lang_tool.description == tool.description
        assert lang_tool.args_schema is tool.arguments
        shown = convert_to_openai_tool(lang_tool)["function"]
        assert shown["parameters"] == tool.input_schema()
        assert shown["description"] == tool.description


def test_every_tool_of_the_catalogue_has_a_class_of_its_own_name(engine):
    classes = {type(tool).__name__ for tool in Sa2VAToolkit(engine=engine).get_tools()}
    assert classes == {name for name in langchain_sa2va.__all__ if name.endswith("Tool")} - {"Sa2VATool"}
    assert all(getattr(langchain_sa2va, name).__name__ == name for name in classes)


def test_the_content_is_for_the_model_and_the_artifact_is_the_whole_result(engine, clip):
    tools = tools_by_name(engine)
    message = called(tools["segment_by_text"], media=clip, expressions="red square")
    assert message.status == "success"
    assert [block["type"] for block in message.content_blocks] == ["text"]
    mask = message.artifact["masks"][0]["handle"]
    assert mask in message.content[0]["text"]
    viewed = called(tools["view"], handles=mask)
    assert [block["type"] for block in viewed.content_blocks] == ["text", "image"]
    assert viewed.artifact["pictures"][0]["mime_type"] == "image/jpeg"
    assert called(tools["caption_region"], regions=[{"mask": mask}]).artifact["regions"][0]["text"]


def test_what_a_model_can_put_right_comes_back_as_an_error_message(clip, tmp_path):
    with FakeEngine(access=AccessPolicy((tmp_path,))) as fenced:
        tools = tools_by_name(fenced)
        denied = called(tools["describe"], media=clip)
        unknown = called(tools["describe"], media=clip, questoin="?")
        empty = called(tools["segment_by_text"], media=clip, expressions=" ")
    assert denied.status == unknown.status == empty.status == "error"
    assert str(tmp_path) in denied.content
    assert "Did you mean 'question'" in unknown.content
    assert "empty" in empty.content


def test_a_lack_of_memory_comes_back_as_an_error_message(clip):
    class Starved(FakeEngine):
        def segment(self, *args, **options):
            raise MemoryError

        def describe(self, *args, **options):
            raise ZeroDivisionError

    with Starved() as starved:
        tools = tools_by_name(starved)
        message = called(tools["segment_by_text"], media=clip, expressions="red")
        with pytest.raises(ZeroDivisionError):
            called(tools["describe"], media=clip)
    assert message.status == "error" and "Memory is short" in message.content


def test_a_wrong_setting_is_not_taken_for_an_argument(monkeypatch, clip):
    monkeypatch.setenv("SA2VA_CACHE_BYTES", "abc")
    for tool in (Sa2VAToolkit().get_tools()[1], Sa2VASegmentByTextTool()):
        message = called(tool, media=clip, expressions="red")
        assert message.status == "error" and "The setting SA2VA_CACHE_BYTES is wrong" in message.content
        assert "Argument" not in message.content


async def test_async_calls_give_the_same(engine, clip):
    tool = tools_by_name(engine)["segment_by_text"]
    arguments = {"media": clip, "expressions": ["red"]}
    (block,), (same,) = await tool.ainvoke(arguments), tool.invoke(arguments)
    assert block["text"] == same["text"]


async def test_cancelling_the_task_stops_the_work(clip):
    class Endless(FakeEngine):
        started, stopped = threading.Event(), threading.Event()

        def describe(self, *args, cancel: CancelToken, **options):
            self.started.set()
            try:
                while True:
                    cancel.raise_if_cancelled()
            finally:
                self.stopped.set()

    with Endless() as endless:
        task = asyncio.create_task(tools_by_name(endless)["describe"].ainvoke({"media": clip}))
        assert await asyncio.to_thread(endless.started.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert endless.stopped.is_set()


def test_the_engine_is_opened_by_the_first_call_and_shared(monkeypatch, clip):
    opened = []

    def load(model=None, *, settings=None):
        opened.append(model)
        return FakeEngine()

    monkeypatch.setattr("sa2va_tools.engine.protocol.Engine.load", staticmethod(load))
    toolkit = Sa2VAToolkit(model="nano")
    tools = {tool.name: tool for tool in toolkit.get_tools()}
    assert opened == []
    mask = called(tools["segment_by_text"], media=clip, expressions="red").artifact["masks"][0]["handle"]
    assert called(tools["view"], handles=mask).status == "success"
    assert opened == ["nano"]
    toolkit.close()


def test_progress_reaches_the_callback(engine, clip):
    heard = []
    tools = Sa2VAToolkit(engine=engine, on_progress=heard.append).get_tools()
    tools[1].invoke({"media": clip, "expressions": "red"})
    assert heard[-1].done == heard[-1].total == 16
