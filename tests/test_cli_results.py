"""Results in hand: `list`, `show`, `export`, `rm`, RLE in JSON, and a stop that leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa2va_server.cli.demo_scene import write_demo_clip
from sa2va_server.cli.results import parse_age_s
from sa2va_server.cli.stopping import StopSignals, end_at_once
from sa2va_tools import atomic
from sa2va_tools.errors import RequestError, StoreError
from sa2va_tools.masks import rle
from sa2va_tools.testing import FakeEngine


def read_json(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def made(run, clip):
    """The handles of one result of each kind, oldest first."""
    box = ("--box", "1,2,30,40")
    commands = {
        "segment": ("segment", clip, "a red box", "a unicorn"),
        "describe": ("describe", clip, "What is it?"),
        "ground": ("ground", clip),
        "caption": ("caption", clip, *box),
        "track": ("track", clip, *box),
    }
    return {kind: read_json(run(*words, "--json"))["handle"] for kind, words in commands.items()}


# ---- list and show --------------------------------------------------------------------------------


def test_the_list_shows_when_what_and_how_large_newest_first(run, made, clip):
    lines = run("list").stdout.splitlines()
    assert [line.split()[2] for line in lines] == list(made)[::-1]
    assert all(("clip.mp4" in line and " B  answer:" in line) or " kB  answer:" in line for line in lines)
    assert "a red box, a unicorn (not found)" in lines[-1] and made["segment"] in lines[-1]
    document = read_json(run("list", "--json"))["results"]
    oldest = document[-1]
    assert (oldest["handle"], oldest["labels"], oldest["not_found"]) == (
        made["segment"],
        ["a red box"],
        ["a unicorn"],
    )
    assert oldest["media"]["name"] == "clip.mp4" and oldest["size_bytes"] > 100
    assert oldest["stored_at"].endswith("+00:00")


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (("--kind", "ground"), ["ground"]),
        (("--text", "UNICORN"), ["segment"]),
        (("--text", "clip.MP4", "-n", "2"), ["track", "caption"]),
        (("--text", "nothing like this"), []),
        (("-n", "1"), ["track"]),
    ],
)
def test_the_list_can_be_filtered(run, made, options, kinds):
    assert [each["kind"] for each in read_json(run("list", "--json", *options))["results"]] == kinds


def test_the_list_finds_results_of_a_file_that_is_gone(run, made, clip, tmp_path):
    other = tmp_path / "photo.png"
    Image.new("RGB", (64, 48), (200, 30, 30)).save(other)
    handle = read_json(run("segment", other, "a box", "--json"))["handle"]
    other.unlink()
    for media in (other, "photo.png", f"{tmp_path}/./photo.png"):
        (found,) = read_json(run("list", "--media", media, "--json"))["results"]
        assert found["handle"] == handle
    assert len(read_json(run("list", "--media", clip, "--json"))["results"]) == len(made)
    assert run("list", "--media", "never.png").exit_code == 1
    shown = run("show", handle)
    assert shown.exit_code == 0 and "photo.png" in shown.stdout


def test_an_empty_store_has_an_empty_list(run):
    assert run("list").stdout == "No results.\n"
    assert read_json(run("list", "--json")) == {"results": []}


def test_show_prints_what_was_printed_when_the_result_was_made(run, clip):
    box = ("--box", "1,2,30,40")
    for words in (
        ("segment", clip, "a red box", "a unicorn"),
        ("describe", clip, "What is it?"),
        ("ground", clip),
        ("caption", clip, *box, "--box", "9,9,20,20"),
        ("track", clip, *box),
    ):
        first = read_json(run(*words, "--json"))
        assert read_json(run("show", first["handle"], "--json")) == first
        assert run("show", first["handle"]).stdout.splitlines()[0] == run(*words).stdout.splitlines()[0]


def test_show_takes_masks_media_and_several_handles(run, made, clip):
    mask = read_json(run("show", made["segment"], "--json"))["masks"][0]
    document = read_json(run("show", mask["handle"], "--json"))
    assert document["masks"] == [mask]
    media = read_json(run("show", document["media"]["handle"], "--json"))
    assert media["media"]["name"] == "clip.mp4" and set(media["results"]) == set(made.values())
    both = read_json(run("show", made["track"], made["describe"], "--json"))["results"]
    assert [each["handle"] for each in both] == [made["track"], made["describe"]]
    for wrong in ("answer:abcdefgh23", "the red car", ""):
        result = run("show", wrong)
        assert result.exit_code == 2 and "hint:" in result.stderr


# ---- export and RLE -------------------------------------------------------------------------------


def test_export_writes_what_out_would_have_written(run, clip):
    answer = read_json(run("segment", clip, "a red box", "a unicorn", "--out", "direct", "--json"))
    files = read_json(run("export", answer["handle"], "--out", "later", "--json"))["files"]
    assert {kind: Path(path).name for kind, path in files.items()} == {
        kind: Path(path).name for kind, path in answer["files"].items()
    }
    assert Path("later/masks.json").read_bytes() == Path("direct/masks.json").read_bytes()
    mask = answer["masks"][0]["handle"]
    result = run("export", mask, answer["handle"], "--out", "some", "--format", "coco")
    assert result.exit_code == 0 and "some/coco.json" in result.stdout
    assert json.loads(Path("some/coco.json").read_text())["info"]["not_found"][0]["label"] == "a unicorn"


def test_export_says_what_it_needs(run, made, clip):
    assert "--out DIR" in run("export", made["segment"]).stderr
    media = read_json(run("show", made["segment"], "--json"))["media"]["handle"]
    for handle in (media, "answer:abcdefgh23"):
        result = run("export", handle, "--out", "there")
        assert result.exit_code == 2 and not Path("there").exists()


def test_export_offers_only_what_it_takes(run):
    shown = run("export", "--help").stdout
    assert "--out" in shown and "--format" in shown
    assert "--rle-in-json" not in shown and "of several sources" not in shown


def test_rle_in_json_gives_the_masks_themselves(run, clip):
    document = read_json(run("segment", clip, "a red box", "a unicorn", "--json", "--rle-in-json"))
    found, missing = document["masks"]
    assert "rle" not in missing and [each["frame_index"] for each in found["rle"]] == list(range(16))
    engine = FakeEngine(Path("store"))
    track = engine.load_result(document["handle"]).objects[0].track
    for each in found["rle"]:
        assert {"size": each["size"], "counts": each["counts"]} == track.at(each["frame_index"])
        np.testing.assert_array_equal(rle.decode(each), track.mask(each["frame_index"]))
    assert read_json(run("show", document["handle"], "--json", "--rle-in-json")) == document
    region = read_json(run("caption", clip, "--mask", found["handle"], "--json", "--rle-in-json"))
    assert len(region["regions"][0]["rle"]) == 1
    assert "rle" not in read_json(run("segment", clip, "a red box", "--json"))["masks"][0]
    for command in (("segment", clip, "a red box"), ("show", document["handle"])):
        refused = run(*command, "--rle-in-json")
        assert refused.exit_code == 2 and "needs --json" in refused.stderr


# ---- rm -------------------------------------------------------------------------------------------


def test_rm_needs_a_confirmation_and_says_what_it_freed(run, made):
    refused = run("rm", made["segment"])
    assert refused.exit_code == 2 and "--yes" in refused.stderr and "1 result with 1 mask" in refused.stderr
    done = run("rm", made["segment"], "--yes")
    assert done.exit_code == 0 and done.stdout.startswith("Removed 1 result with 1 mask (")
    assert run("show", made["segment"]).exit_code == 2
    document = read_json(run("rm", "--all", "--yes", "--json"))
    assert set(made.values()) - {made["segment"]} <= set(document["removed"]) and document["size_bytes"] > 0
    assert run("list").stdout == "No results.\n"
    again = run("rm", "--all")
    assert again.exit_code == 0 and again.stdout == "Removed nothing (0 B).\n"


def test_rm_asks_on_a_terminal(run, made, monkeypatch):
    asked = []
    monkeypatch.setattr("sa2va_server.cli.results.has_terminal", lambda: True)
    for answer, code in ((False, 1), (True, 0)):
        monkeypatch.setattr("typer.confirm", lambda text, err, answer=answer: asked.append(text) or answer)
        result = run("rm", made["describe"])
        assert result.exit_code == code, result.stderr
    assert asked[0].startswith("This removes 1 result (") and len(asked) == 2
    assert run("show", made["describe"]).exit_code == 2


def test_rm_by_age(run, made):
    old = Path("store/v3/answer") / f"{made['ground'].removeprefix('answer:')}.json.gz"
    then = time.time() - 40 * 24 * 3600
    os.utime(old, (then, then))
    assert read_json(run("rm", "--older-than", "30d", "--yes", "--json"))["removed"][0] == made["ground"]
    assert run("show", made["ground"]).exit_code == 2 and run("show", made["track"]).exit_code == 0


@pytest.mark.parametrize("words", [(), ("--all", "answer:abcdefgh23"), ("--older-than", "30"), ("mask:no",)])
def test_rm_of_nothing_or_too_much_is_refused(run, made, words):
    result = run("rm", *words, "--yes")
    assert result.exit_code == 2 and "hint:" in result.stderr
    assert len(read_json(run("list", "--json"))["results"]) == len(made)


def test_ages():
    assert [parse_age_s(text) for text in ("90min", "12h", "30d", " 2 w ", "1.5D")] == [
        5400,
        43200,
        2592000,
        1209600,
        129600,
    ]
    for text in ("", "30", "d", "-1d", "1y", "1 month"):
        with pytest.raises(RequestError, match="older-than"):
            parse_age_s(text)


def test_none_of_this_loads_a_model(made, clip):
    commands = [["list"], ["show", made["segment"]], ["export", made["segment"], "--out", "there"]]
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from sa2va_server.cli.app import app\n"
        f"for words in {[*commands, ['rm', '--all', '--yes']]!r}:\n"
        "    app(words, standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "SA2VA_MODEL": "/no/such/checkpoint"}
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=environment)
    assert Path("there/overlay.mp4").is_file()


# ---- files of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_view_replaces_its_own_pictures_only(run, made, suffix):
    out = Path(f"view{suffix}")
    assert run("view", made["segment"], "--out", out).exit_code == 0
    assert run("view", made["track"], "--out", out).exit_code == 0  # its own, from before
    with Image.open(out) as picture:
        picture.load()
        picture.save(out)
    edited = out.read_bytes()
    result = run("view", made["segment"], "--out", out)
    assert result.exit_code == 1 and "not written by sa2va-tools" in result.stderr
    assert out.read_bytes() == edited


def test_view_follows_no_link_to_a_file_of_the_user(run, made, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 48)).save(photo)
    before = photo.read_bytes()
    Path("view.png").symlink_to(photo)
    assert run("view", made["segment"], "--out", "view.png").exit_code == 1
    assert photo.read_bytes() == before and Path("view.png").is_symlink()


@pytest.mark.parametrize("name", ["clip.mp4", "sheet.png", "overlay.mp4", "masks.json", "legend.png"])
def test_the_demo_overwrites_no_file_of_the_user(run, name):
    Path("mine").mkdir()
    Path("mine", name).write_bytes(b"years of work")
    result = run("demo", "--out", "mine")
    assert result.exit_code == 1 and name in result.stderr
    assert Path("mine", name).read_bytes() == b"years of work"
    assert not [path.name for path in Path("mine").iterdir() if path.name.startswith(".")]


def test_the_demo_runs_again_in_its_own_folder(run):
    for _ in range(2):
        result = run("demo", "--out", "ours")
        assert result.exit_code == 0, result.stderr


# ---- stopping -------------------------------------------------------------------------------------

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


@pytest.fixture
def heard_signal(request):
    """A signal that is not ignored, as SIGHUP is for programs that `nohup` starts, such as these tests."""
    number = getattr(signal, request.param)
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    yield request.param
    signal.signal(number, before)


@pytest.mark.parametrize("heard_signal", [name for name in CODES if hasattr(signal, name)], indirect=True)
@pytest.mark.parametrize("stage", ["propagate", "masks", "overlay"])
def test_a_stop_leaves_nothing_behind(run, clip, heard_signal, stage):
    """The signal arrives while masks are made, or while files are written."""

    class Stopped(FakeEngine):
        def segment(self, *arguments, run, **options):
            return super().segment(*arguments, run=signal_at(run), **options)

        def export(self, *arguments, run, **options):
            return super().export(*arguments, run=signal_at(run), **options)

    def signal_at(run):
        report = run.report

        def report_and_stop(reached, done=0, *rest, **more):
            report(reached, done, *rest, **more)
            if reached == stage and done == 2:
                signal.raise_signal(getattr(signal, heard_signal))

        run.report = report_and_stop
        return run

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    assert run("segment", clip, "a box", "--out", "there").exit_code == 0
    content = {path: path.read_bytes() for path in Path("there").rglob("*") if path.is_file()}
    words = ("segment", clip, "a ball")
    for out in ("new", "there"):
        result = run(*words, "--out", out, opener=lambda settings: Stopped(settings.store_dir))
        assert (result.exit_code, result.stdout, result.stderr) == (CODES[heard_signal], "", "Stopped.\n")
    assert not Path("new").exists()
    assert {path: path.read_bytes() for path in Path("there").rglob("*") if path.is_file()} == content
    assert not [path for path in Path().rglob("*") if ".part" in path.name]
    assert before == {number: signal.getsignal(number) for number in before}
    assert run(*words, "--out", "there").exit_code == 0


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopSignals().listen():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_server_ends_at_once_and_deletes_what_is_unfinished(tmp_path):
    program = (
        f"import signal, sys, threading; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from sa2va_server.cli.stopping import end_at_once\n"
        "from sa2va_tools import atomic\n"
        "begun = threading.Event()\n"
        "def work():\n"
        "    with atomic.create_file(Path('result')) as file:\n"
        "        file.write(b'half'); file.flush(); begun.set(); threading.Event().wait()\n"
        "threading.Thread(target=work).start(); begun.wait()\n"
        "with end_at_once():\n"
        "    assert len(list(Path().iterdir())) == 1\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 143 and list(tmp_path.iterdir()) == []


def test_signals_are_left_alone_in_other_threads():
    seen = []

    def enter():
        with StopSignals().listen(), end_at_once(), StopSignals().watch(None) as run:
            seen.append(run.cancelled)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [False]


def test_the_demo_clip_is_always_the_same(tmp_path):
    first, second = (write_demo_clip(tmp_path / name).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert first == second


# ---- files that appear meanwhile ------------------------------------------------------------------


def test_a_file_that_appears_while_another_is_written_is_kept(tmp_path):
    target = tmp_path / "view.png"
    with (
        pytest.raises(StoreError, match="not written by sa2va-tools"),
        atomic.create_file(target, is_own=lambda path, name: path.read_bytes() == b"ours") as file,
    ):
        file.write(b"ours")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs" and list(tmp_path.iterdir()) == [target]


def test_without_hard_links_a_file_is_still_not_overwritten(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with atomic.create_file(tmp_path / "a", is_own=lambda path, name: False) as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    with (
        pytest.raises(StoreError, match="not written by sa2va-tools"),
        atomic.create_file(tmp_path / "a", is_own=lambda path, name: False) as file,
    ):
        file.write(b"newer")
    assert (tmp_path / "a").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1
