"""The `sa2va` command over a fake engine: what a person types, reads and scripts against."""

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image

from sa2va_server.cli_output import printable
from sa2va_server.cli_progress import stage_bars
from sa2va_tools.errors import CheckpointError
from sa2va_tools.progress import Progress
from sa2va_tools.testing import FakeEngine
from sa2va_tools.tools.catalogue import CATALOGUE
from sa2va_tools.tools.outputs import MAX_MASKS

COMMANDS = (
    "segment",
    "describe",
    "ground",
    "caption",
    "track",
    "view",
    "demo",
    "doctor",
    "mcp",
    "train",
    "eval",
    "models",
    "pull",
)


def a_mask_of(run, clip) -> str:
    return json.loads(run("segment", clip, "red square", "--json").stdout)["masks"][0]["handle"]


# ---- help --------------------------------------------------------------------------------------


def test_help_names_every_command(run):
    text = run("--help").stdout
    assert [name for name in COMMANDS if f" {name} " not in text] == []


@pytest.mark.parametrize(
    "command",
    [(name,) for name in COMMANDS]
    + [("train", "nano"), ("eval", "nano"), ("models", "info"), ("models", "check")],
)
def test_every_command_explains_itself(run, command):
    result = run(*command, "--help")
    assert result.exit_code == 0 and "Usage" in result.stdout


def test_help_loads_no_model_code():
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; from sa2va_server.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: sys.exit(len({'torch', 'numpy', 'av'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_version(run):
    assert run("--version").stdout.startswith("sa2va-tools 0.")


# ---- results -----------------------------------------------------------------------------------


def test_segment_tells_handles_frames_and_scores_and_how_to_see_them(run, clip):
    result = run("segment", clip, "red square", "a unicorn")
    assert result.exit_code == 0
    found, missing = result.stdout.splitlines()[1:3]
    assert found.split()[:3] == ["found", "red", "square"] and "mask:" in found
    assert "score 1.00" in found and "frames 0-15 (0.00-1.50 s)" in found and "box [" in found
    assert missing.split()[:4] == ["not", "found", "a", "unicorn"] and "points at nothing" in missing
    assert "sa2va view answer:" in result.stdout and "--out DIR" in result.stdout
    assert result.stderr == ""


def test_not_found_is_an_answer(run, clip):
    result = run("segment", clip, "a unicorn", "--out", "there")
    assert result.exit_code == 0 and "Nothing was found" in result.stdout
    assert "Written:" in result.stdout and [file.name for file in Path("there").iterdir()] == ["masks.json"]


def test_a_folder_says_that_nothing_was_found_and_holds_nothing_older(run, clip):
    assert run("segment", clip, "red square", "--out", "there").exit_code == 0
    assert Path("there/overlay.mp4").is_file() and Path("there/masks").is_dir()
    Path("there/notes.txt").write_text("mine")
    Path("there/masks/photo.png").write_text("mine")
    answer = json.loads(run("segment", clip, "a unicorn", "--out", "there", "--json").stdout)
    assert answer["files"] == {"masks_json": str(Path("there/masks.json"))}
    left = sorted(str(file) for file in Path("there").rglob("*") if file.is_file())
    assert left == ["there/masks.json", "there/masks/photo.png", "there/notes.txt"]
    assert json.loads(Path("there/masks.json").read_text()) == {
        "format": "sa2va-masks/1",
        "media": {"name": "clip.mp4", "size_wh": [96, 64], "frame_count": 16, "fps": "10"},
        "objects": [{"label": "a unicorn", "found": False, "reason": "The answer points at nothing."}],
    }


def test_files_of_others_with_our_names_stay_when_nothing_is_found(run, clip):
    Path("there/masks").mkdir(parents=True)
    for name in ("overlay.mp4", "masks/frame_000001.png"):
        Path("there", name).write_text("mine")
    assert run("segment", clip, "a unicorn", "--out", "there").exit_code == 0
    assert Path("there/overlay.mp4").is_file() and Path("there/masks/frame_000001.png").is_file()


def test_an_overlay_of_another_kind_does_not_outlive_its_run(run, clip, tmp_path):
    Image.new("RGB", (96, 64)).save("picture.png")
    run("segment", clip, "red square", "--out", "there")
    files = json.loads(run("segment", "picture.png", "red square", "--out", "there", "--json").stdout)[
        "files"
    ]
    assert files["overlay"].endswith("overlay.png") and not Path("there/overlay.mp4").exists()


@pytest.mark.parametrize(("last", "kinds"), [("a box", 3), ("a unicorn", 1)])
def test_masks_beyond_the_end_of_the_list_are_written(run, clip, last, kinds):
    class Prolific(FakeEngine):
        def segment(self, media, expressions, **options):
            return super().segment(media, [*["a unicorn"] * MAX_MASKS, last], **options)

    words = ("segment", clip, "x", "--out", "there", "--json")
    answer = json.loads(run(*words, opener=lambda s: Prolific(s.store_dir)).stdout)
    assert answer["truncated"] and len(answer["files"]) == kinds


def test_json_on_stdout_is_what_the_tools_answer(run, clip):
    result = run("segment", clip, "red square", "--json", "--start", "0.5", "--stride", "2")
    document = json.loads(result.stdout)
    assert document["masks"][0]["found"] and document["provenance"]["frames"] == 6
    assert "files" not in document and result.stderr == ""


@pytest.mark.parametrize("command", ["segment", "track", "ground"])
def test_masks_take_a_threshold_and_smoothing(run, clip, command):
    words = {"segment": [clip, "red square"], "track": [clip, "--box", "4,4,20,20"], "ground": [clip]}[
        command
    ]
    made = json.loads(run(command, *words, "--threshold", "0.7", "--smooth", "--json").stdout)["provenance"]
    assert (made["threshold"], made["smooth"]) == (0.7, True)
    refused = run(command, *words, "--threshold", "1")
    assert refused.exit_code == 2 and "between 0 and 1" in refused.stderr


@pytest.mark.parametrize("command", ["segment", "track", "ground"])
def test_out_writes_masks_and_says_where(run, clip, command):
    words = {"segment": [clip, "red square"], "track": [clip, "--box", "4,4,20,20"], "ground": [clip]}[
        command
    ]
    result = run(command, *words, "--out", "there", "--json")
    files = json.loads(result.stdout)["files"]
    assert Path(files["masks_json"]).is_file() and list(Path(files["mask_pngs"]).glob("*.png"))
    assert "Written:" in run(command, *words, "--out", "there").stdout


def test_describe_and_ground_speak(run, clip):
    assert "96 by 64 pixels" in run("describe", clip, "What is it?").stdout
    grounded = run("ground", clip)
    assert "There is a box and another" in grounded.stdout and grounded.stdout.count("mask:") == 2


def test_caption_takes_places_and_masks(run, clip):
    both = run("caption", clip, "--box", "0,0,10,10", "--point", "5,5", "--point", "8 8", "--json")
    assert len(json.loads(both.stdout)["regions"]) == 2
    part = run("caption", clip, "--polygon", "0,0 .5,0 .5,.5", "--fraction", "--frame", "3", "--json")
    assert json.loads(part.stdout)["frame_index"] == 3
    assert "covers" in run("caption", a_mask_of(run, clip)).stdout


def test_track_takes_a_frame_and_a_range(run, clip):
    words = ("track", clip, "--box", "4,4,20,20", "--frame", "5", "--start", "0.3", "--json")
    assert json.loads(run(*words).stdout)["provenance"]["frames"] == 13


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.webp", "WEBP")])
def test_view_writes_the_kind_of_picture_that_is_asked_for(run, clip, name, kind):
    handle = a_mask_of(run, clip)
    result = run("view", handle, "--out", name, "--frame", "2")
    with Image.open(name) as picture:
        assert picture.format == kind
    assert "1  red square" in result.stdout and handle in result.stdout


def test_view_names_its_file_after_the_handle_and_takes_a_path(run, clip):
    handle = a_mask_of(run, clip)
    named = json.loads(run("view", handle, "--json").stdout)
    assert named["file"] == handle.replace(":", "-") + ".png" and Path(named["file"]).is_file()
    assert [entry["handle"] for entry in named["legend"]] == [handle]
    assert json.loads(run("view", clip, "--json").stdout)["file"] == "clip-view.png"


def test_view_never_writes_over_what_it_shows(run, tmp_path):
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    assert json.loads(run("view", "photo.png", "--json").stdout)["file"] == "photo-view.png"
    refused = run("view", "photo.png", "--out", tmp_path / "photo.png")
    assert refused.exit_code == 2 and "another name" in refused.stderr
    assert (tmp_path / "photo.png").read_bytes() == before


def test_demo_leaves_a_clip_masks_and_a_picture(run):
    result = run("demo", "--out", "there")
    assert result.exit_code == 0, result.stderr
    with av.open("there/clip.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.frames) == ("h264", 48)
    assert Path("there/masks.json").is_file() and Path("there/sheet.png").is_file()
    assert "the red circle" in result.stdout and "caption_region" in result.stdout
    assert set(json.loads(run("demo", "--json").stdout)) == {
        "segment", "ground", "describe", "caption", "files"
    }  # fmt: skip


# ---- settings, doctor, output ------------------------------------------------------------------


def test_options_come_before_the_environment(run, clip, monkeypatch):
    seen = []

    def opener(settings):
        seen.append(settings)
        return FakeEngine(settings.store_dir)

    monkeypatch.setenv("SA2VA_MODEL", "from-environment")
    run("describe", clip, opener=opener)
    run(
        "describe",
        clip,
        "--model",
        "a/b",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--store",
        "s",
        opener=opener,
    )
    assert seen[0].model == "from-environment"
    assert (seen[1].model, seen[1].device, seen[1].dtype) == ("a/b", "cpu", "float32")
    assert Path("s").is_dir()


def test_doctor_reports_each_check_and_fails_with_a_remedy(run):
    result = run("doctor", "--model", "nowhere", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 1
    assert checks["weights"]["state"] == "fail" and checks["weights"]["remedy"]
    assert {name for name, check in checks.items() if check["state"] == "fail"} == {"weights"}
    assert checks["round trip"]["detail"].startswith("the nano found 2 of 2")
    assert "fail  weights" in run("doctor", "--model", "nowhere").stdout


def test_doctor_tells_why_a_round_trip_fails(run):
    def opener(_):
        raise CheckpointError("The weights are torn.", hint="Get them again.")

    result = run("doctor", opener=opener)
    assert result.exit_code == 1 and "The weights are torn." in result.stdout
    assert "Get them again." in result.stdout


def test_foreign_text_cannot_drive_the_terminal():
    assert printable("a\x1b[2Jb\u202ec") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c"


def test_progress_bars_take_every_kind_of_report(capsys):
    with stage_bars() as on_progress:
        on_progress(Progress("answer", 0))
        on_progress(Progress("answer", 7, None, "[bold] is no markup"))
        on_progress(Progress("propagate", 3, 9))
    assert capsys.readouterr().out == ""


def test_every_tool_has_a_command():
    commands = {"segment_by_text": "segment", "ground_conversation": "ground", "caption_region": "caption"}
    commands |= {"track_region": "track", "describe": "describe", "view": "view"}
    assert {tool.name for tool in CATALOGUE} == set(commands)
    assert set(commands.values()) <= set(COMMANDS)
