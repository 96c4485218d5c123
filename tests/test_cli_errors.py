"""The command line when something fails: sentences, exit codes, Ctrl-C, and nothing else on stdout."""

import json
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image

from sa2va_tools.testing import FakeEngine


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("segment", "missing.mp4", "x"), 1, "There is no file or folder"),
        (("segment", "CLIP", " "), 2, "expression is empty"),
        (("segment", "CLIP"), 2, "EXPRESSION"),
        (("segment", "CLIP", "x", "--start", "-1"), 2, "--start"),
        (("segment", "CLIP", "x", "--start", "3", "--end", "1"), 2, "before it starts"),
        (("segment", "CLIP", "x", "--out", "CLIP"), 2, "not a folder"),
        (("caption", "CLIP"), 2, "No region was given"),
        (("caption", "CLIP", "--box", "1,2,3"), 2, "needs 4 numbers"),
        (("track", "CLIP", "--box", "1,2,x,4"), 2, "not a number"),
        (("track", "CLIP", "--polygon", "1,2,3,4"), 2, "three corners"),
        (("segment", "CLIP", "x", "--format", "npz"), 2, "Add --out DIR"),
        (("segment", "CLIP", "x", "--format", "gif"), 2, "--format"),
        (("track", "CLIP", "--box", "1,2,3,4", "--frame", "99"), 2, "Frame 99 does not exist"),
        (("view", "mask:aaaaaaaaaa"), 2, "mask"),
        (("view", "CLIP", "--out", "x.txt"), 2, ".png"),
        (("describe", "CLIP", "--device", "toaster"), 2, "--device"),
        (("mcp", "--root", "nowhere"), 2, "no folder at nowhere"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_an_error_is_a_sentence_on_stderr_and_an_exit_code(run, clip, words, code, message):
    result = run(*(clip if word == "CLIP" else word for word in words))
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr and "Traceback" not in result.stderr


def test_an_error_has_a_hint_and_json(run):
    result = run("segment", "missing.mp4", "x", "--json")
    assert result.stderr.startswith("error: ") and "\nhint: " in result.stderr
    assert json.loads(result.stdout)["error"]["code"] == "media_not_found"


@pytest.mark.parametrize("words", [(), ("CLIP", "x", "--stride", "abc"), ("CLIP", "x", "--modle", "m")])
def test_json_reports_a_command_line_that_cannot_be_parsed(run, clip, words):
    result = run("segment", *(clip if word == "CLIP" else word for word in words), "--json")
    error = json.loads(result.stdout)["error"]
    assert result.exit_code == 2 and "Usage" in result.stderr
    assert error["code"] == "bad_request" and error["message"] and "segment --help" in error["hint"]


def test_json_reports_an_unknown_command(run):
    result = run("nonsense", "--json")
    assert result.exit_code == 2 and "nonsense" in json.loads(result.stdout)["error"]["message"]


def test_an_exam_whose_scores_cannot_be_written_does_not_begin(run, tmp_path):
    result = run("eval", "nano", "--n", "1", "--out", str(tmp_path), "--json")
    assert result.exit_code == 2 and "directory" in json.loads(result.stdout)["error"]["message"]


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(run, clip):
    def opener(_):
        raise AssertionError("the engine was opened")

    Path("notes.txt").touch()
    result = run("segment", clip, "x", "--out", "notes.txt/sub", opener=opener)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "notes.txt/sub" in result.stderr and "hint: Give --out another folder" in result.stderr


def test_a_folder_made_for_nothing_is_removed(run, clip):
    assert run("segment", "missing.mp4", "x", "--out", "a/b").exit_code == 1
    assert not Path("a").exists()


def test_a_failure_to_write_does_not_lose_the_result(run, clip):
    Path("there/masks").mkdir(parents=True)
    Path("there/masks/letter.txt").touch()
    words = ("segment", clip, "red square", "--out", "there")
    reported, scripted = run(*words), run(*words, "--json")
    assert reported.exit_code == scripted.exit_code == 1
    assert "mask:" in reported.stdout and "sa2va view answer:" in reported.stdout
    assert "letter.txt" in reported.stderr and "stored as answer:" in reported.stderr
    document = json.loads(scripted.stdout)
    assert document["masks"][0]["found"] and document["files"] == {}
    assert document["error"]["code"] == "store" and document["handle"] in document["error"]["hint"]


def test_a_missing_extra_is_named(run, clip):
    def opener(_):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    result = run("describe", clip, opener=opener)
    assert result.exit_code == 1 and 'pip install "sa2va-tools[engine]"' in result.stderr


def test_a_bug_is_one_line_and_a_traceback_with_debug(run, clip):
    def opener(_):
        raise ZeroDivisionError("by zero")

    quiet, loud = run("describe", clip, opener=opener), run("describe", clip, "--debug", opener=opener)
    assert quiet.exit_code == loud.exit_code == 1
    assert "Unexpected ZeroDivisionError: by zero" in quiet.stderr and "--debug" in quiet.stderr
    assert "Traceback" not in quiet.stderr and "Traceback" in loud.stderr


@pytest.mark.parametrize(
    "error", [MemoryError(), ImportError("libtorch_cpu.so: failed to map segment from shared object")]
)
def test_a_lack_of_memory_is_not_reported_as_a_bug(run, clip, error):
    def opener(_):
        raise error

    result = run("track", clip, "--box", "1,2,3,4", "--json", opener=opener)
    reported = json.loads(result.stdout)["error"]
    assert result.exit_code == 1 and reported["code"] == "out_of_memory"
    assert "Not enough memory" in reported["message"] and "ulimit" in reported["hint"]
    assert "Unexpected" not in result.stderr and "bug" not in result.stderr


def test_a_wrong_setting_in_the_environment_is_named(run, clip, monkeypatch):
    monkeypatch.setenv("SA2VA_DEVICE", "toaster")
    result = run("describe", clip)
    assert result.exit_code == 2 and "SA2VA_DEVICE" in result.stderr


def test_ctrl_c_stops_the_work_and_prints_one_line(run, clip):
    class Interrupted(FakeEngine):
        def segment(self, *arguments, **options):
            signal.raise_signal(signal.SIGINT)
            return super().segment(*arguments, **options)

    before = signal.getsignal(signal.SIGINT)
    result = run("segment", clip, "x", "--out", "there", opener=lambda s: Interrupted(s.store_dir))
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")
    assert signal.getsignal(signal.SIGINT) is before and not Path("there").exists()


@pytest.mark.parametrize("stage", [None, "load"])
def test_ctrl_c_ends_work_that_does_not_check(run, clip, stage):
    continued = []

    class Deaf(FakeEngine):
        def segment(self, *arguments, run, **options):
            if stage:
                run.report(stage)
            signal.raise_signal(signal.SIGINT)
            continued.append(True)

    result = run("segment", clip, "x", "--out", "there", opener=lambda s: Deaf(s.store_dir))
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")
    assert not continued and not Path("there").exists()


def test_a_failure_after_ctrl_c_counts_as_stopped(run, clip):
    class Torn(FakeEngine):
        def segment(self, *arguments, run, **options):
            run.report("propagate")
            signal.raise_signal(signal.SIGINT)
            raise ImportError("half done")

    result = run("segment", clip, "x", opener=lambda s: Torn(s.store_dir))
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")


def test_work_that_checks_can_clean_up_after_ctrl_c(run, clip):
    class Tidy(FakeEngine):
        def segment(self, *arguments, run, **options):
            run.report("load")
            run.report("propagate")
            signal.raise_signal(signal.SIGINT)
            Path("tidied").touch()
            run.raise_if_cancelled()

    result = run("segment", clip, "x", opener=lambda s: Tidy(s.store_dir))
    assert (result.exit_code, result.stderr) == (130, "Stopped.\n") and Path("tidied").exists()


def test_prints_of_libraries_stay_off_stdout(run, clip):
    class Chatty(FakeEngine):
        def describe(self, *arguments, **options):
            sys.stdout.write("loading…\n")
            return super().describe(*arguments, **options)

    result = run("describe", clip, "--json", opener=lambda s: Chatty(s.store_dir))
    assert json.loads(result.stdout)["text"] and "loading" in result.stderr


def test_a_view_does_not_overwrite_the_source_of_a_handle(run, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 48), (200, 30, 30)).save(photo)
    before = photo.read_bytes()
    answer = json.loads(run("segment", photo, "red square", "--json").stdout)["handle"]
    for name in (answer, photo):
        result = run("view", name, "--out", photo)
        assert result.exit_code == 2 and "is the input" in result.stderr
    assert photo.read_bytes() == before
    assert run("view", answer, "--out", "other.png").exit_code == 0


def test_an_export_adds_no_frames_to_its_own_folder_of_frames(run, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        Image.new("RGB", (64, 48), (200, 30, 10 * index)).save(frames / f"{index}.png")
    result = run("segment", "frames", "red square", "--out", "frames/../frames")
    assert result.exit_code == 1 and "the frames of this video" in result.stderr
    assert sorted(path.name for path in frames.iterdir()) == ["0.png", "1.png", "2.png"]
    assert run("segment", "frames", "red square", "--out", "frames/found").exit_code == 0


def test_a_view_needs_the_name_of_a_file(run, clip, tmp_path):
    result = run("view", clip, "--out", ".")
    assert result.exit_code == 2 and "is a folder" in result.stderr and "view.png" in result.stderr


def test_nothing_found_overwrites_no_file_of_the_user(run, clip, tmp_path):
    nothing = "a unicorn"
    mine = tmp_path / "mine" / "masks.json"
    mine.parent.mkdir()
    mine.write_text('{"my": "annotations"}', "utf-8")
    result = run("segment", clip, nothing, "--out", "mine")
    assert result.exit_code == 1 and "not from an export" in result.stderr
    assert mine.read_text("utf-8") == '{"my": "annotations"}'

    assert run("segment", clip, "red square", "--out", "found").exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "found").rglob("*.*")}
    for source in ("overlay.mp4", "masks/frame_000002.png", "masks"):
        result = run("segment", f"found/{source}", nothing, "--out", "found")
        assert (result.exit_code, "the source of this result" in result.stderr) == (1, True), result.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "found").rglob("*.*")} == before
    assert run("segment", clip, nothing, "--out", "found").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["masks.json"]
