"""What people type: several files, boxes as printed, times, RLE, empty values; and errors in their words."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from typer import BadParameter

from sa2va_server.cli.coordinates import read_box, read_corners, read_points
from sa2va_server.cli.flags import RegionFlags
from sa2va_server.cli.shell import quote_command
from sa2va_server.cli.sources import name_folders, split_words
from sa2va_server.cli.values import read_seconds
from sa2va_tools.errors import CheckpointNotFoundError, MediaNotFoundError, RequestError
from sa2va_tools.masks import rle
from sa2va_tools.testing import FakeEngine
from sa2va_tools.tools.catalogue import CATALOGUE

BOX = [33, 34, 128, 128]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Three pictures of one size in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 10):
        picture = Image.new("RGB", (320, 240), (70, 76, 86))
        x = 60 + 5 * number
        ImageDraw.Draw(picture).ellipse((x - 48, 32, x + 48, 128), fill=(220, 40, 40))
        picture.save(f"pic{number}.png")
    return [Path(f"pic{number}.png") for number in (1, 2, 10)]


# ---- several files -----------------------------------------------------------------------------


def test_several_files_have_one_table_and_never_become_expressions(run, pictures):
    result = run("segment", *pictures, "the red circle", "a unicorn")
    assert result.exit_code == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if re.match(r"pic\d", line)]
    assert len(rows) == 6 and all("answer:" in row for row in rows)
    assert sum("not found" in row for row in rows) == 3 and "pic2.png #1" not in result.stdout
    assert "3 files." in result.stdout


def test_a_quoted_pattern_is_expanded_in_natural_order(run, pictures):
    document = json.loads(run("segment", "pic*.png", "the red circle", "--json").stdout)
    assert [one["source"] for one in document["results"]] == [str(path) for path in pictures]
    assert all(one["masks"][0]["found"] for one in document["results"])


def test_one_file_keeps_its_own_shape_of_json(run, pictures):
    assert "masks" in json.loads(run("segment", "pic1*.png", "pic1.png", "x", "--json").stdout)["results"][0]
    assert "masks" in json.loads(run("segment", "pic2*.png", "x", "--json").stdout)
    assert "masks" in json.loads(run("segment", pictures[0], pictures[0], "x", "--json").stdout)


def test_files_that_fail_do_not_stop_the_others(run, pictures):
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ("segment", pictures[0], "missing.png", "broken.png", pictures[1], "a box")
    shown, scripted = run(*words), run(*words, "--json")
    assert shown.exit_code == scripted.exit_code == 1
    assert shown.stdout.count("mask:") == 2 and "4 files, 2 failed." in shown.stdout
    assert "missing.png  failed  There is no file" in shown.stdout and shown.stderr.count("error: ") == 2
    results = json.loads(scripted.stdout)["results"]
    assert [one.get("error", {}).get("code") for one in results] == [
        None, "media_not_found", "media_unreadable", None
    ]  # fmt: skip


def test_the_exit_code_is_the_highest(run, pictures):
    Image.new("RGB", (30, 20)).save("tiny.png")
    words = ("caption", pictures[0], "tiny.png", "missing.png", "--box", "100,100,200,200")
    assert run(*words).exit_code == 2  # the box is outside of one picture, another one is missing
    assert run("caption", pictures[0], "missing.png", "--box", "1,2,9,9").exit_code == 1


@pytest.mark.parametrize("command", ["describe", "ground", "caption", "track"])
def test_every_command_takes_several_files(run, pictures, command):
    question = [] if command == "track" else ["What is it?"]
    region = ["--box", "10,10,60,60"] if command in ("caption", "track") else []
    result = run(command, *pictures[:2], *question, *region)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("answer:") >= 2 and "2 files." in result.stdout


def test_a_folder_of_separate_pictures(run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(64, 48), (48, 64), (64, 48)]):
        Image.new("RGB", size).save(folder / f"{number}.png")
    (folder / "notes.txt").touch()
    as_video = run("segment", folder, "a box")
    assert as_video.exit_code == 1 and "differ in size" in as_video.stderr and "--each" in as_video.stderr
    results = json.loads(run("segment", folder, "a box", "--each", "--json").stdout)["results"]
    assert [Path(one["source"]).name for one in results] == ["0.png", "1.png", "2.png"]
    Path("empty").mkdir()
    assert "no images or videos" in run("segment", "empty", "x", "--each").stderr


def test_each_file_has_a_folder_of_its_own(run, pictures):
    Path("x").mkdir()
    Path("x", "pic1.png").write_bytes(pictures[0].read_bytes())
    words = ("segment", pictures[0], "x/pic1.png", pictures[1], "a box", "--out", "out")
    results = json.loads(run(*words, "--json").stdout)["results"]
    assert [one["files"]["json"] for one in results] == [
        str(Path("out", name, "masks.json")) for name in ("pic1", "pic1-2", "pic2")
    ]
    written = run(*words).stdout
    assert "Written:" in written and str(Path("out", "pic1-2")) in written


def test_names_of_folders_are_different_and_safe():
    media = ["a.png", "b/A.png", "a-2.png", "x/…?.png", os.fsdecode(b"\xff.png"), "n\nl.png", "media:abc"]
    names = name_folders(media)
    assert names == ["a", "A-2", "a-2-2", "…_", "_", "n_l", "media-abc"]
    assert len({name.casefold() for name in names}) == len(media)


@pytest.mark.parametrize("names", [["pic1.png"], ["pic1.png", "pic2.png"]])
def test_a_file_in_the_place_of_the_folder_is_a_wrong_argument(run, pictures, names):
    result = run("segment", *names, "x", "--out", "pic10.png")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.count("pic10.png is a file, not a folder.") == 1


def test_one_file_in_a_folder_is_one_file(run, pictures):
    Path("folder").mkdir()
    pictures[0].rename("folder/pic.png")
    assert run("describe", "folder", "--each").stdout.endswith("\n1 file.\n")


def test_a_wrong_option_or_checkpoint_is_told_once(run, pictures):
    wrong = run("segment", *pictures, "x", "--threshold", "5")
    assert (wrong.exit_code, wrong.stderr.count("error: ")) == (2, 1) and "--threshold" in wrong.stderr

    class Empty(FakeEngine):
        def segment(self, *arguments, **options):
            raise CheckpointNotFoundError("There is no checkpoint.")

    failed = run("segment", *pictures, "x", opener=lambda settings: Empty(settings.store_dir))
    assert (failed.exit_code, failed.stderr.count("error: ")) == (1, 1)


def test_the_engine_is_opened_once_and_ctrl_c_stops_everything(run, pictures):
    opened = []

    class Interrupted(FakeEngine):
        def segment(self, media, *arguments, **options):
            if media == str(pictures[1]):
                signal.raise_signal(signal.SIGINT)
            return super().segment(media, *arguments, **options)

    def opener(settings):
        opened.append(Interrupted(settings.store_dir))
        return opened[-1]

    result = run("segment", *pictures, "a box", "--out", "out", opener=opener)
    assert (result.exit_code, len(opened)) == (130, 1) and result.stderr.endswith("Stopped.\n")
    assert [path.name for path in Path("out").iterdir()] == ["pic1"]


# ---- files or words ------------------------------------------------------------------------------


def test_files_come_first_and_words_after_them(pictures):
    given = split_words(["pic1.png", "media:abcdefgh23", "pic?.png", "the red circle", "what?"])
    assert given.media == ("pic1.png", "media:abcdefgh23", "pic2.png")
    assert given.texts == ("the red circle", "what?")
    assert split_words(["photo of a cat"]).media == ("photo of a cat",)
    assert split_words(["pic1.png", "Is it pic1?"]).texts == ("Is it pic1?",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pic1.png", "the circle", "pic2.png"], "'pic2.png' is a file"),
        (["pic1.png", "the circle", "missing.JPG"], "'missing.JPG' is a file"),
        (["pic1.png", "the circle", "mask:abcdefgh23"], "handle"),
        (["pic1.png", "the circle", "pic*.png"], "stands after"),
        (["pic1.png", os.fsdecode(b"\xff")], "no text in UTF-8"),
    ],
)
def test_a_file_after_a_word_is_an_error(pictures, words, message):
    with pytest.raises(RequestError, match=re.escape(message)) as caught:
        split_words(words)
    assert caught.value.hint


def test_a_pattern_that_matches_nothing_is_an_error(pictures):
    with pytest.raises(MediaNotFoundError, match=r"No file matches 'nope\*\.png'"):
        split_words(["nope*.png", "x"])


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("pic2.png", "is a file or folder"),
        ("pic7.png", "ends like the name of a file"),
        ("mask:abcdefgh23", "is a handle"),
    ],
)
def test_an_error_says_why_a_word_is_no_expression(run, pictures, last, reason):
    result = run("segment", pictures[0], last)
    assert result.exit_code == 2 and f"{last!r} {reason}." in result.stderr


def test_a_file_whose_name_looks_like_a_handle(pictures, tmp_path):
    try:
        pictures[0].rename("mask:1.png")
    except OSError:
        pytest.skip("this file system has no such names")
    found = os.path.join(".", "mask:1.png")  # noqa: PTH118
    assert split_words(["mask*.png", "x"]).media == (found,)
    assert split_words(["."], each=True).media[0] == found


def test_a_missing_file_is_no_expression(run, pictures):
    result = run("segment", pictures[0], "pic7.png", "the red circle", "--json")
    assert result.exit_code == 1
    assert [mask["label"] for mask in json.loads(result.stdout)["results"][0]["masks"]] == ["the red circle"]


@pytest.mark.parametrize("command", ["segment", "describe", "ground", "caption", "track"])
def test_an_empty_name_is_no_media(run, command):
    result = run(command, "", *(["x"] if command == "segment" else []), *REGION[command])
    assert result.exit_code == 2 and "error: " in result.stderr and "MEDIA" in result.stderr


REGION = {"segment": [], "describe": [], "ground": [], "caption": ["--box", "1,2,9,9"]}
REGION["track"] = REGION["caption"]


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
