"""One access policy for all front ends for agents: the same cases through MCP, LangChain and plain tools."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolCall
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from langchain_sa2va import Sa2VAToolkit
from langchain_sa2va.tools import TOOL_CLASSES
from sa2va_server.mcp.server import HOW_TO_OPEN, CatalogueServer
from sa2va_tools import Settings, load_engine
from sa2va_tools.engine.access import open_agent_engine
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import AccessDeniedError, RequestError, Sa2vaError
from sa2va_tools.run import Run
from sa2va_tools.testing import FakeEngine, synthetic_clip
from sa2va_tools.tools.catalogue import CATALOGUE, find_tool

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    refused: bool
    text: str


Call = Callable[[str, Arguments], Answer]


class PlainTools:
    """As a server of our own would call them."""

    opens_by = "a new door"

    def __init__(self, roots: Any) -> None:
        self.engine = open_agent_engine(roots, how_to_open=self.opens_by)

    def __call__(self, name: str, arguments: Arguments) -> Answer:
        tool = find_tool(name)
        try:
            return Answer(False, tool.run(self.engine, tool.parse(arguments), Run()).text)
        except Sa2vaError as error:
            return Answer(True, str(error))


class Mcp:
    opens_by = "sa2va mcp --root DIR"

    def __init__(self, roots: Any) -> None:
        self.server = CatalogueServer(open_agent_engine(roots, how_to_open=HOW_TO_OPEN))

    def __call__(self, name: str, arguments: Arguments) -> Answer:
        async def call() -> Answer:
            async with Client(self.server) as client:
                result = await client.call_tool(name, arguments)
            return Answer(bool(result.is_error), result.content[0].text)

        return asyncio.run(call())


class LangChain:
    opens_by = "Sa2VAToolkit(roots=[DIR])"

    def __init__(self, roots: Any) -> None:
        self.tools = {tool.name: tool for tool in Sa2VAToolkit(roots=roots).get_tools()}

    def __call__(self, name: str, arguments: Arguments) -> Answer:
        message = self.tools[name].invoke(ToolCall(name=name, args=arguments, id="1", type="tool_call"))
        return Answer(message.status == "error", message.text)


class SingleLangChainTools(LangChain):
    opens_by = "Tool(roots=[DIR])"

    def __init__(self, roots: Any) -> None:
        self.tools = {name: kind(roots=roots) for name, kind in TOOL_CLASSES.items()}


FRONT_ENDS = (PlainTools, Mcp, LangChain, SingleLangChainTools)


@dataclass(frozen=True)
class World:
    """Two folders, and what an unrestricted program stored about a clip in each of them."""

    inside: Path
    outside: Path
    handles: dict[str, str]
    """`media`, `mask` and `answer` of a clip outside."""
    own: dict[str, str]
    """The same of a clip inside."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    base = tmp_path_factory.mktemp("world").resolve()
    inside, outside = base / "inside", base / "outside"
    for folder, frames in ((inside, 3), (outside, 4)):
        folder.mkdir()
        synthetic_clip(folder / "clip.mp4", frames=frames)
    (outside / "private.txt").write_text("secret")
    (outside / "frames").mkdir()
    (inside / "door").symlink_to(outside)
    (inside / "dangling").symlink_to(outside / "none.mp4")
    with pytest.MonkeyPatch.context() as patch, FakeEngine(base / "store") as engine:
        patch.setenv("SA2VA_STORE_DIR", str(base / "store"))
        patch.setenv("HOME", str(base))
        patch.delenv("SA2VA_ROOTS", raising=False)
        patch.chdir(base)
        yield World(inside, outside, *(_store(engine, folder / "clip.mp4") for folder in (outside, inside)))


def _store(engine: Engine, clip: Path) -> dict[str, str]:
    found = engine.segment(clip, "red")
    return {"media": found.media.handle, "mask": found.objects[0].handle, "answer": found.handle}


SPELLINGS: dict[str, Callable[[World], str]] = {
    "there": lambda world: f"{world.outside}/clip.mp4",
    "missing": lambda world: f"{world.outside}/none.mp4",
    "near an existing name": lambda world: f"{world.outside}/clpi.mp4",
    "no media": lambda world: f"{world.outside}/private.txt",
    "a folder": lambda world: str(world.outside),
    "an empty folder": lambda world: f"{world.outside}/frames",
    "a folder that contains the root": lambda world: str(world.inside.parent),
    "the file system": lambda world: "/",
    "passwords": lambda world: "/etc/passwd",
    "no such file of the system": lambda world: "/etc/passwd-none",
    "a process's own files": lambda world: "/proc/self/environ",
    "upwards": lambda world: f"{world.inside}/../outside/clip.mp4",
    "upwards through what is missing": lambda world: f"{world.inside}/no/../../outside/none.mp4",
    "upwards, relative": lambda world: "../outside/clip.mp4",
    "upwards, relative, missing": lambda world: "../outside/none.mp4",
    "through a link": lambda world: f"{world.inside}/door/clip.mp4",
    "through a link, missing": lambda world: "door/none.mp4",
    "a link": lambda world: f"{world.inside}/door",
    "a dangling link": lambda world: f"{world.inside}/dangling",
    "home": lambda world: "~/outside/clip.mp4",
    "home, missing": lambda world: "~/outside/none.mp4",
    "a URL": lambda world: f"file://{world.outside}/clip.mp4",
    "a URL, missing": lambda world: f"file://localhost{world.outside}/none.mp4",
    "an encoded URL": lambda world: f"file://{world.inside}/%2e%2e/outside/clip.mp4",
    "a name with the root's prefix": lambda world: f"{world.inside}2/clip.mp4",
    "its media handle": lambda world: world.handles["media"],
    "its mask handle": lambda world: world.handles["mask"],
    "its answer handle": lambda world: world.handles["answer"],
}
"""Ways to name what lies outside."""

BOX = {"box_xyxy": [5, 5, 40, 40]}
WITH_MEDIA: dict[str, Callable[[str], Arguments]] = {
    "describe": lambda media: {"media": media},
    "segment_by_text": lambda media: {"media": media, "expressions": ["red"]},
    "ground_conversation": lambda media: {"media": media},
    "caption_region": lambda media: {"media": media, "regions": [BOX]},
    "track_region": lambda media: {"media": media, "regions": [BOX], "frame_index": 0},
    "view": lambda media: {"handles": [media]},
}
"""Arguments of every tool about some media."""


@pytest.fixture(params=FRONT_ENDS, ids=lambda kind: kind.__name__)
def front_end(request, world) -> Any:
    return request.param


def refusal(call: Call, name: str, arguments: Arguments) -> str:
    answer = call(name, arguments)
    assert answer.refused, (name, arguments, answer.text)
    return answer.text


def test_every_tool_is_tested():
    assert WITH_MEDIA.keys() == {tool.name for tool in CATALOGUE}


def test_everything_outside_gets_the_same_answer(world, front_end):
    call = front_end([str(world.inside)])
    answers = {
        (name, spelling): refusal(call, name, arguments(write(world)))
        for name, arguments in WITH_MEDIA.items()
        for spelling, write in SPELLINGS.items()
    }
    for name in WITH_MEDIA:
        assert len({text for (tool, _), text in answers.items() if tool == name}) == 1, answers
    for text in answers.values():
        assert text.startswith("This is outside the folders that may be read:")
        assert str(world.inside) in text and front_end.opens_by in text
        assert "outside/" not in text and "clip.mp4" not in text and "media:" not in text


def test_the_answer_stays_the_same_when_the_file_is_gone(world, front_end, tmp_path):
    clip = Path(shutil.copy(world.outside / "clip.mp4", tmp_path / "moving.mp4"))
    with FakeEngine(Settings.read().store_dir) as engine:
        handle = engine.segment(clip, "red", stride=2).handle
    call = front_end(world.inside)
    before = [refusal(call, "view", {"handles": [name]}) for name in (str(clip), handle)]
    clip.unlink()
    assert before == [refusal(call, "view", {"handles": [name]}) for name in (str(clip), handle)]


def test_a_handle_of_media_outside_is_refused_beside_media_inside(world, front_end):
    call, clip = front_end(world.inside), str(world.inside / "clip.mp4")
    for name, arguments in (
        ("caption_region", {"media": clip, "regions": [{"mask": world.handles["mask"]}]}),
        ("caption_region", {"regions": [{"mask": world.own["mask"]}, {"mask": world.handles["mask"]}]}),
        (
            "track_region",
            {"media": clip, "regions": [BOX, {"mask": world.handles["mask"]}], "frame_index": 0},
        ),
        ("view", {"handles": [world.own["mask"], world.handles["mask"]]}),
        ("view", {"handles": [world.own["mask"], world.handles["answer"]]}),
        ("view", {"handles": [world.own["mask"], world.handles["media"]]}),
        ("view", {"handles": [world.own["mask"], str(world.outside / "none.mp4")]}),
        ("describe", {"media": clip, "after": world.handles["answer"]}),
        ("segment_by_text", {"media": clip, "expressions": ["red"], "after": world.handles["answer"]}),
    ):
        text = refusal(call, name, arguments)
        assert text.startswith("This is outside the folders that may be read:"), text
        assert "media:" not in text


def test_what_is_inside_is_read_by_path_and_handle(world, front_end):
    call = front_end([world.inside])
    for name in (
        str(world.inside / "clip.mp4"),
        "clip.mp4",
        "inside/clip.mp4",
        "~/inside/clip.mp4",
        f"file://{world.inside}/clip.mp4",
        *world.own.values(),
    ):
        answer = call("view", {"handles": [name]})
        assert not answer.refused and world.own["media"] in answer.text
    assert "Did you mean clip.mp4?" in refusal(call, "view", {"handles": ["clpi.mp4"]})


def test_the_same_content_may_be_read_where_it_is_inside(world, front_end, tmp_path):
    shutil.copy(world.outside / "clip.mp4", tmp_path / "copy.mp4")
    call = front_end([world.inside, tmp_path])
    refusal(call, "view", {"handles": [world.handles["mask"]]})
    assert not call("view", {"handles": [str(tmp_path / "copy.mp4")]}).refused
    assert not call("view", {"handles": [world.handles["mask"]]}).refused


def test_without_roots_nothing_is_read_and_the_answer_says_what_to_type(world, front_end):
    call = front_end(None)
    texts = {
        refusal(call, "view", {"handles": [name]})
        for name in (str(world.inside / "clip.mp4"), "clip.mp4", "/no/such/place", "~", world.own["mask"])
    }
    assert len(texts) == 1
    assert "No folder is open for reading" in (text := texts.pop()) and front_end.opens_by in text


@pytest.mark.parametrize("roots", [[], ()])
def test_an_empty_list_of_roots_reads_nothing_whatever_the_setting_says(world, front_end, roots, monkeypatch):
    monkeypatch.setenv("SA2VA_ROOTS", str(world.inside))
    assert "No folder is open" in refusal(front_end(roots), "view", {"handles": ["clip.mp4"]})


def test_the_setting_applies_where_no_roots_are_given(world, front_end, monkeypatch):
    monkeypatch.setenv("SA2VA_ROOTS", str(world.inside))
    call = front_end(None)
    assert not call("view", {"handles": ["clip.mp4"]}).refused
    assert str(world.inside) in refusal(call, "view", {"handles": [str(world.outside / "clip.mp4")]})
    call = front_end(world.outside)
    assert not call("view", {"handles": [str(world.outside / "clip.mp4")]}).refused
    refusal(call, "view", {"handles": [str(world.inside / "clip.mp4")]})


def test_any_reads_everything_and_has_to_be_said(world, front_end):
    call = front_end("any")
    for name in (world.handles["mask"], str(world.outside / "clip.mp4"), "outside/clip.mp4"):
        assert not call("view", {"handles": [name]}).refused
    assert "private.txt" in refusal(call, "view", {"handles": [str(world.outside / "private.txt")]})


@pytest.mark.parametrize("roots", ["nowhere", ["inside", "nowhere"], "", [""], ["inside", " "], [" any"]])
def test_a_root_that_is_no_folder_is_an_error_at_once(world, front_end, roots):
    with pytest.raises(RequestError, match=r"no folder at|is empty"):
        front_end(roots)


def test_a_folder_of_the_setting_that_is_not_there_is_told_by_the_first_call(world, front_end, monkeypatch):
    monkeypatch.setenv("SA2VA_ROOTS", str(world.inside / "none"))
    if front_end in (LangChain, SingleLangChainTools):
        text = refusal(front_end(None), "view", {"handles": ["clip.mp4"]})
    else:
        with pytest.raises(RequestError) as caught:
            front_end(None)
        text = str(caught.value)
    assert f"no folder at {world.inside}/none, which SA2VA_ROOTS names" in text


@pytest.mark.parametrize("roots", [3, [3], b"/", [b"/"], [None], True])
def test_roots_of_another_type_are_an_error_that_says_what_is_accepted(world, front_end, roots):
    with pytest.raises(TypeError, match=r"roots"):
        front_end(roots)


def test_a_text_is_one_folder_and_not_a_list_of_letters(world, front_end):
    call = front_end(str(world.inside))
    assert "outside the folders" in refusal(call, "view", {"handles": ["/etc/passwd"]})


async def test_the_pixels_of_a_mask_are_no_way_around_as_a_resource(world):
    server = CatalogueServer(open_agent_engine(world.inside, how_to_open=HOW_TO_OPEN))
    own, other = (f"sa2va://masks/{each['mask'][5:]}/rle.json" for each in (world.own, world.handles))
    async with Client(server) as client:
        assert (await client.read_resource(own)).contents[0].text.startswith("{")
        with pytest.raises(MCPError, match="outside the folders"):
            await client.read_resource(other)


def test_a_list_of_handles_leaves_out_what_may_not_be_read(world):
    own, others = list(world.own.values()), list(world.handles.values())
    unknown = ["mask:aaaaaaaaaa", "answer:aaaaaaaaaa", "clip.mp4"]
    with load_engine("nano", roots=world.inside) as engine:
        assert [name for name in (*own, *others, *unknown) if engine.library.allows(name)] == own
    with load_engine("nano") as engine:
        assert all(engine.library.allows(name) for name in (*own, *others))


def test_a_refusal_names_no_handles_of_what_may_not_be_read(world, front_end):
    call = front_end(world.inside)
    asked = {
        "mask": ("caption_region", {"regions": [{"mask": "mask:aaaaaaaaaa"}]}),
        "media": ("view", {"handles": ["media:aaaaaaaaaa"]}),
        "answer": ("describe", {"media": world.own["media"], "after": "answer:aaaaaaaaaa"}),
    }
    for kind, (name, arguments) in asked.items():
        answer = call(name, arguments)
        assert answer.refused and world.own[kind] in answer.text
        assert not any(handle in answer.text for handle in world.handles.values()), answer.text


def test_a_program_of_ones_own_reads_everything_or_what_it_says(world, monkeypatch):
    monkeypatch.setenv("SA2VA_ROOTS", str(world.inside))
    with load_engine("nano") as engine:
        assert engine.find_media(world.outside / "clip.mp4").frame_count == 4
    with load_engine("nano", roots=world.inside) as engine:
        assert engine.find_media("clip.mp4").frame_count == 3
        for name in (world.outside / "clip.mp4", world.handles["mask"], world.outside / "none.mp4"):
            with pytest.raises(AccessDeniedError, match=r"load_engine\(roots=\[DIR\]\)"):
                engine.find_media(name)
    with load_engine("nano", roots="any") as engine:
        assert engine.find_media(world.outside / "clip.mp4").frame_count == 4


def test_an_engine_that_was_handed_over_reads_what_it_was_opened_for(world):
    for roots, is_read in ((None, True), (world.inside, False), (world.outside, True)):
        with load_engine("nano", roots=roots) as engine:
            tools = {tool.name: tool for tool in Sa2VAToolkit(engine=engine).get_tools()}
            call = ToolCall(name="view", args={"handles": [world.handles["mask"]]}, id="1", type="tool_call")
            assert (tools["view"].invoke(call).status == "success") == is_read
    with load_engine("nano") as engine, pytest.raises(RequestError, match="An engine is given, and also"):
        Sa2VAToolkit(engine=engine, roots=[world.inside])


def test_bytes_that_a_program_passed_may_be_read_by_their_handle(world):
    with load_engine("nano") as engine:
        handle = engine.find_media((world.outside / "clip.mp4").read_bytes() + b"\0").handle
    assert not PlainTools(world.inside)("view", {"handles": [handle]}).refused
