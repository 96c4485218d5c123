"""Agent frameworks of others: the scripted model on the wire, and what is said about a recording.

The frameworks themselves run in environments of their own (`make clients`)."""

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from clients.conversation import Message, ModelRequest, OfferedTool, Part, ToolCall
from clients.dialects import gemini, openai_chat, openai_responses
from clients.model_server import serve_model
from clients.registry import CLIENTS
from clients.scripted_model import ScriptedModel, fill_all, fill_required, make_script
from clients.verdicts import TOOLS, describe_problems, judge
from sa2va_tools.tools.catalogue import CATALOGUE

ROOT = Path(__file__).parents[1]
CLIP = "/media/clip.mp4"
SEGMENTED = '"the red circle" is mask:2skp4o4d2i, score 0.95'
LEGEND = "Frames in reading order: 0. 1: mask:2skp4o4d2i the red circle"
DESCRIBED = "«There is a red circle moving up.»"
MISSING = "There is no file or folder at /media/clip-missing.mp4."
PICTURE = base64.b64encode(b"\xff\xd8" + bytes(6000)).decode()
TOOL_LIST = tuple(OfferedTool(tool.name, tool.input_schema()) for tool in CATALOGUE)


def said(text: str, role: str = "tool") -> Message:
    return Message(role, (Part("text", text),))


def run_conversation(
    *results: Message | list[Message], tools: tuple[OfferedTool, ...] = TOOL_LIST
) -> ScriptedModel:
    """The usual script against a client that answers the calls with these messages."""
    model = ScriptedModel(make_script(CLIP))
    messages = [said("Find the red circle.", "user")]
    answers = [model.answer(ModelRequest(tuple(messages), tools))]
    for result in results:
        messages += result if isinstance(result, list) else [result]
        answers.append(model.answer(ModelRequest(tuple(messages), tools)))
    assert [isinstance(answer, ToolCall) for answer in answers[:-1]] == [True] * len(results)
    return model


def verdicts_of(*results: Message | list[Message], **options) -> dict[str, tuple[bool, str]]:
    found = judge(run_conversation(*results, **options).recording, "clip")
    return {name: (verdict.works, verdict.words) for name, verdict in found.items()}


SEEN = Message("tool", (Part("text", LEGEND), Part("picture", PICTURE)))
GOOD = (said(SEGMENTED), SEEN, said("A large red circle."), said(DESCRIBED), said(MISSING))


def test_a_good_conversation_passes_everywhere():
    found = verdicts_of(*GOOD)
    assert {name for name, (works, _) in found.items() if works} == set(found)
    assert found["view"] == (True, "picture in a tool message, 6 kB")


def test_the_script_uses_the_handle_that_came_back_and_ends_with_text():
    exchanges = run_conversation(*GOOD).recording.exchanges
    assert exchanges[1].answer == ToolCall("view", {"handles": ["mask:2skp4o4d2i"]})
    assert isinstance(exchanges[-1].answer, str)


def test_without_a_handle_the_picture_is_not_asked_for():
    found = verdicts_of(said("Unknown content type from server: ResourceLink"), *GOOD[2:])
    assert found["segment"] == (False, "failed: Unknown content type from server: ResourceLink")
    assert found["view"] == (False, "not reached")
    assert found["caption"][0]


def test_a_client_that_dies_at_a_result_is_told_from_one_that_never_came_so_far():
    found = verdicts_of(said(SEGMENTED))
    assert found["view"] == (False, "the client ended here")
    assert found["caption"] == (False, "not reached")


def test_a_missing_tool_is_named():
    tools = tuple(tool for tool in TOOL_LIST if tool.name != "track_region")
    assert verdicts_of(*GOOD, tools=tools)["list"] == (False, "without track_region")


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            [said(LEGEND), Message("user", (Part("picture", PICTURE),))],
            (True, "picture in a user message, 6 kB"),
        ),
        (said(json.dumps({"data": PICTURE, "text": LEGEND})), (False, "base64 as text, 8 kB")),
        (said(LEGEND), (False, f"lost: {LEGEND}")),
        (said(f"{LEGEND} It is the file /media/no-such-picture.jpg."), (False, None)),
        (Message("tool", (Part("refused", "an image"),)), (False, "the provider refuses an image")),
    ],
)
def test_where_the_picture_went(result, expected):
    works, words = verdicts_of(GOOD[0], result, *GOOD[2:])["view"]
    assert works == expected[0]
    assert expected[1] is None or words == expected[1]


def test_a_path_counts_if_the_file_is_there(tmp_path):
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"\xff\xd8")
    found = verdicts_of(GOOD[0], said(json.dumps({"text": f"{LEGEND}\nIt is the file {picture}"})), *GOOD[2:])
    assert found["view"] == (True, "path")


def test_a_side_question_uses_no_step():
    model = ScriptedModel(make_script(CLIP))
    assert model.answer(ModelRequest((said("A title for this?", "user"),))) == "All right."
    answer = model.answer(ModelRequest((said("Find it.", "user"),), TOOL_LIST))
    assert isinstance(answer, ToolCall)
    assert answer.name == "segment_by_text"


def test_tools_with_a_prefix_are_called_by_their_whole_name():
    prefixed = tuple(OfferedTool(f"sa2va_mcp_{tool.name}", tool.schema) for tool in TOOL_LIST)
    model = run_conversation(*GOOD, tools=prefixed)
    assert model.recording.exchanges[1].answer.name == "sa2va_mcp_view"


def test_what_strict_mode_requires_is_given():
    region = {
        "type": "object",
        "properties": {
            "box_xyxy": {"type": "array", "items": {"type": "number"}},
            "unit": {"type": ["string", "null"]},
        },
        "required": ["box_xyxy", "unit"],
    }
    properties = {
        "media": {"type": "string"},
        "regions": {"anyOf": [{"type": "array", "items": region}, {"type": "null"}]},
        "start_s": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "stride": {"type": "integer", "default": 1},
        "after": {"type": "string"},
        "mode": {"enum": ["auto", None]},
        "order": {"type": "string", "enum": ["first", "last"]},
        "rle": {"type": "object", "properties": {"size": {"type": "array"}}, "required": ["size"]},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    given = {"media": CLIP, "regions": [{"box_xyxy": [0, 0, 9, 9]}]}
    assert fill_required(schema, given) == {
        "media": CLIP,
        "regions": [{"box_xyxy": [0, 0, 9, 9], "unit": None}],
        "start_s": None,
        "stride": 1,
        "after": "",
        "mode": None,
        "order": "first",
        "rle": {"size": []},
    }
    assert fill_all(schema, {"media": CLIP}) == dict.fromkeys(properties) | {"media": CLIP}


def test_strict_schemas_are_checked_as_openai_checks_them():
    loose = {
        "type": "object",
        "properties": {"a": {"type": "integer", "default": 1}, "b": {"type": "string"}},
    }
    exact = loose | {"additionalProperties": False, "required": ["a", "b"], "properties": {"a": {}, "b": {}}}
    tools = [
        OfferedTool("t", loose, strict=True),
        OfferedTool("u", loose),
        OfferedTool("v", exact, strict=True),
    ]
    assert describe_problems(tools) == [
        "t: additionalProperties is not false",
        "t: not required: a, b",
        "t.a: default is not permitted",
    ]


CALL = {"name": "segment_by_text", "arguments": {"media": CLIP, "expressions": ["the red circle"]}}
FUNCTION = {"name": "segment_by_text", "parameters": {"type": "object", "properties": {}}}


def post(url: str, body: dict) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_the_model_speaks_three_apis():
    user = {"role": "user", "content": "Find it."}
    with serve_model(ScriptedModel(make_script(CLIP))) as url:
        answer = post(f"{url}/v1/chat/completions", {"messages": [user], "tools": [{"function": FUNCTION}]})
        function = answer["choices"][0]["message"]["tool_calls"][0]["function"]
        assert function["name"] == CALL["name"]
        assert json.loads(function["arguments"]) == CALL["arguments"]
    with serve_model(ScriptedModel(make_script(CLIP))) as url:
        answer = post(f"{url}/v1/responses", {"input": [user], "tools": [{"type": "function", **FUNCTION}]})
        assert answer["output"][0]["name"] == CALL["name"]
        assert json.loads(answer["output"][0]["arguments"]) == CALL["arguments"]
    with serve_model(ScriptedModel(make_script(CLIP))) as url:
        contents = [{"role": "user", "parts": [{"text": "Find it."}]}]
        body = {"contents": contents, "tools": [{"functionDeclarations": [FUNCTION]}]}
        answer = post(f"{url}/v1beta/models/any:generateContent", body)
        part = answer["candidates"][0]["content"]["parts"][0]["functionCall"]
        assert (part["name"], part["args"]) == (CALL["name"], CALL["arguments"])


def test_what_the_model_does_not_speak_is_an_error_that_says_so():
    with (
        serve_model(ScriptedModel(make_script(CLIP))) as url,
        pytest.raises(urllib.error.HTTPError) as caught,
    ):
        post(f"{url}/v1/chat/completions", {"messages": [], "stream": True})
    assert "nor in streams" in caught.value.read().decode()


def test_pictures_are_found_in_every_api():
    chat = [
        {
            "role": "tool",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AA"}}],
        },
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AA"}}],
        },
    ]
    read = openai_chat.read_request({"messages": chat}).messages
    assert [message.parts[0].kind for message in read] == ["refused", "picture"]
    output = [
        {"type": "input_image", "image_url": "data:image/jpeg;base64,AA"},
        {"type": "input_file", "file_url": "sa2va://masks/2skp4o4d2i/rle.json"},
    ]
    read = openai_responses.read_request(
        {"input": [{"type": "function_call_output", "output": output}]}
    ).messages
    assert [part.kind for part in read[0].parts] == ["picture", "refused"]
    response = {"functionResponse": {"response": {"a": 1}, "parts": [{"inlineData": {"data": "AA"}}]}}
    read = gemini.read_request({"contents": [{"role": "user", "parts": [response]}]}).messages
    assert [(message.role, part.kind) for message in read for part in message.parts] == [
        ("tool", "text"),
        ("tool", "picture"),
    ]


def test_every_client_has_a_script_and_pinned_packages():
    for client in CLIENTS:
        lines = client.requirements.read_text(encoding="utf-8").split()
        assert lines
        assert all("==" in line for line in lines), client.name
        assert client.script.exists()


def test_the_tools_that_are_looked_for_are_those_of_the_catalogue():
    assert set(TOOLS) == {tool.name for tool in CATALOGUE}


def test_the_page_about_clients_names_the_versions_that_are_installed():
    page = (ROOT / "docs" / "CLIENTS.md").read_text(encoding="utf-8")
    for client in CLIENTS:
        pins = dict(line.split("==") for line in client.requirements.read_text(encoding="utf-8").split())
        version = next(pin for name, pin in pins.items() if name.partition("[")[0] == client.package)
        assert version in page, f"{client.name} is tried with {version}"
