"""The command line when something goes wrong: sentences, exit codes, Ctrl-C, and stdout kept clean."""

import json
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image

from sa2va_tools.progress import Progress
from sa2va_tools.testing import FakeEngine


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("segment", "missing.mp4", "x"), 1, "There is no file or folder"),
        (("segment", "CLIP", " "), 2, "expression is empty"),
        (("segment", "CLIP"), 2, "EXPRESSION"),
        (("segment", "CLIP", "x", "--start", "-1"), 2, "--start"),
        (("segment", "CLIP", "x", "--start", "3", "--end", "1"), 2, "before it starts"),
        (("segment", "CLIP", "x", "--out", "CLIP"), 2, "not a folder"),
        (("caption", "CLIP"), 2, "Nothing is pointed at"),
        (("caption", "CLIP", "--box", "1,2,3"), 2, "needs 4 numbers"),
        (("track", "CLIP", "--box", "1,2,x,4"), 2, "no number"),
        (("track", "CLIP", "--polygon", "1,2,3,4"), 2, "three corners"),
        (("track", "CLIP", "--box", "1,2,3,4", "--frame", "99"), 2, "out of range"),
        (("view", "mask:aaaaaaaaaa"), 2, "mask"),
        (("view", "CLIP", "--out", "x.txt"), 2, ".png"),
        (("describe", "CLIP", "--device", "toaster"), 2, "--device"),
        (("mcp", "--root", "nowhere"), 2, "no folder at nowhere"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_an_error_is_a_sentence_on_stderr_and_an_exit_code(run, clip, words, code, said):
    result = run(*(clip if word == "CLIP" else word for word in words))
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr and "Traceback" not in result.stderr


def test_an_error_has_a_hint_and_json_when_asked(run):
    result = run("segment", "missing.mp4", "x", "--json")
    assert result.stderr.startswith("error: ") and "\nhint: " in result.stderr
    assert json.loads(result.stdout)["error"]["code"] == "media_not_found"


@pytest.mark.parametrize(
    "words", [("CLIP",), ("CLIP", "x", "--stride", "abc"), ("CLIP", "x", "--modle", "m")]
)
def test_a_command_line_that_does_not_parse_is_json_too_when_asked(run, clip, words):
    result = run("segment", *(clip if word == "CLIP" else word for word in words), "--json")
    error = json.loads(result.stdout)["error"]
    assert result.exit_code == 2 and "Usage" in result.stderr
    assert error["code"] == "bad_request" and error["message"] and "segment --help" in error["hint"]


def test_an_unknown_command_is_json_too_when_asked(run):
    result = run("nonsense", "--json")
    assert result.exit_code == 2 and "nonsense" in json.loads(result.stdout)["error"]["message"]


def test_a_folder_that_cannot_be_made_is_said_before_the_work(run, clip):
    def opener(_):
        raise AssertionError("the engine was opened")

    Path("notes.txt").touch()
    result = run("segment", clip, "x", "--out", "notes.txt/sub", opener=opener)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "notes.txt/sub" in result.stderr and "hint: Give --out another folder" in result.stderr


def test_a_folder_made_for_nothing_goes_again(run, clip):
    assert run("segment", "missing.mp4", "x", "--out", "a/b").exit_code == 1
    assert not Path("a").exists()


def test_a_result_outlives_a_failure_to_write_it(run, clip):
    Path("there/masks").mkdir(parents=True)
    Path("there/masks/letter.txt").touch()
    words = ("segment", clip, "red square", "--out", "there")
    told, scripted = run(*words), run(*words, "--json")
    assert told.exit_code == scripted.exit_code == 1
    assert "mask:" in told.stdout and "sa2va view answer:" in told.stdout
    assert "letter.txt" in told.stderr and "kept as answer:" in told.stderr
    document = json.loads(scripted.stdout)
    assert document["masks"][0]["found"] and document["files"] == {}
    assert document["error"]["code"] == "store" and document["handle"] in document["error"]["hint"]


def test_a_missing_extra_is_named(run, clip):
    def opener(_):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    result = run("describe", clip, opener=opener)
    assert result.exit_code == 1 and 'pip install "sa2va-tools[engine]"' in result.stderr


def test_a_fault_of_ours_is_one_line_and_a_traceback_only_on_demand(run, clip):
    def opener(_):
        raise ZeroDivisionError("by zero")

    quiet, loud = run("describe", clip, opener=opener), run("describe", clip, "--debug", opener=opener)
    assert quiet.exit_code == loud.exit_code == 1
    assert "Unexpected ZeroDivisionError: by zero" in quiet.stderr and "--debug" in quiet.stderr
    assert "Traceback" not in quiet.stderr and "Traceback" in loud.stderr


@pytest.mark.parametrize(
    "error", [MemoryError(), ImportError("libtorch_cpu.so: failed to map segment from shared object")]
)
def test_a_lack_of_memory_is_no_fault_of_ours(run, clip, error):
    def opener(_):
        raise error

    result = run("track", clip, "--box", "1,2,3,4", "--json", opener=opener)
    told = json.loads(result.stdout)["error"]
    assert result.exit_code == 1 and told["code"] == "out_of_memory"
    assert "Memory is short" in told["message"] and "ulimit" in told["hint"]
    assert "Unexpected" not in result.stderr and "fault" not in result.stderr


def test_a_wrong_setting_in_the_environment_is_named(run, clip, monkeypatch):
    monkeypatch.setenv("SA2VA_DEVICE", "toaster")
    result = run("describe", clip)
    assert result.exit_code == 2 and "SA2VA_DEVICE" in result.stderr


def test_ctrl_c_stops_the_work_and_says_so_once(run, clip):
    class Interrupted(FakeEngine):
        def segment(self, *arguments, **options):
            signal.raise_signal(signal.SIGINT)
            return super().segment(*arguments, **options)

    before = signal.getsignal(signal.SIGINT)
    result = run("segment", clip, "x", "--out", "there", opener=lambda s: Interrupted(s.store_dir))
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")
    assert signal.getsignal(signal.SIGINT) is before and not Path("there").exists()


@pytest.mark.parametrize("stage", [None, "load"])
def test_ctrl_c_ends_work_that_would_not_hear_of_it(run, clip, stage):
    went_on = []

    class Deaf(FakeEngine):
        def segment(self, *arguments, on_progress, **options):
            if stage:
                on_progress(Progress(stage, 0))
            signal.raise_signal(signal.SIGINT)
            went_on.append(True)

    result = run("segment", clip, "x", "--out", "there", opener=lambda s: Deaf(s.store_dir))
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")
    assert not went_on and not Path("there").exists()


def test_what_fails_after_ctrl_c_was_stopped_by_it(run, clip):
    class Torn(FakeEngine):
        def segment(self, *arguments, on_progress, **options):
            on_progress(Progress("propagate", 0))
            signal.raise_signal(signal.SIGINT)
            raise ImportError("half done")

    result = run("segment", clip, "x", opener=lambda s: Torn(s.store_dir))
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")


def test_the_work_is_asked_to_stop_where_it_listens(run, clip):
    class Tidy(FakeEngine):
        def segment(self, *arguments, on_progress, cancel, **options):
            on_progress(Progress("load", 0))
            on_progress(Progress("propagate", 0))
            signal.raise_signal(signal.SIGINT)
            Path("tidied").touch()
            cancel.raise_if_cancelled()

    result = run("segment", clip, "x", opener=lambda s: Tidy(s.store_dir))
    assert (result.exit_code, result.stderr) == (130, "Stopped.\n") and Path("tidied").exists()


def test_stray_prints_of_libraries_stay_off_stdout(run, clip):
    class Chatty(FakeEngine):
        def describe(self, *arguments, **options):
            sys.stdout.write("loading…\n")
            return super().describe(*arguments, **options)

    result = run("describe", clip, "--json", opener=lambda s: Chatty(s.store_dir))
    assert json.loads(result.stdout)["text"] and "loading" in result.stderr


def test_the_source_of_a_handle_is_not_overwritten_by_its_view(run, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 48), (200, 30, 30)).save(photo)
    before = photo.read_bytes()
    answer = json.loads(run("segment", photo, "red square", "--json").stdout)["handle"]
    for name in (answer, photo):
        result = run("view", name, "--out", photo)
        assert result.exit_code == 2 and "what is to be viewed" in result.stderr
    assert photo.read_bytes() == before
    assert run("view", answer, "--out", "other.png").exit_code == 0


def test_nothing_found_overwrites_nothing_of_the_users(run, clip, tmp_path):
    nothing = "a unicorn"
    mine = tmp_path / "mine" / "masks.json"
    mine.parent.mkdir()
    mine.write_text('{"my": "annotations"}', "utf-8")
    result = run("segment", clip, nothing, "--out", "mine")
    assert result.exit_code == 1 and "which no export wrote" in result.stderr
    assert mine.read_text("utf-8") == '{"my": "annotations"}'

    assert run("segment", clip, "red square", "--out", "found").exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "found").rglob("*.*")}
    for source in ("overlay.mp4", "masks/frame_000002.png"):
        result = run("segment", f"found/{source}", nothing, "--out", "found")
        assert (result.exit_code, "is the source of this result" in result.stderr) == (1, True), result.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "found").rglob("*.*")} == before
    assert run("segment", clip, nothing, "--out", "found").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["masks.json"]
