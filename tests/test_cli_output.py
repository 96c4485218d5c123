"""The command line when its output is closed, full or read by nobody, and when names cannot be printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sa2va_tools.printable import make_printable, make_valid

FULL = Path("/dev/full")
PROGRAM = f"""
import sys
sys.path[:0] = {sys.path!r}
from sa2va_server.cli.app import app
from sa2va_server.cli.output import guard_output
from sa2va_tools.testing import FakeEngine
with guard_output():
    app(sys.argv[1:], prog_name="sa2va", obj=lambda settings: FakeEngine(settings.store_dir))
"""
posix = pytest.mark.skipif(os.name == "nt", reason="closes descriptors as a POSIX shell does")


@pytest.fixture
def shell(tmp_path):
    """Runs `sa2va …`, with a redirection, by a shell in an empty folder that contains `s.png`."""
    Image.new("RGB", (64, 48), (220, 40, 40)).save(tmp_path / "s.png")
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")

    def run(line: str) -> subprocess.CompletedProcess[str]:
        script = f'sa2va() {{ "{sys.executable}" program.py "$@"; }}; {line}'
        environment = os.environ | {"SA2VA_STORE_DIR": str(tmp_path / "store")}
        return subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


@posix
def test_a_closed_output_is_one_sentence_that_says_where_the_result_is(shell):
    done = shell("sa2va segment s.png 'a box' >&-")
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert error == "error: Standard output cannot be written: it is closed."
    assert hint.startswith("hint: The result is stored as answer:")


@posix
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words", ["segment s.png 'a box' --json", "segment s.png s.png x --json", "--help", "--version", "models"]
)
def test_a_full_output_is_one_sentence(shell, words):
    done = shell(f"sa2va {words} >/dev/full")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: Standard output cannot be written: No space left on device.")


@posix
def test_files_are_written_also_when_nothing_can_be_printed(shell, tmp_path):
    done = shell("sa2va segment s.png 'a box' --out found >&-")
    assert done.returncode == 1 and (tmp_path / "found" / "masks.json").is_file()


@posix
@pytest.mark.parametrize("words", ["models", "models --json", "segment s.png 'a box'", "--help"])
def test_a_pipe_that_nobody_reads_ends_quietly(shell, words):
    # The reader has certainly ended before anything is written.
    done = shell(f"exec 3> >(:); wait $!; sa2va {words} >&3")
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


@posix
def test_a_pipe_of_which_only_the_beginning_is_read(shell):
    done = shell("sa2va models | head -1")
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 1


@posix
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&-"])
def test_a_closed_or_full_stderr_or_stdin_does_not_matter(shell, redirection):
    if "full" in redirection and not FULL.exists():
        pytest.skip("needs /dev/full")
    assert "mask:" in shell(f"sa2va segment s.png 'a box' {redirection}").stdout
    assert shell(f"sa2va segment none.png 'a box' {redirection}").returncode == 1


@posix
def test_the_exit_code_tells_the_error_also_when_it_cannot_be_printed(shell):
    for words, code in (("segment none.png x", 1), ("segment s.png x --threshold 7", 2), ("nonsense", 2)):
        assert shell(f"sa2va {words} --json >&- 2>&- <&-").returncode == code


@posix
def test_a_server_without_standard_input_says_so(shell):
    done = shell("sa2va mcp --root . <&-")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "Standard input is closed" in done.stderr


@posix
def test_no_file_gets_the_number_of_a_closed_stream(shell, tmp_path):
    (tmp_path / "number.py").write_text(
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from sa2va_server.cli.output import guard_output\n"
        "with guard_output(), open('s.png') as file: sys.exit(file.fileno())\n",
        "utf-8",
    )
    assert shell(f'"{sys.executable}" number.py <&- >&- 2>&-').returncode > 2


# ---- names that cannot be printed --------------------------------------------------------------

ODD_NAMES = (b"bad\xff.png", b"new\nline.png", b"esc\x1b[31m.png", "bidi\u202egnp.png".encode(), b"tab\t.png")


@pytest.fixture
def odd(tmp_path, run):
    """A folder with files of odd names, and a link that leads back to itself."""
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.new("RGB", (64, 48), (220, 40, 40)).save(folder / "plain.png")
    try:
        for name in ODD_NAMES:
            shutil.copy(folder / "plain.png", folder / os.fsdecode(name))
        (folder / "loop.png").symlink_to(folder / "loop.png")
    except (OSError, ValueError):
        pytest.skip("this file system has no such names")
    return folder


def test_odd_names_are_printed_safely(run, odd):
    result = run("segment", odd, "a box", "--each", "--out", "out")
    assert result.exit_code == 1 and "leads back to itself" in result.stdout
    assert "7 files, 1 failed." in result.stdout and result.stdout.count("mask:") == 6
    for line in (*result.stdout.splitlines(), *result.stderr.splitlines()):
        assert line.isprintable(), line
    assert len(list(Path("out").iterdir())) == 6


def test_odd_names_are_valid_json(run, odd):
    result = run("segment", odd, "a box", "--each", "--out", "out", "--json")
    document = json.loads(result.stdout)
    assert json.dumps(document, ensure_ascii=False).encode("utf-8")  # fails for a lone surrogate
    assert len(document["results"]) == 7
    for file in Path("out").rglob("masks.json"):
        name = json.loads(file.read_text("utf-8"))["media"]["name"]
        assert name.isprintable() and name.endswith(".png")


@pytest.mark.parametrize("command", ["describe", "ground", "track", "caption", "view"])
def test_every_command_takes_a_name_that_is_no_unicode(run, odd, command):
    region = ["--box", "1,1,20,20"] if command in ("track", "caption") else []
    result = run(command, odd / os.fsdecode(ODD_NAMES[0]), *region, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["media"]["name"].encode("utf-8")


def test_an_error_about_an_odd_name_is_one_line(run, odd):
    for name in ODD_NAMES:
        result = run("describe", odd / f"none-{os.fsdecode(name)}", "--json")
        assert result.exit_code == 1 and len(result.stderr.splitlines()) == 2
        assert json.loads(result.stdout)["error"]["message"].encode("utf-8")


def test_text_that_cannot_be_shown_is_marked_and_json_stays_valid():
    assert (
        make_printable("a\x1b[2J\nb\u202ec\udcff\u2028d é 日本")
        == "a\ufffd[2J\ufffdb\ufffdc\ufffd\ufffdd é 日本"
    )
    assert make_valid({"\udcff": ["a\nb\udcff", 1, None]}) == {"\ufffd": ["a\nb\ufffd", 1, None]}
