"""Small JSON schemas of pydantic models. Knows nothing of which tool they describe.

Several clients read only a part of JSON Schema and put every byte of it into their model's context,
so titles, null branches and references are taken out, and tuples become arrays.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
_REF = "#/$defs/"
_NULL = {"type": "null"}
_NESTED_NOISE = ("additionalProperties", "minItems", "maxItems", "minLength", "maxLength")


def arguments_schema(model: type[BaseModel]) -> Schema:
    """What a tool takes: an object without `$ref`; unknown names are refused; required ones first."""
    schema = _inline_references(model.model_json_schema())
    fields = schema["properties"]
    schema["properties"] = {name: fields[name] for name in schema.get("required", [])} | fields
    return schema


def result_schema(model: type[BaseModel]) -> Schema:
    """What a tool gives. Fields without a value are left out of results, and later versions may add
    some, so only the certain ones of the outermost object are required and nothing is forbidden."""
    schema = _inline_references(model.model_json_schema(mode="serialization"))
    return {"type": "object", "properties": schema["properties"], "required": schema["required"]}


def _inline_references(schema: Schema) -> Schema:
    definitions: Schema = schema.pop("$defs", {})
    schema.pop("description", None)
    inlined: Schema = _compact(schema, definitions)
    inlined["properties"] = {name: _drop_noise(field) for name, field in inlined["properties"].items()}
    return inlined


def _compact(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_compact(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    result: Schema = {}
    for key, value in _resolve(node, definitions).items():
        if key == "properties":
            result[key] = {name: _compact(field, definitions) for name, field in value.items()}
        elif key != "title" and not (key == "default" and value is None):
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
