"""The README is true: its code is that of examples that run, its tables are the lists in the code."""

import json
import os
import re
import runpy
import sys
from pathlib import Path

import pytest

from sa2va_server.cli.demo_scene import write_demo_clip
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.settings import MediaLimits, Settings
from sa2va_tools.tools.catalogue import CATALOGUE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OPTIONAL_PACKAGES = {"arrays_and_detections": "supervision"}
needs_nano = pytest.mark.skipif(
    not list(NANO_FOLDER.glob("*.safetensors")), reason="the nano model's weights are not in this checkout"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with the clip that `sa2va demo` makes."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "sa2va-demo").mkdir()
    write_demo_clip(folder / "sa2va-demo" / "clip.mp4", frames=16)
    return folder


def test_snippets_are_the_example_files():
    snippets = re.findall(r"<!-- snippet: (\S+) -->\n```python\n(.*?)```", README, re.DOTALL)
    assert snippets
    for name, text in snippets:
        assert text == (ROOT / name).read_text(encoding="utf-8"), f"README.md differs from {name}"


def test_the_tool_table_is_the_catalogue():
    assert re.findall(r"^\| `([a-z]\w+)` \|", README, re.MULTILINE) == [tool.name for tool in CATALOGUE]


def test_the_table_of_settings_names_all_of_them():
    names = {f"SA2VA_{name.upper()}" for name in Settings.model_fields if name != "limits"}
    names |= {f"SA2VA_LIMITS__{name.upper()}" for name in MediaLimits.model_fields}
    assert set(re.findall(r"^\| `(SA2VA_\w+)` \|", README, re.MULTILINE)) == names


def test_the_client_block_is_json_that_starts_our_server():
    block = json.loads(re.search(r"```json\n(.*?)```", README, re.DOTALL)[1])
    server = block["mcpServers"]["sa2va"]
    assert (server["command"], server["args"][:2]) == ("sa2va", ["mcp", "--root"])


def test_the_quickstart_has_at_most_six_lines():
    quickstart = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    lines = [line for line in quickstart.splitlines() if line.strip() and "import" not in line]
    assert len(lines) <= 6


def test_links_have_targets():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert not missing


@needs_nano
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_examples_run_on_the_nano(example, folder, monkeypatch, capfd):
    if example.stem in OPTIONAL_PACKAGES:
        pytest.importorskip(OPTIONAL_PACKAGES[example.stem])
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SA2VA_STORE_DIR", str(folder / "store"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the server that one of them starts
    runpy.run_path(str(example), run_name="__main__")
    output = capfd.readouterr().out
    assert output.strip()
    if example.stem == "quickstart":
        shown = re.search(r"```python\n.*?```\n\n```text\n(.*?)```", README, re.DOTALL)[1]
        assert [_hide_numbers(line) for line in output.splitlines()] == [
            _hide_numbers(x) for x in shown.splitlines()
        ]


def _hide_numbers(line: str) -> str:
    """A line of output without handles and scores, which may differ between machines."""
    return re.sub(r"(?<=mask:)\w+|\b[01]\.\d+$", "…", line)


def test_the_model_card_shows_the_scores_and_words_of_its_files():
    page = (NANO_FOLDER / "README.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(ROOT / "docs" / "nano_card.py"))["update_card"](page) == page


def test_the_pictures_of_the_model_card_are_there():
    page = (NANO_FOLDER / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert pictures and all((NANO_FOLDER / name).resolve().is_file() for name in pictures)
