"""The schemas of the tools' arguments: what frameworks read in them, and the form for strict calling.

The rules of the strict form are those of OpenAI's documentation ("Structured Outputs", supported schemas).
"""

import json
from typing import Any

import pytest

from sa2va_tools.tools.catalogue import CATALOGUE

TYPES = {"string", "number", "boolean", "integer", "object", "array", "null"}
KEYWORDS = {"type", "description", "enum", "anyOf", "items", "properties", "required", "additionalProperties"}
MAX_PROPERTIES = 5000
MAX_DEPTH = 10
MAX_NAME_CHARACTERS = 120_000

each_tool = pytest.mark.parametrize("tool", CATALOGUE, ids=lambda tool: tool.name)


def check_strict(node: dict[str, Any], path: str = "$", depth: int = 1) -> int:
    """Asserts the rules for this part of a schema; returns its number of properties."""
    assert set(node) <= KEYWORDS, f"{path}: unsupported {set(node) - KEYWORDS}"
    if "anyOf" in node:
        assert path != "$" and "type" not in node, path
        return sum(check_strict(branch, f"{path}|", depth) for branch in node["anyOf"])
    types = node["type"] if isinstance(node["type"], list) else [node["type"]]
    assert types and set(types) <= TYPES, path
    if "enum" in node:
        assert ("null" in types) == (None in node["enum"]), f"{path}: null must be in both or in neither"
    count = 0
    if "array" in types:
        count += check_strict(node["items"], f"{path}[]", depth)
    if "object" in types:
        assert depth <= MAX_DEPTH, path
        assert node["additionalProperties"] is False, f"{path}: an open object"
        assert sorted(node["required"]) == sorted(node["properties"]), f"{path}: not all are required"
        for name, field in node["properties"].items():
            count += 1 + check_strict(field, f"{path}.{name}", depth + 1)
    return count


def allows_null(field: dict[str, Any]) -> bool:
    return {"type": "null"} in field.get("anyOf", ()) or "null" in field.get("type", ())


@each_tool
def test_the_strict_form_keeps_the_rules_of_strict_mode(tool):
    schema = tool.input_schema(strict=True)
    assert schema["type"] == "object"
    assert 0 < check_strict(schema) <= MAX_PROPERTIES
    assert len(json.dumps(schema)) < MAX_NAME_CHARACTERS
    assert "$ref" not in json.dumps(schema)


@each_tool
def test_in_the_strict_form_exactly_the_optional_arguments_may_be_null(tool):
    fields = tool.arguments.model_fields
    strict = tool.input_schema(strict=True)["properties"]
    assert list(strict) == list(tool.input_schema()["properties"])
    assert {name: allows_null(strict[name]) for name in strict} == {
        name: not fields[name].is_required() for name in strict
    }


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, KeyError),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": [],
                "additionalProperties": False,
            },
            AssertionError,
        ),
        ({"type": "string", "default": "x"}, AssertionError),
        ({"type": ["string", "null"], "enum": ["a"]}, AssertionError),
        ({"anyOf": [{"type": "string"}]}, AssertionError),
        ({"type": "object"}, KeyError),
        ({"type": "array"}, KeyError),
    ],
)
def test_the_rules_refuse_what_strict_mode_refuses(broken, reason):
    with pytest.raises(reason):
        check_strict(broken)


@each_tool
def test_the_usual_form_marks_optional_arguments_as_nullable_at_every_depth(tool):
    schema = tool.input_schema()
    required = {name for name, field in tool.arguments.model_fields.items() if field.is_required()}
    assert {name for name, field in schema["properties"].items() if "nullable" not in field} == required
    assert set(schema["required"]) == required
    for field in schema["properties"].values():
        parts = field.get("items", {}).get("properties", {})
        assert all(part["nullable"] is True for part in parts.values())


@each_tool
def test_every_argument_has_one_plain_type_and_no_default(tool):
    """Some frameworks take any `anyOf` for text, and strict modes refuse `default`."""
    for name, field in tool.input_schema()["properties"].items():
        assert isinstance(field["type"], str), name
        assert "default" not in field and "anyOf" not in field
    assert '"default":' not in json.dumps(tool.input_schema())


@each_tool
def test_the_description_of_an_argument_tells_its_default(tool):
    described = tool.input_schema()["properties"]
    for name, field in tool.arguments.model_fields.items():
        if not field.is_required() and field.default is not None:
            assert json.dumps(field.default).strip('"') in described[name]["description"], name
