"""Small JSON schemas of pydantic models. Knows nothing of which tool they describe.

Several clients read only a part of JSON Schema and put every byte of it into their model's context, so
titles, defaults, null branches and references are taken out, and tuples become arrays. Descriptions tell
defaults.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
_REF = "#/$defs/"
_NULL = {"type": "null"}
_LEFT_OUT = ("title", "default")
_NESTED_NOISE = ("additionalProperties", "minItems", "maxItems", "minLength", "maxLength")
_STRICT_KEYWORDS = ("type", "description", "enum", "anyOf", "items")
"""What a strict schema may contain besides the keywords of objects. OpenAI and Anthropic refuse others, or
accept them for some models only."""


def arguments_schema(model: type[BaseModel]) -> Schema:
    """What a tool takes: an object without `$ref`; unknown names are refused; required ones first. Optional
    ones are `nullable`."""
    schema: Schema = _mark_optional(_make_schema(model))
    fields = {name: _drop_noise(field) for name, field in schema["properties"].items()}
    return schema | {"properties": fields}


def strict_arguments_schema(model: type[BaseModel]) -> Schema:
    """The same in the form that strict function calling requires (OpenAI's Structured Outputs): every object
    is closed and lists all of its properties as required, and null stands for what is not given."""
    return _make_strict(_make_schema(model))


def result_schema(model: type[BaseModel]) -> Schema:
    """What a tool gives. Fields without a value are left out of results, and later versions may add
    some, so only the certain ones of the outermost object are required and nothing is forbidden."""
    schema = _plain_schema(model.model_json_schema(mode="serialization"))
    fields = {name: _drop_noise(field) for name, field in schema["properties"].items()}
    return {"type": "object", "properties": fields, "required": schema["required"]}


def _make_schema(model: type[BaseModel]) -> Schema:
    schema = _plain_schema(model.model_json_schema())
    fields = schema["properties"]
    return schema | {"properties": {name: fields[name] for name in schema.get("required", [])} | fields}


def _plain_schema(schema: Schema) -> Schema:
    definitions: Schema = schema.pop("$defs", {})
    schema.pop("description", None)
    plain: Schema = _compact(schema, definitions)
    return plain


def _compact(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_compact(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    result: Schema = {}
    for key, value in _resolve(node, definitions).items():
        if key == "properties":
            result[key] = {name: _compact(field, definitions) for name, field in value.items()}
        elif key not in _LEFT_OUT:
            result[key] = _compact(value, definitions)
    return _make_array(_drop_null(result))


def _resolve(node: Schema, definitions: Schema) -> Schema:
    """The definition behind a `$ref`; a description beside the reference wins over the model's."""
    reference = node.get("$ref")
    if reference is None:
        return node
    definition = dict(definitions[reference.removeprefix(_REF)])
    definition.pop("description", None)
    return definition | {key: value for key, value in node.items() if key != "$ref"}


def _drop_null(node: Schema) -> Schema:
    branches = [branch for branch in node.get("anyOf", ()) if branch != _NULL]
    if not branches:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return branches[0] | rest if len(branches) == 1 else {"anyOf": branches} | rest


def _make_array(node: Schema) -> Schema:
    items = node.get("prefixItems")
    if items is None or any(item != items[0] for item in items):
        return node
    return {key: value for key, value in node.items() if key != "prefixItems"} | {"items": items[0]}


def _drop_noise(node: Any) -> Any:
    """Bounds of nested parts are checked, and explained, when they are crossed."""
    if isinstance(node, list):
        return [_drop_noise(item) for item in node]
    if not isinstance(node, dict):
        return node
    rest = {key: _drop_noise(value) for key, value in node.items() if key not in _NESTED_NOISE}
    if "properties" in rest:
        rest.pop("required", None)
    return rest


def _mark_optional(node: Any) -> Any:
    """`nullable` is OpenAPI's word, which Gemini and smolagents read; others ignore it."""
    if isinstance(node, list):
        return [_mark_optional(item) for item in node]
    if not isinstance(node, dict):
        return node
    marked = {key: _mark_optional(value) for key, value in node.items()}
    required = node.get("required", ())
    for name in node.get("properties", ()):
        if name not in required:
            marked["properties"][name]["nullable"] = True
    return marked


def _make_strict(node: Schema) -> Schema:
    strict = {key: node[key] for key in _STRICT_KEYWORDS if key in node}
    if "items" in strict:
        strict["items"] = _make_strict(strict["items"])
    if "anyOf" in strict:
        strict["anyOf"] = [_make_strict(branch) for branch in strict["anyOf"]]
    if "properties" in node:
        given = node.get("required", ())
        fields = {name: _make_strict(field) for name, field in node["properties"].items()}
        strict["properties"] = {
            name: field if name in given else _allow_null(field) for name, field in fields.items()
        }
        strict |= {"required": list(fields), "additionalProperties": False}
    return strict


def _allow_null(field: Schema) -> Schema:
    if "anyOf" in field:
        return field | {"anyOf": [*field["anyOf"], _NULL]}
    nullable = field | {"type": [field["type"], "null"]}
    return nullable | {"enum": [*field["enum"], None]} if "enum" in field else nullable
