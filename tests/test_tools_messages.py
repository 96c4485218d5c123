"""Messages for agents: short, and with nothing that an agent could copy and call with."""

import ast
import re
from pathlib import Path

import pytest

from sa2va_tools.engine.regions import as_regions
from sa2va_tools.errors import RequestError, UnknownHandleError
from sa2va_tools.store.handles import KINDS, parse_id, parse_kind
from sa2va_tools.tools.catalogue import CATALOGUE, find_tool

ROOT = Path(__file__).resolve().parents[1]
_ANY_HANDLE = re.compile(r"(?:media|mask|answer):[a-z2-7]{10,52}")
LONG = "x" * 100_000
WRONG_REGIONS = [
    {},
    {"mask": "mask:…", "box_xyxy": [1, 2, 3, 4]},
    {"box": [1, 2, 3, 4]},
    {"bbox": [1, 2, 3, 4], "label": "dog", "score": 0.5, "id": 7},
    {LONG: 1},
    {"box_xyxy": [1, 2, 3]},
    {"box_xyxy": ["a", "b", "c", "d"]},
    {"box_xyxy": LONG},
    {"box_xyxy": list(range(10_000))},
    {"box_xyxy": {"x": 1, "y": 2}},
    {"box_xyxy": [float("nan")] * 4},
    {"points_xy": [["a", "b"], ["c", "d"], [1, 2, 3]]},
    {"points_xy": [{"x": 1, "y": 2}] * 100},
    {"polygon_xy": [[1, 2], [3, 4]]},
    {"polygon_xy": [[1]] * 3000},
    {"rle": {"size": [1]}},
    {"rle": "abc"},
    {"rle": {"size": [64, 96], "counts": [LONG]}},
    {"points_xy": [[1, 2]], "unit": "percent"},
    {"mask": 7},
    {"mask": {"handle": "mask:…"}},
    {"negative_points_xy": [[1, 2]], "mask": "mask:…"},
    7,
    True,
    [1, 2, 3],
    [[1, 2], [3, 4], [5, 6]],
]


@pytest.mark.parametrize("name", ["caption_region", "track_region"])
@pytest.mark.parametrize("region", WRONG_REGIONS, ids=lambda region: repr(region)[:40])
def test_an_error_about_one_region_is_short_and_says_what_a_region_is(name, region):
    with pytest.raises(RequestError) as caught:
        find_tool(name).parse({"media": "/data/a.mp4", "regions": [region]})
    text = str(caught.value)
    assert len(text) < 400, text
    assert "regions.0" in text and "box_xyxy" in text


def test_errors_about_many_regions_are_short_and_counted():
    with pytest.raises(RequestError, match=r"regions\.0.*regions\.1.*28 more") as caught:
        find_tool("track_region").parse({"regions": [{"box": [1, 2, 3, 4]}] * 30})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("region", WRONG_REGIONS, ids=lambda region: repr(region)[:40])
def test_an_error_about_a_region_in_python_is_short(region):
    with pytest.raises(RequestError) as caught:
        as_regions([region])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("given", ["mask", "handle", "box_xyxy", "box", "points_xy", "region", "points"])
def test_what_belongs_into_a_region_is_sent_there(given):
    for name in ("caption_region", "track_region"):
        with pytest.raises(RequestError, match=f"Unknown argument '{given}'. Did you mean 'regions'"):
            find_tool(name).parse({"media": "/data/a.mp4", given: "mask:…"})


@pytest.mark.parametrize("given", ["handle", "mask", "answer", "media", "path"])
def test_view_knows_what_its_handles_are_also_called(given):
    with pytest.raises(RequestError, match=f"Unknown argument '{given}'. Did you mean 'handles'"):
        find_tool("view").parse({given: "mask:…"})


def test_the_message_about_a_wrong_handle_contains_no_usable_one():
    for kind in KINDS:
        with pytest.raises(UnknownHandleError) as caught:
            parse_id("no handle", kind)
        words = re.findall(r"[^\s,;()]+", str(caught.value))
        assert not any(parse_kind(word.strip(".'\"")) for word in words)
        assert f"{kind}:…" in caught.value.message


def _texts(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_no_text_of_the_packages_contains_a_well_formed_handle():
    """Agents copy examples and call with them."""
    files = [
        path for folder in ("sa2va_tools", "server", "integrations") for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 100
    found = {str(path): _ANY_HANDLE.findall(text) for path in files for text in _texts(path)}
    assert not {path: handles for path, handles in found.items() if handles}
    assert _ANY_HANDLE.findall("for example mask:abcdefgh23.")


def test_no_description_or_schema_contains_a_well_formed_handle():
    for tool in CATALOGUE:
        schemas = (tool.input_schema(), tool.input_schema(strict=True), tool.output_schema())
        assert not _ANY_HANDLE.findall(f"{tool.description} {schemas}")
