"""What docs/ARCHITECTURE.md promises about the layout, read from the source itself."""

import ast
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sa2va_tools

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "sa2va_tools": ROOT / "sa2va_tools",
    "sa2va_server": ROOT / "server" / "sa2va_server",
    "langchain_sa2va": ROOT / "integrations" / "langchain_sa2va",
}
FOUNDATION = {"errors", "progress", "settings", "shortage", "atomic", "__init__"}
FRONT_ENDS = {"sa2va_server", "langchain_sa2va"}
MAY_IMPORT = {
    "media": set(),
    "model": {"media"},
    "masks": {"media", "model"},
    "store": {"media", "masks"},
    "engine": {"media", "model", "masks", "store"},
    "tools": {"masks", "store", "engine"},
    "training": {"media", "model", "masks"},
    "evaluation": {"media", "model", "masks", "store", "engine", "training"},
    "testing": {"media", "model", "masks", "store", "engine"},
    "langchain_sa2va": {"engine", "tools"},
    "sa2va_server": {"media", "model", "masks", "store", "engine", "tools", "training", "evaluation"},
}
"""Room → rooms; every room may import the foundation, which imports itself only (and `__init__`,
lazily, the engine's protocol)."""
TORCH_ROOMS = {"model", "training"}
MAX_LINES = 400
IMPORT_LIMIT_S = 0.5


def modules() -> list[tuple[str, Path]]:
    """(dotted name, file) of every module of ours."""
    found = []
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found.append((".".join((package, *parts)), file))
    return found


def room_of(name: str) -> str:
    parts = name.split(".")
    return parts[0] if parts[0] in FRONT_ENDS else (parts[1] if len(parts) > 1 else "__init__")


def imports_of(file: Path) -> Iterator[str]:
    """Dotted names that the file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def known_room(name: str) -> str:
    """The room of an imported name; names of the package itself (`__version__`) are its `__init__`."""
    room = room_of(name)
    return room if room in MAY_IMPORT or room in FOUNDATION else "__init__"


def test_imports_go_one_way():
    wrong = []
    for name, file in modules():
        room = room_of(name)
        assert room in MAY_IMPORT or room in FOUNDATION, f"{name}: ARCHITECTURE.md knows no room {room!r}"
        beside = {"engine"} if room == "__init__" else MAY_IMPORT.get(room, set()) | {room}
        allowed = FOUNDATION | beside
        wrong += [(name, each) for each in imports_of(file) if ours(each) and known_room(each) not in allowed]
    assert not wrong


def test_torch_stays_in_its_rooms():
    wrong = [
        (name, each)
        for name, file in modules()
        for each in imports_of(file)
        if each.split(".")[0] in ("torch", "transformers") and room_of(name) not in TORCH_ROOMS
    ]
    assert not wrong


def test_files_stay_short_and_say_what_they_are():
    texts = {name: file.read_text(encoding="utf-8") for name, file in modules()}
    assert not {name for name, text in texts.items() if len(text.splitlines()) > MAX_LINES}
    assert not {
        name for name, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))
    }


@pytest.mark.parametrize("holder", ["server", "integrations"])
def test_holders_of_packages_are_no_packages(holder):
    assert not (ROOT / holder / "__init__.py").exists()


def test_the_public_list():
    """Adding a name is a decision: make it here, too."""
    public = ["CancelToken", "Engine", "Progress", "Region", "Sa2vaError", "Settings", "__version__"]
    assert sa2va_tools.__all__ == public == sorted(public)
    assert dir(sa2va_tools) == public
    for name in public:
        assert getattr(sa2va_tools, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Segment'"):
        _ = sa2va_tools.Segment


def test_importing_the_package_is_quick_and_brings_no_torch():
    totals_s = []
    for _ in range(5):  # the quickest of some: a busy machine says nothing about the import
        command = [sys.executable, "-X", "importtime", "-c", "import sa2va_tools"]
        report = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stderr
        lines = [line.split("|") for line in report.splitlines() if line.count("|") == 2]
        assert not [name for _, _, name in lines if name.strip() in ("torch", "transformers", "numpy")]
        totals_s.append(next(float(total) for _, total, name in lines if name.strip() == "sa2va_tools") / 1e6)
    assert min(totals_s) < IMPORT_LIMIT_S


@pytest.mark.parametrize(
    "module",
    [
        "sa2va_tools.tools.catalogue",
        "sa2va_tools.engine.local",
        "sa2va_server.cli",
        "sa2va_server.mcp_server",
    ],
)
def test_front_doors_open_without_torch(module):
    program = f"import sys; sys.path[:0] = {sys.path!r}; import {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_the_picture_of_the_layout_shows_every_module():
    """When this fails: `make docs` (or `python docs/layout.py`). Words may lag behind, files may not."""
    layout = runpy.run_path(str(ROOT / "docs" / "layout.py"))
    page = layout["PAGE"].read_text(encoding="utf-8")
    files_of = [
        [line.split()[0] for line in text.splitlines() if line] for text in (page, layout["updated"](page))
    ]
    assert files_of[0] == files_of[1]
