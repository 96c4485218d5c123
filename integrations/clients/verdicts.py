"""What reached the model, judged by what was recorded at the model's end of the wire."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.conversation import Message, OfferedTool, Part, Recording
from clients.scripted_model import MASK_HANDLE

TOOLS = (
    "describe", "segment_by_text", "ground_conversation", "caption_region", "track_region", "view",
)  # fmt: skip
BASE64_TEXT = re.compile(r"[A-Za-z0-9+/=]{2000,}")
PICTURE_PATH = re.compile(r"is the file (.+?\.(?:jpe?g|png|webp))")


@dataclass(frozen=True)
class Verdict:
    """What became of one step, in a few words; `works` is false if the model could not go on with it."""

    works: bool
    words: str


def judge(recording: Recording, clip_name: str) -> dict[str, Verdict]:
    """A verdict for the list of tools and for each step of the usual script."""
    return {
        "list": judge_list(recording.offered_tools()),
        "segment": _judge_text(recording, "segment", MASK_HANDLE.pattern),
        "view": judge_picture(recording),
        "caption": _judge_text(recording, "caption", "large red circle"),
        "nulls": _judge_text(recording, "nulls", "a red circle"),
        "error": _judge_text(recording, "error", rf"(?i)no file.{{1,200}}{re.escape(clip_name)}-missing"),
    }


def judge_list(tools: Sequence[OfferedTool]) -> Verdict:
    """Whether every tool is offered to the model."""
    missing = [name for name in TOOLS if not any(tool.name.endswith(name) for tool in tools)]
    strict = ", strict" if any(tool.strict for tool in tools) else ""
    return Verdict(not missing, f"without {', '.join(missing)}" if missing else f"ok{strict}")


def judge_picture(recording: Recording) -> Verdict:
    """Whether the model sees the picture, and where; or at least reads the path of a file that is there."""
    read = recording.read_after("view")
    if read is None:
        return _explain_silence(recording, "view")
    pictures = [
        _describe_picture(message, part)
        for message in read
        for part in message.parts
        if part.kind == "picture"
    ]
    texts = _find_contents(read, "text")
    named = [Path(path) for text in texts for path in PICTURE_PATH.findall(text)]
    paths = ["path"] if any(path.is_file() for path in named) else []
    refused = [f"the provider refuses {_shorten([each], 60)}" for each in _find_contents(read, "refused")]
    costly = []
    if encoded := sum(len(match) for text in texts for match in BASE64_TEXT.findall(text)):
        costly.append(f"base64 as text, {encoded // 1000} kB")
    words = " + ".join(pictures + paths + costly + refused)
    return Verdict(bool(pictures or paths) and not refused, words or f"lost: {_shorten(texts)}")


def _describe_picture(message: Message, part: Part) -> str:
    kilobytes = len(part.content.partition(",")[2] or part.content) * 3 // 4000
    return f"picture in a {message.role} message, {kilobytes} kB"


def _judge_text(recording: Recording, step: str, expected: str) -> Verdict:
    read = recording.read_after(step)
    if read is None:
        return _explain_silence(recording, step)
    texts = _find_contents(read, "text")
    if refused := _find_contents(read, "refused"):
        return Verdict(False, f"the provider refuses {_shorten(refused)}")
    if any(re.search(expected, text) for text in texts):
        return Verdict(True, "ok")
    return Verdict(False, f"failed: {_shorten(texts)}")


def _explain_silence(recording: Recording, step: str) -> Verdict:
    was_called = any(exchange.step == step for exchange in recording.exchanges)
    return Verdict(False, "the client ended here" if was_called else "not reached")


def _find_contents(messages: Sequence[Message], kind: str) -> list[str]:
    return [part.content for message in messages for part in message.parts if part.kind == kind]


def _shorten(texts: Sequence[str], longest: int = 160) -> str:
    text = " ".join(" ".join(texts).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def describe_problems(tools: Sequence[OfferedTool]) -> list[str]:
    """What OpenAI would refuse in the schemas of tools that are sent as strict."""
    return [
        f"{tool.name}{problem}" for tool in tools if tool.strict for problem in _find_problems(tool.schema)
    ]


def _find_problems(schema: object, place: str = "") -> list[str]:
    if isinstance(schema, list):
        return [problem for each in schema for problem in _find_problems(each, place)]
    if not isinstance(schema, dict):
        return []
    problems = []
    if "default" in schema and not isinstance(schema["default"], dict):
        problems.append(f"{place}: default is not permitted")
    if isinstance(schema.get("properties"), dict):
        properties = schema["properties"]
        if schema.get("additionalProperties") is not False:
            problems.append(f"{place}: additionalProperties is not false")
        if optional := set(properties) - set(schema.get("required", ())):
            problems.append(f"{place}: not required: {', '.join(sorted(optional))}")
        for name, each in properties.items():
            problems += _find_problems(each, f"{place}.{name}")
    for key in ("items", "anyOf"):
        problems += _find_problems(schema.get(key), place)
    return problems
