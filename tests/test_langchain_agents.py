"""The tools inside agents and graphs: real frameworks, and a model that follows a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_sa2va import PROGRESS_EVENT, Sa2VAToolkit, move_pictures
from sa2va_tools.testing import FakeEngine

agents = pytest.importorskip("langchain.agents", reason="needs the extra [agents]")
checkpoints = pytest.importorskip("langgraph.checkpoint.memory")

FRAMES = 16


class ScriptedModel(BaseChatModel):
    """Says what it is told to, and notes what it was shown."""

    script: list[AIMessage]
    seen: list[list[BaseMessage]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools, **_):
        return self

    def _generate(self, messages, *_, **__):
        self.seen.append(messages)
        return ChatResult(generations=[ChatGeneration(message=self.script[len(self.seen) - 1])])


def make_agent(clip: Path, engine: FakeEngine, **options: Any) -> tuple[Any, ScriptedModel]:
    """An agent whose model calls two tools at once, and then ends."""
    calls = [
        {"name": "segment_by_text", "args": {"media": str(clip), "expressions": ["red"]}, "id": "a"},
        {"name": "view", "args": {"handles": [str(clip)]}, "id": "b"},
        {"name": "describe", "args": {"media": str(clip)}, "id": "c"},
    ]
    model = ScriptedModel(script=[AIMessage("I look.", tool_calls=calls), AIMessage("Done.")], seen=[])
    return agents.create_agent(model, Sa2VAToolkit(engine=engine).get_tools(), **options), model


QUESTION = {"messages": [("user", "What is red?")]}


def stream(agent: Any, config: Any = None) -> list[tuple[str, Any]]:
    return list(agent.stream(QUESTION, config, stream_mode=["custom", "updates"]))


def stream_async(agent: Any, config: Any = None) -> list[tuple[str, Any]]:
    async def collect() -> list[tuple[str, Any]]:
        return [each async for each in agent.astream(QUESTION, config, stream_mode=["custom", "updates"])]

    return asyncio.run(collect())


both_ways = pytest.mark.parametrize("streamed", [stream, stream_async])


@pytest.fixture(scope="module")
def engine():
    with FakeEngine() as fake:
        yield fake


@both_ways
def test_progress_reaches_the_custom_stream_of_a_graph(clip, engine, streamed: Callable):
    agent, _ = make_agent(clip, engine)
    reports = [event for mode, event in streamed(agent) if mode == "custom"]
    assert {report["event"] for report in reports} == {PROGRESS_EVENT}
    assert {report["tool"] for report in reports} == {"segment_by_text", "describe"}
    assert len({report["run_id"] for report in reports}) == 2  # parallel calls can be told apart
    done = [report["done"] for report in reports if report["stage"] == "propagate"]
    assert done == list(range(1, FRAMES + 1))
    assert json.loads(json.dumps(reports)) == reports


async def test_progress_reaches_events_and_asynchronous_handlers(clip, engine):
    received = []

    class Listener(AsyncCallbackHandler):
        async def on_custom_event(self, name, data, **_):
            received.append((name, data["stage"], data["done"]))

    agent, _ = make_agent(clip, engine)
    events = [
        event async for event in agent.astream_events(QUESTION, {"callbacks": [Listener()]}, version="v2")
    ]
    told = [event for event in events if event["event"] == "on_custom_event"]
    assert {event["name"] for event in told} == {PROGRESS_EVENT}
    assert (PROGRESS_EVENT, "propagate", FRAMES) in received
    assert len(received) == len(told)


def test_a_tool_that_is_called_by_hand_beside_a_graph_has_no_stream(clip, engine):
    (tool,) = Sa2VAToolkit(engine=engine).get_tools("describe")
    assert tool.invoke({"media": str(clip)})[0]["type"] == "text"


@both_ways
def test_a_checkpoint_holds_a_picture_once(clip, engine, streamed: Callable):
    saver = checkpoints.InMemorySaver()
    config = {"configurable": {"thread_id": "1"}}
    agent, _ = make_agent(clip, engine, checkpointer=saver)
    streamed(agent, config)
    messages = agent.get_state(config).values["messages"]
    (viewed,) = (message for message in messages if message.name == "view")
    (picture,) = (block for block in viewed.content if block["type"] == "image")
    _, stored = saver.serde.dumps_typed(messages)
    assert stored.count(picture["base64"].encode()) == 1


@both_ways
def test_the_middleware_shows_pictures_in_one_user_message_after_all_results(
    clip, engine, streamed: Callable
):
    from langchain_sa2va.middleware import PictureMiddleware

    agent, model = make_agent(clip, engine, middleware=[PictureMiddleware()])
    streamed(agent)
    _, shown = model.seen
    assert [type(message) for message in shown] == [HumanMessage, AIMessage, *[ToolMessage] * 3, HumanMessage]
    assert [message.name for message in shown[2:5]] == ["segment_by_text", "view", "describe"]
    assert [block["type"] for block in shown[-1].content] == ["text", "image"]
    assert "view" in shown[-1].content[0]["text"]
    assert shown[-1].content[0].keys() == {"type", "text"}  # providers refuse what they do not know
    assert all(block["type"] == "text" for message in shown[2:5] for block in message.content)


def test_messages_without_pictures_are_not_changed():
    messages = [HumanMessage("Hello"), AIMessage("Hi"), ToolMessage("text", tool_call_id="1")]
    assert move_pictures(messages) == messages
    assert move_pictures([]) == []


def test_pictures_of_several_turns_follow_their_own_turn():
    picture = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
    asked = HumanMessage([{"type": "text", "text": "And this?"}, picture])
    first = ToolMessage([picture], tool_call_id="1", name="view")
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    second = ToolMessage([{"type": "text", "text": "Legend"}, url], tool_call_id="2", name="other")
    moved = move_pictures([asked, AIMessage("?"), first, AIMessage("!"), second])
    kinds = [type(message).__name__[:2] for message in moved]
    assert kinds == ["Hu", "AI", "To", "Hu", "AI", "To", "Hu"]
    assert moved[0] is asked
    assert moved[2].content[0]["type"] == "text" and moved[3].content[1] == picture
    assert moved[5].content[0]["text"] == "Legend" and moved[6].content[1] == url
    assert first.content == [picture]  # the state of the agent stays as it is
