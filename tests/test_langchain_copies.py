"""Toolkits and tools are copied, pickled, and used in other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from pydantic import ValidationError

from langchain_sa2va import Sa2VASegmentByTextTool, Sa2VAToolkit, Sa2VAViewTool
from langchain_sa2va.tools import TOOL_CLASSES
from sa2va_tools import errors, load_engine
from sa2va_tools.errors import RequestError
from sa2va_tools.testing import FakeEngine

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda thing: thing.model_copy(),
    "deep model_copy": lambda thing: thing.model_copy(deep=True),
}
copies = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("SA2VA_STORE_DIR", str(tmp_path / "store"))
    monkeypatch.delenv("SA2VA_ROOTS", raising=False)


def call(tool: BaseTool, **arguments: object) -> ToolMessage:
    return tool.invoke(ToolCall(name=tool.name, args=arguments, id="1", type="tool_call"))


@copies
def test_copies_share_the_engine(copied, clip):
    with FakeEngine() as engine:
        toolkit = copied(Sa2VAToolkit(engine=engine))
        assert toolkit.engine is engine
        segment, view = (copied(tool) for tool in toolkit.get_tools(["segment_by_text", "view"]))
        mask = call(segment, media=str(clip), expressions="red").artifact["masks"][0]["handle"]
        assert call(view, handles=mask).status == "success"


@copies
def test_copies_of_an_engine_that_the_toolkit_opens_share_it(copied, clip, monkeypatch):
    opened = []

    def open_fake(model, *, settings, access):
        opened.append(FakeEngine(access=access))
        return opened[-1]

    monkeypatch.setattr("sa2va_tools.engine.local.LocalEngine.from_settings", open_fake)
    toolkit = Sa2VAToolkit(roots=clip.parent)
    for each in (toolkit, copied(toolkit)):
        for tool in each.get_tools("view"):
            assert call(tool, handles=str(clip)).status == call(copied(tool), handles=str(clip)).status
            assert call(tool, handles=str(clip)).status == "success"
    assert len(opened) == 1


def test_a_copy_with_other_roots_reads_those(clip, tmp_path):
    tool = Sa2VAViewTool(roots=clip.parent)
    assert call(tool, handles=str(clip)).status == "success"
    moved = tool.model_copy(update={"roots": [tmp_path]})
    assert str(tmp_path) in call(moved, handles=str(clip)).text
    assert call(tool.model_copy(update={"roots": None}), handles=str(clip)).status == "error"
    assert call(tool, handles=str(clip)).status == "success"
    with pytest.raises(RequestError, match="no folder at"):
        tool.model_copy(update={"roots": tmp_path / "nowhere"})


def test_a_tool_of_a_toolkit_copied_with_other_roots_reads_those(clip, tmp_path):
    (tool,) = Sa2VAToolkit(roots=clip.parent).get_tools("view")
    assert tool.roots == (clip.parent.resolve(),)
    moved = tool.model_copy(update={"roots": [tmp_path]})
    assert str(tmp_path) in call(moved, handles=str(clip)).text
    assert call(tool, handles=str(clip)).status == "success"
    with FakeEngine() as engine:
        (tool,) = Sa2VAToolkit(engine=engine).get_tools("view")
        with pytest.raises(RequestError, match="An engine is given"):
            tool.model_copy(update={"roots": [tmp_path]})


@pytest.mark.parametrize(("field", "value"), [("roots", "any"), ("model", "other"), ("engine", None)])
def test_the_engine_of_a_tool_is_not_changed_by_an_assignment_that_would_have_no_effect(clip, field, value):
    for thing in (Sa2VAViewTool(roots=clip.parent), Sa2VAToolkit(roots=clip.parent)):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(thing, field, value)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_toolkit_opens_its_own_engine_under_the_same_roots(clip, protocol, monkeypatch):
    monkeypatch.chdir(clip.parent)
    toolkit = Sa2VAToolkit(roots=".", on_progress=print)
    assert call(toolkit.get_tools("view")[0], handles=str(clip)).status == "success"  # the engine is open
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(toolkit, protocol))
    assert again.roots == toolkit.roots == (clip.parent.resolve(),)
    assert again.on_progress is print
    tool = again.get_tools("view")[0]
    assert call(tool, handles=str(clip)).status == "success"
    assert "outside the folders" in call(tool, handles="/etc/passwd").text


def test_tools_that_are_pickled_together_share_one_engine_again(clip):
    tools = pickle.loads(pickle.dumps(Sa2VAToolkit(roots=clip.parent).get_tools()))
    assert [tool.name for tool in tools] == list(TOOL_CLASSES)
    assert len({id(tool.engine) for tool in tools}) == 1
    wrong = call(tools[0], media=str(clip), questoin="?")
    assert wrong.status == "error" and "Did you mean 'question'" in wrong.text


def test_an_engine_that_was_handed_in_is_not_pickled_and_the_error_says_what_to_do(clip):
    with load_engine("nano") as engine, FakeEngine() as fake:
        for thing in (
            engine,
            fake,
            Sa2VAToolkit(engine=engine),
            Sa2VAToolkit(engine=fake).get_tools(),
            Sa2VASegmentByTextTool(engine=fake),
        ):
            with pytest.raises(RequestError, match="cannot be pickled") as caught:
                pickle.dumps(thing)
            assert "`model` and `roots` instead of `engine`" in caught.value.hint


def test_an_engine_and_what_opens_one_are_not_given_together():
    with FakeEngine() as engine:
        for other in ({"model": "nano"}, {"roots": "any"}, {"roots": []}):
            for kind in (Sa2VAToolkit, Sa2VAViewTool):
                with pytest.raises(RequestError, match="An engine is given, and also"):
                    kind(engine=engine, **other)


def look(toolkit: Sa2VAToolkit, clip: str) -> tuple[str, str]:
    (tool,) = toolkit.get_tools("view")
    return call(tool, handles=clip).status, call(tool, handles="/etc/passwd").text


def test_a_spawned_process_calls_tools_and_toolkits(clip):
    toolkit = Sa2VAToolkit(roots=clip.parent)
    (view,) = toolkit.get_tools("view")
    with FakeEngine() as fake, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        message = pool.submit(call, view, handles=str(clip)).result()
        assert message.status == "success" and [block["type"] for block in message.content] == [
            "text",
            "image",
        ]
        status, refusal = pool.submit(look, toolkit, str(clip)).result()
        assert status == "success" and "outside the folders" in refusal
        with pytest.raises(RequestError, match="cannot be pickled"):
            pool.submit(look, Sa2VAToolkit(engine=fake), str(clip)).result()


def _error_classes() -> list[type[errors.Sa2vaError]]:
    return [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.Sa2vaError)
    ]


@pytest.mark.parametrize("kind", _error_classes())
def test_errors_pass_from_one_process_to_another(kind):
    given = (
        kind("torch", "engine") if kind is errors.MissingExtraError else kind("Too large.", hint="Shrink it.")
    )
    again = pickle.loads(pickle.dumps(given))
    assert type(again) is kind
    assert (str(again), again.message, again.hint) == (str(given), given.message, given.hint)


def test_a_missing_extra_is_an_import_error_for_those_who_ask_for_one():
    error = errors.MissingExtraError("langchain-core", "langchain")
    assert isinstance(error, ModuleNotFoundError) and error.name == "langchain-core"


def test_folders_are_named_by_absolute_paths_that_exist(clip):
    with pytest.raises(RequestError, match="no folder at"):
        Sa2VAToolkit(roots=[clip.parent, Path("nowhere")])
    assert Sa2VAToolkit(roots="any").roots == "any"
    assert Sa2VAToolkit().roots is None
