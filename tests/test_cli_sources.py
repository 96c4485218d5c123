"""What people type first: one file, several, patterns and folders, and how they are told from words."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
from PIL import Image

from sa2va_server.cli.sources import name_folders, split_words
from sa2va_tools.errors import CheckpointNotFoundError, MediaNotFoundError, RequestError
from sa2va_tools.testing import FakeEngine

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
