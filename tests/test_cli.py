"""The `sa2va` command over a fake engine: what people type and read, and what scripts get."""

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image

from sa2va_server.cli.flags import DescribeFlags, FileFormat, MaskFlags, WordFlags
from sa2va_server.cli.session import open_bars
from sa2va_tools.engine.exporting import DEFAULT_FORMATS, FORMATS
from sa2va_tools.errors import CheckpointError
from sa2va_tools.printable import make_printable
from sa2va_tools.run import Progress
from sa2va_tools.testing import FakeEngine
from sa2va_tools.tools.catalogue import CATALOGUE, find_tool
from sa2va_tools.tools.outputs import MAX_MASKS

COMMANDS = (
    "segment",
    "describe",
    "ground",
    "caption",
    "track",
    "view",
    "list",
    "show",
    "export",
    "rm",
    "demo",
    "doctor",
    "mcp",
    "train",
    "eval",
    "models",
    "pull",
)


def find_mask(run, clip) -> str:
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


def test_help_imports_no_model_code():
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; from sa2va_server.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: sys.exit(len({'torch', 'numpy', 'av'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_version(run):
    assert run("--version").stdout.startswith("sa2va-tools 0.")


def test_the_package_runs_as_a_module():
    program = f"import runpy, sys; sys.path[:0] = {sys.path!r}; sys.argv[1:] = ['--version']\n"
    program += "runpy.run_module('sa2va_server', run_name='__main__', alter_sys=True)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("sa2va-tools 0.")


@pytest.mark.parametrize(
    ("tool", "flags"),
    [
        ("segment_by_text", WordFlags(keep_doubtful=True)),
        ("ground_conversation", WordFlags()),
        ("track_region", MaskFlags()),
        ("describe", DescribeFlags()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_have_the_names_and_defaults_of_the_tools(tool, flags):
    values = flags.tool_arguments()
    fields = find_tool(tool).arguments.model_fields
    assert set(values) <= set(fields)
    different = {name for name, value in values.items() if value != fields[name].default}
    assert different == ({"gate_by_object_score"} if getattr(flags, "keep_doubtful", False) else set())


def test_the_formats_are_those_of_the_engine():
    assert sorted(FileFormat) == sorted(FORMATS)


# ---- results -----------------------------------------------------------------------------------


def test_segment_prints_handles_frames_scores_and_the_next_step(run, clip):
    result = run("segment", clip, "red square", "a unicorn")
    assert result.exit_code == 0
    found, missing = result.stdout.splitlines()[1:3]
    assert found.split()[:3] == ["found", "red", "square"] and "mask:" in found
    assert "score 1.00" in found and "frames 0-15 (0.00-1.50 s)" in found and "box [" in found
    assert missing.split()[:4] == ["not", "found", "a", "unicorn"] and "without a mask" in missing
    assert "To look at it: sa2va view answer:" in result.stdout and "--out DIR" in result.stdout
    assert result.stderr == ""


def test_not_found_is_an_answer(run, clip):
    result = run("segment", clip, "a unicorn", "--out", "there")
    assert result.exit_code == 0 and "Nothing was found" in result.stdout
    assert "Written:" in result.stdout and [file.name for file in Path("there").iterdir()] == ["masks.json"]


def test_a_folder_says_that_nothing_was_found_and_loses_older_masks(run, clip):
    assert run("segment", clip, "red square", "--out", "there").exit_code == 0
    assert Path("there/overlay.mp4").is_file() and Path("there/masks").is_dir()
    Path("there/notes.txt").write_text("mine")
    Path("there/masks/photo.png").write_text("mine")
    answer = json.loads(run("segment", clip, "a unicorn", "--out", "there", "--json").stdout)
    assert answer["files"] == {"json": str(Path("there/masks.json"))}
    left = sorted(str(file) for file in Path("there").rglob("*") if file.is_file())
    assert left == ["there/masks.json", "there/masks/photo.png", "there/notes.txt"]
    document = json.loads(Path("there/masks.json").read_text())
    assert document.pop("written_by").startswith("sa2va-tools ")
    nothing = {"handle": None, "score": 0, "spans": [], "frames": []}
    assert document == {
        "format": "sa2va-masks/1",
        "media": {"name": "clip.mp4", "size_wh": [96, 64], "frame_count": 16, "fps": "10"},
        "objects": [
            {"label": "a unicorn", "found": False, "reason": "The model answered without a mask."} | nothing
        ],
    }


@pytest.mark.parametrize("name", ["overlay.mp4", "masks/frame_000001.png", "coco.json", "masks.npz"])
@pytest.mark.parametrize("expression", ["red square", "a unicorn"])
def test_files_of_others_with_our_names_stay(run, clip, name, expression):
    mine = Path("there", name)
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    is_in_the_way = expression == "red square" and name in ("overlay.mp4", "masks/frame_000001.png")
    for _ in range(2):
        result = run("segment", clip, expression, "--out", "there")
        assert ("not from an export" in result.stderr) == is_in_the_way == bool(result.exit_code)
    assert mine.read_text() == "mine" and Path("there/masks.json").exists() != is_in_the_way


def test_a_video_overlay_goes_when_a_picture_follows(run, clip, tmp_path):
    Image.new("RGB", (96, 64)).save("picture.png")
    run("segment", clip, "red square", "--out", "there")
    files = json.loads(run("segment", "picture.png", "red square", "--out", "there", "--json").stdout)[
        "files"
    ]
    assert files["overlay"].endswith("overlay.png") and not Path("there/overlay.mp4").exists()


@pytest.mark.parametrize(("last", "kinds"), [("a box", 4), ("a unicorn", 1)])
def test_masks_that_the_list_leaves_out_are_written(run, clip, last, kinds):
    class Prolific(FakeEngine):
        def segment(self, media, expressions, *options, **fields):
            return super().segment(
                media, [*(f"unicorn {n}" for n in range(MAX_MASKS)), last], *options, **fields
            )

    words = ("segment", clip, "x", "--out", "there", "--json")
    answer = json.loads(run(*words, opener=lambda s: Prolific(s.store_dir)).stdout)
    assert answer["truncated"] and len(answer["files"]) == kinds


def test_json_is_what_the_tool_returns(run, clip):
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
def test_out_writes_masks_and_prints_where(run, clip, command):
    words = {"segment": [clip, "red square"], "track": [clip, "--box", "4,4,20,20"], "ground": [clip]}[
        command
    ]
    result = run(command, *words, "--out", "there", "--json")
    files = json.loads(result.stdout)["files"]
    assert Path(files["json"]).is_file() and list(Path(files["png"]).glob("*.png"))
    assert "Written:" in run(command, *words, "--out", "there").stdout


@pytest.mark.parametrize(
    ("formats", "kinds"),
    [
        ((), {"json", "png", "overlay", "legend"}),
        (("npz",), {"json", "npz"}),
        (("json",), {"json"}),
        (("coco", "polygons", "png"), {"json", "coco", "polygons", "png"}),
    ],
)
def test_format_chooses_the_files_besides_masks_json(run, clip, formats, kinds):
    assert DEFAULT_FORMATS == ("json", "png", "overlay")
    options = [word for name in formats for word in ("--format", name)]
    words = ("segment", clip, "red square", "--out", "there", *options, "--json")
    files = json.loads(run(*words).stdout)["files"]
    assert set(files) == kinds and all(Path(path).exists() for path in files.values())
    assert set(json.loads(run(*words).stdout)["files"]) == kinds  # a second run replaces them


def test_a_run_removes_files_of_other_masks_and_keeps_those_of_the_same(run, clip):
    every = [word for name in FORMATS for word in ("--format", name)]
    assert run("segment", clip, "red square", "--out", "there", *every).exit_code == 0
    written = {file.name for file in Path("there").iterdir()}
    assert len(written) == len(FORMATS) + 1  # the overlay has a legend beside it
    Path("there/notes.txt").write_text("mine")
    assert run("segment", clip, "red square", "--out", "there", "--format", "npz").exit_code == 0
    assert {file.name for file in Path("there").iterdir()} == {*written, "notes.txt"}
    assert run("segment", clip, "a box", "--out", "there", "--format", "npz").exit_code == 0
    assert sorted(file.name for file in Path("there").iterdir()) == ["masks.json", "masks.npz", "notes.txt"]


@pytest.mark.parametrize("command", ["segment", "describe", "ground"])
def test_the_number_of_frames_for_the_language_model_can_be_chosen(run, clip, command):
    words = {"segment": ["red square"], "describe": [], "ground": []}[command]
    document = json.loads(run(command, clip, *words, "--llm-frames", "3", "--json").stdout)
    assert document["provenance"]["llm_frames"] == [0, 1, 2]


def test_describe_and_ground_print_the_answer(run, clip):
    assert "96 by 64 pixels" in run("describe", clip, "What is it?").stdout
    grounded = run("ground", clip)
    assert "There is a box and another" in grounded.stdout and grounded.stdout.count("mask:") == 2


def test_caption_takes_regions_and_masks(run, clip):
    both = run("caption", clip, "--box", "0,0,10,10", "--point", "5,5", "--point", "8 8", "--json")
    assert len(json.loads(both.stdout)["regions"]) == 2
    part = run("caption", clip, "--polygon", "0,0 .5,0 .5,.5", "--fraction", "--frame", "3", "--json")
    assert json.loads(part.stdout)["frame_index"] == 3
    assert "covers" in run("caption", find_mask(run, clip)).stdout


def test_track_takes_a_frame_and_a_range(run, clip):
    words = ("track", clip, "--box", "4,4,20,20", "--frame", "5", "--start", "0.3", "--json")
    assert json.loads(run(*words).stdout)["provenance"]["frames"] == 13


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.webp", "WEBP")])
def test_view_writes_the_format_of_the_suffix(run, clip, name, kind):
    handle = find_mask(run, clip)
    result = run("view", handle, "--out", name, "--frame", "2")
    with Image.open(name) as picture:
        assert picture.format == kind
    assert "1  red square" in result.stdout and handle in result.stdout


def test_view_names_its_file_after_a_handle_or_path(run, clip):
    handle = find_mask(run, clip)
    named = json.loads(run("view", handle, "--json").stdout)
    assert named["file"] == handle.replace(":", "-") + ".png" and Path(named["file"]).is_file()
    assert [entry["handle"] for entry in named["legend"]] == [handle]
    assert json.loads(run("view", clip, "--json").stdout)["file"] == "clip-view.png"


def test_view_does_not_overwrite_its_source(run, tmp_path):
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    assert json.loads(run("view", "photo.png", "--json").stdout)["file"] == "photo-view.png"
    refused = run("view", "photo.png", "--out", tmp_path / "photo.png")
    assert refused.exit_code == 2 and "is the input" in refused.stderr
    assert (tmp_path / "photo.png").read_bytes() == before


def test_view_does_not_overwrite_a_frame_of_a_folder(run, tmp_path):
    (tmp_path / "frames").mkdir()
    for index in range(3):
        Image.new("RGB", (64, 48), (90 * index, 30, 30)).save(tmp_path / "frames" / f"{index}.png")
    refused = run("view", "frames", "--out", "frames/1.png")
    assert refused.exit_code == 2 and "is the input" in refused.stderr
    answer = json.loads(run("segment", "frames", "red square", "--json").stdout)["handle"]
    for name in ("frames", answer):
        refused = run("view", name, "--out", "frames/new.png")
        assert refused.exit_code == 2 and "would become one of them" in refused.stderr
    assert not Path("frames/new.png").exists()
    assert run("view", "frames", "--out", "sheet.png").exit_code == 0


def test_view_needs_no_model(clip, tmp_path):
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; from sa2va_server.cli.app import app\n"
        f"try: app(['view', {str(clip)!r}, '--out', 'a.png', '--store', 'store', '--model', 'nowhere'])\n"
        "except SystemExit as end: sys.exit(end.code or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, cwd=tmp_path)
    assert (tmp_path / "a.png").is_file()


def test_demo_writes_a_clip_masks_and_a_picture(run):
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


def test_options_override_the_environment(run, clip, monkeypatch):
    opened = []

    def opener(settings):
        opened.append(settings)
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
    assert opened[0].model == "from-environment"
    assert (opened[1].model, opened[1].device, opened[1].dtype) == ("a/b", "cpu", "float32")
    assert Path("s").is_dir()


def test_doctor_lists_its_checks_and_fails_with_a_remedy(run):
    result = run("doctor", "--model", "nowhere", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 1
    assert checks["weights"]["state"] == "fail" and checks["weights"]["remedy"]
    assert {name for name, check in checks.items() if check["state"] == "fail"} == {"weights"}
    assert checks["round trip"]["detail"].startswith("the nano model found 2 of 2")
    assert "fail  weights" in run("doctor", "--model", "nowhere").stdout


def test_doctor_explains_why_the_round_trip_fails(run):
    def opener(_):
        raise CheckpointError("The weights are torn.", hint="Get them again.")

    result = run("doctor", opener=opener)
    assert result.exit_code == 1 and "The weights are torn." in result.stdout
    assert "Get them again." in result.stdout


def test_text_of_media_cannot_control_the_terminal():
    assert make_printable("a\x1b[2Jb\u202ec") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c"


def test_progress_bars_accept_every_report(capsys):
    with open_bars() as draw:
        draw(Progress("answer", 0))
        draw(Progress("answer", 7, None, "[bold] is no markup"))
        draw(Progress("propagate", 3, 9))
    assert capsys.readouterr().out == ""


def test_every_tool_has_a_command():
    commands = {"segment_by_text": "segment", "ground_conversation": "ground", "caption_region": "caption"}
    commands |= {"track_region": "track", "describe": "describe", "view": "view"}
    assert {tool.name for tool in CATALOGUE} == set(commands)
    assert set(commands.values()) <= set(COMMANDS)
