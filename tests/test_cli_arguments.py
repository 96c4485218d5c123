"""What people type: boxes as printed, times, RLE, empty values; and errors in their words."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer import BadParameter

from sa2va_server.cli.coordinates import read_box, read_corners, read_points
from sa2va_server.cli.flags import RegionFlags
from sa2va_server.cli.shell import quote_command
from sa2va_server.cli.values import read_seconds
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle
from sa2va_tools.testing import FakeEngine
from sa2va_tools.tools.catalogue import CATALOGUE

BOX = [33, 34, 128, 128]


# ---- coordinates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "33,34,128,128",
        "33 34 128 128",
        "[33, 34, 128, 128]",
        "(33, 34, 128, 128)",
        "[33. 34. 128. 128.]",
        "((33, 34), (128, 128))",
        "box [33, 34, 128, 128]",
        "box_xyxy=[33, 34, 128, 128]",
        '"box_xyxy": [33.0, 34.0, 128.0, 128.0]',
        '{"box_xyxy": [33, 34, 128, 128], "label": "x"}',
        "3.3e1;34;128;128",
        "33,34,128,128,",
    ],
)
def test_a_box_is_taken_as_programs_print_it(text):
    assert read_box(text) == BOX


def test_a_box_is_taken_as_our_own_output_prints_it(run, pictures):
    printed = run("segment", pictures[0], "red square").stdout
    box = re.search(r"box (\[.*?\])", printed)[1]
    listed = json.loads(run("segment", pictures[0], "red square", "--json").stdout)["masks"][0]["box_xyxy"]
    for text in (box, f"box {box}", json.dumps(listed), json.dumps({"box_xyxy": listed})):
        result = json.loads(run("caption", pictures[0], "--box", text, "--json").stdout)
        assert result["regions"][0]["label"] == f"region 1 (box {','.join(f'{edge:g}' for edge in listed)})"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("1,2,3", "needs 4 numbers"),
        ("nan,1,2,3", "nan, which is no place"),
        ("1,2,inf,3", "inf, which is no place"),
        ("1,2,-Infinity,3", "-Infinity, which is no place"),
        ("1e999,1,2,3", "too large"),
        ("1,2,x,3", "not a number"),
        ("1_0,2,3,4", "not a number"),
        ("1,,2,3,4", "lacks a number"),
        (",1,2,3,4", "lacks a number"),
        ("box [1, 2, 3, 4] at frame 6", "names a frame"),
        ("{1,2,3,4}", "not valid JSON"),
        ('{"box": [1, 2, 3, 4]}', "JSON without 'box_xyxy'"),
        ("{" * 5000, "not valid JSON"),
    ],
)
def test_a_box_that_cannot_be_read(text, message):
    with pytest.raises(RequestError, match=re.escape(message)) as caught:
        read_box(text)
    assert "--box" in caught.value.message and "--box" in caught.value.hint


def test_a_box_that_is_printed_with_its_frame_keeps_it():
    with pytest.raises(RequestError) as caught:
        read_box("box [33, 34, 128, 128] at frame 6")
    assert caught.value.hint.endswith("--box 'box [33, 34, 128, 128]' --frame 6.")


def test_points_and_corners_are_taken_as_programs_print_them():
    assert read_points("--point", "[210, 140]") == read_points("--point", "(210,140)") == [(210, 140)]
    assert read_points("--point", "[[1, 2], [3, 4]]") == [(1, 2), (3, 4)]
    assert read_points("--point", '{"points_xy": [[1, 2]]}') == [(1, 2)]
    corners = [(0, 0), (9, 0), (9, -0.5)]
    for text in (
        "0,0 9,0 9,-.5",
        "[[0,0],[9,0],[9,-0.5]]",
        "[[0,0,9,0,9,-0.5]]",
        '{"polygon_xy": [[0,0],[9,0],[9,-0.5]]}',
    ):
        assert read_corners(text) == corners
    with pytest.raises(RequestError, match="needs 2 numbers"):
        read_points("--negative-point", "1,2,3,4")
    for several in ("[[0,0,9,0,9,9],[1,1,2,2,3,3]]", "[[[0,0],[9,0],[9,9]],[[1,1],[2,2],[3,3]]]"):
        with pytest.raises(RequestError, match="several outlines"):
            read_corners(several)


@pytest.mark.parametrize("form", [("--box", "-0.3,-0.3,129,129"), ("--box=-0.3,-0.3,129,129",)])
def test_a_box_may_begin_with_a_minus_and_overhang_by_rounding(run, pictures, form):
    for command in ("track", "caption"):
        result = run(command, pictures[0], *form)
        assert result.exit_code == 0 and "overhangs the picture" in result.stdout, result.stderr


@pytest.mark.parametrize("box", ["200,100,320.4,240.2", "0,0,321,240"])
def test_a_box_of_a_detector_is_cut_at_the_edge(run, pictures, box):
    result = json.loads(run("track", pictures[0], "--box", box, "--json").stdout)
    x0, y0, x1, y1 = result["masks"][0]["box_xyxy"]
    assert 0 <= x0 < x1 <= 320 and 0 <= y0 < y1 <= 240 and "overhangs" in result["warnings"][0]


def test_negative_points_belong_to_the_points(run, pictures):
    flags = RegionFlags(points=["1,2", "3,4"], negative_points=["-1,5"])
    (region,) = flags.tool_arguments("a.png")["regions"]
    assert region["points_xy"] == [(1, 2), (3, 4)] and region["negative_points_xy"] == [(-1, 5)]
    result = run("caption", pictures[0], "--point", "80,80", "--negative-point", "-1,100")
    assert result.exit_code == 0 and "overhangs" in result.stdout, result.stderr
    alone = run("caption", pictures[0], "--negative-point", "3,4")
    assert alone.exit_code == 2 and "needs a --point" in alone.stderr


# ---- RLE -----------------------------------------------------------------------------------------

UNCOMPRESSED = {"size": [240, 320], "counts": [9640, 80, 160, 80, 66840]}
COMPRESSED = rle.validate(UNCOMPRESSED)


@pytest.mark.parametrize(
    "document",
    [
        UNCOMPRESSED,
        COMPRESSED,
        [COMPRESSED],
        {"id": 7, "segmentation": UNCOMPRESSED, "area": 160},
        {"frame_index": 0, "rle": COMPRESSED},
    ],
    ids=["uncompressed", "compressed", "list", "annotation", "frame"],
)
def test_an_rle_is_taken_from_a_file_and_from_json(run, pictures, document):
    text = json.dumps(document)
    Path("mask.json").write_text(text, "utf-8")
    for value in ("mask.json", text):
        result = run("caption", pictures[0], "--rle", value)
        assert result.exit_code == 0 and "covers 160 pixels" in result.stdout, result.stderr


def test_an_rle_is_taken_as_our_own_output_prints_it(run, pictures):
    document = run("segment", pictures[0], "red square", "--json", "--rle-in-json").stdout
    mask = json.loads(document)["masks"][0]
    # As some programs on Windows write it, with a byte order mark.
    Path("mask.json").write_text(json.dumps(mask), encoding="utf-8-sig")
    result = run("caption", pictures[0], "--rle", "mask.json", "--json")
    assert json.loads(result.stdout)["regions"][0]["label"] == "region 1 (mask)"


def test_an_rle_is_read_from_standard_input_once_for_all_files(pictures):
    from typer.testing import CliRunner

    from sa2va_server.cli.app import app

    words = ["caption", *map(str, pictures[:2]), "--rle", "-", "--store", "store"]
    result = CliRunner().invoke(
        app, words, input=json.dumps(UNCOMPRESSED), obj=lambda settings: FakeEngine(settings.store_dir)
    )
    assert result.exit_code == 0 and result.stdout.count("covers 160 pixels") == 2, result.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "--rle is empty"),
        ("[]", "empty list"),
        ("nowhere.json", "cannot be read: No such file"),
        ("{", "not valid JSON"),
        ("[[1, 2, 3, 4, 5, 6]]", "is a polygon"),
        ('{"rle": [{"size": [1, 1], "counts": [1]}, {"size": [1, 1], "counts": [0, 1]}]}', "on 2 frames"),
        ('{"size": [2, 2]}', "no size and counts"),
        ('{"size": [240, 320], "counts": [1, 2]}', "cover 3 pixels"),
        ('{"size": [24, 32], "counts": [768]}', "differs from the media's"),
        ('{"size": [240, 320], "counts": "~"}', "not part of COCO"),
        ('{"size": [240, 320], "counts": [-1, 76801]}', "shorter than 0"),
    ],
)
def test_an_rle_that_cannot_be_used(run, pictures, value, message):
    result = run("track", pictures[0], "--rle", value)
    assert result.exit_code == 2 and message in result.stderr


# ---- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("65.5", 65.5),
        ("1:05.5", 65.5),
        ("00:01:05.5", 65.5),
        ("0", 0),
        ("90:00", 5400),
        ("2s", 2),
        (".5", 0.5),
    ],
)
def test_times_are_seconds_or_a_clock(text, seconds):
    assert read_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "inf", "1:75", "1:75:00", "1:2:3:4", "one", "1e9", "9" * 400]
)
def test_what_is_no_time(text):
    with pytest.raises(BadParameter):
        read_seconds(text)


@pytest.mark.parametrize("rate", ["", "nan", "1e999999999", "9" * 50, "25/0", "fast"])
def test_what_is_no_frame_rate(run, pictures, rate):
    result = run("segment", pictures[0], "x", "--fps", rate)
    assert result.exit_code == 2 and "is not a frame rate" in result.stderr


def test_a_frame_can_be_named_by_its_time(run, clip):
    for command in ("caption", "track"):
        words = (command, clip, "--box", "4,4,20,20", "--json")
        by_time, by_number = run(*words, "--time", "00:00:00.5"), run(*words, "--frame", "5")
        assert json.loads(by_time.stdout)["handle"] == json.loads(by_number.stdout)["handle"]
    viewed = json.loads(run("view", clip, "--time", "0:00.5", "--out", "a.png", "--json").stdout)
    assert viewed["frames"] == [5]
    for command in (("caption", clip, "--box", "4,4,20,20"), ("view", clip)):
        both = run(*command, "--time", "0.1", "--frame", "9")
        assert both.exit_code == 2 and "--frame" in both.stderr and "--time" in both.stderr


def test_a_range_takes_clock_times(run, clip):
    document = json.loads(
        run("segment", clip, "a box", "--start", "0:00.5", "--end", "00:00:00.9", "--json").stdout
    )
    assert document["provenance"]["frames"] == 5


# ---- empty values and the home folder --------------------------------------------------------------


@pytest.mark.parametrize("option", ["--out", "--store", "--model", "--sam2-decoder"])
def test_an_empty_option_is_an_error_and_writes_nothing(run, pictures, option, monkeypatch):
    monkeypatch.delenv("SA2VA_STORE_DIR")
    before = sorted(Path().iterdir())
    for value in ("", "  "):
        result = run("segment", pictures[0], "a box", option, value)
        assert result.exit_code == 2 and option in result.stderr and "empty" in result.stderr
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--out", ""),
        ("mcp", "--root", ""),
        ("view", "pic1.png", "--out", ""),
        ("train", "nano", "--out", ""),
        ("eval", "nano", "--out", ""),
    ],
    ids=lambda words: words[0],
)
def test_no_command_takes_an_empty_path_for_the_working_folder(run, pictures, words):
    result = run(*words)
    assert result.exit_code == 2 and "empty" in result.stderr


def test_a_tilde_is_the_home_folder_where_no_shell_has_expanded_it(run, pictures, tmp_path, monkeypatch):
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SA2VA_STORE_DIR", "~/store")
    assert run("segment", pictures[0], "a box", "--out", "~/found").exit_code == 0
    assert (home / "store").is_dir() and (home / "found" / "masks.json").is_file()
    (home / "p.png").write_bytes(pictures[0].read_bytes())
    shown = run("segment", "~/p*.png", "a box", "--store", "~/other store")
    assert shown.exit_code == 0 and not Path("~").exists(), shown.stderr
    line = next(line for line in shown.stdout.splitlines() if line.startswith("To look at it: "))
    words = shlex.split(line.removeprefix("To look at it: "))
    assert words[:2] == ["sa2va", "view"] and words[3:5] == ["--store", str(home / "other store")]
    assert run(*words[1:]).exit_code == 0


def test_a_command_to_copy_is_quoted_and_on_one_line():
    line = quote_command(["sa2va", "view", "a b", "it's", "x\ny"])
    assert "\n" not in line and ("'a b'" in line or '"a b"' in line)


# ---- hints ---------------------------------------------------------------------------------------

WRONG_CALLS = [
    ("caption", "pic1.png", "--box", "nan,1,2,3"),
    ("segment", "", "x"),
    ("caption", "pic1.png", "--box", "0.1,0.1,0.4,0.5"),
    ("segment", "pic1.png", "x", "--start", "1"),
    ("caption", "pic1.png", "--mask", "mask:aaaaaaaaaa"),
    ("caption", "pic1.png", "--mask", ""),
    ("caption", "pic1.png", "--mask", "answer:aaaaaaaaaa"),
    ("caption", "mask:aaaaaaaaaa"),
    ("caption", "pic1.png"),
    ("caption", "pic1.png", "--box", "10,10,5,5"),
    ("caption", "pic1.png", "--box", "0,0,900,900"),
    ("caption", "pic1.png", "--box", "0,0,9,9", "--fraction"),
    ("caption", "pic1.png", "--polygon", "0,0,900,900,0,900"),
    ("caption", "pic1.png", "--polygon", "1,1 1,1 1,1"),
    ("caption", "pic1.png", *["--box", "1,1,9,9"] * 40),
    ("caption", "pic1.png", *["--point", "1,1"] * 40),
    ("caption", "pic1.png", "--box", "1,1,9,9", "--frame", "7"),
    ("caption", "CLIP", "--box", "1,1,9,9", "--time", "99"),
    ("caption", "CLIP", "--box", "1,1,9,9", "--time", "1", "--frame", "2"),
    ("caption", "pic1.png", "q" * 5000, "--box", "1,1,9,9"),
    ("track", "CLIP", "--box", "1,1,9,9", "--start", "1", "--frame", "0"),
    ("track", "CLIP", "not a file", "--box", "1,1,9,9"),
    ("track", "CLIP", "--rle", '{"size": 7, "counts": true}'),
    ("segment", "CLIP", "x", "--start", "3", "--end", "1"),
    ("segment", "CLIP", "x", "--start", "99"),
    ("segment", "CLIP", "x", "--stride", "5000"),
    ("segment", "CLIP", "x", "--threshold", "7"),
    ("segment", "CLIP", "x", "--after", "answer:aaaaaaaaaa"),
    ("segment", "CLIP", "x", "--after", "mask:aaaaaaaaaa"),
    ("segment", "CLIP", "x", "--llm-frames", "99"),
    ("segment", "CLIP", "x", "--out", "pic1.png"),
    ("segment", "CLIP", "x", "--format", "png"),
    ("segment", "CLIP", "x", "--device", "toaster"),
    ("segment", "CLIP"),
    ("segment", "CLIP", ""),
    ("segment", "CLIP", *[f"thing {number}" for number in range(70)]),
    ("segment", "http://example.org/a.png", "x"),
    ("segment", "media:aaaaaaaaaa", "x"),
    ("segment", "media:nonsense!", "x"),
    ("describe", "CLIP", "one", "two"),
    ("describe", "CLIP", "--max-new-tokens", "0"),
    ("export", "mask:aaaaaaaaaa", "--out", "there"),
    ("export", "answer:nonsense", "--out", "there"),
    ("export", "answer:aaaaaaaaaa"),
    ("export", "media:aaaaaaaaaa", "--out", "there"),
    ("show", "answer:aaaaaaaaaa"),
    ("view", "pic1.png", "--crop"),
    ("show", "pic1.png"),
    ("list", "--media", "none.png"),
    ("list", "--media", ""),
    ("list", "--kind", "x"),
    ("list", "--limit", "0"),
    ("rm",),
    ("rm", "answer:aaaaaaaaaa", "--yes"),
    ("rm", "--older-than", "soon"),
    ("segment", "pic1.png", "x", "--rle-in-json"),
    ("view", "answer:aaaaaaaaaa"),
    ("view", "CLIP", "pic1.png"),
    ("view", ""),
    ("view", "pic1.png", "--frame", "3"),
]


@pytest.mark.parametrize("words", WRONG_CALLS, ids=lambda words: " ".join(words)[:40])
def test_errors_name_what_a_person_at_a_shell_can_type(run, pictures, clip, words):
    result = run(*(clip if word == "CLIP" else word for word in words))
    text = result.stdout + result.stderr.replace(str(clip), "CLIP")
    assert result.exit_code in (1, 2), text
    ours = {name for tool in CATALOGUE for name in (tool.name, *tool.arguments.model_fields)}
    fields = {"box_xyxy", "points_xy", "polygon_xy", "negative_points_xy", "max_bytes", "store_dir"}
    foreign = {name for name in ours | fields if "_" in name}
    assert not {name for name in foreign if name in text}, text
    assert not re.search(r"[Aa]rgument '?(media|regions|expressions)|unit[:=]|regions\.\d", text), text
