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
FOUNDATION = {
    "errors", "run", "settings", "memory_errors", "atomic", "checks", "explained", "printable", "wording",
    "__init__",
}  # fmt: skip
FRONT_ENDS = {"sa2va_server", "langchain_sa2va"}
PUBLIC_ROOMS = {"engine", "masks"}
"""Where the names of `sa2va_tools.__all__` come from."""
MAY_IMPORT = {
    "media": set(),
    "model": {"media"},
    "masks": {"media", "model"},
    "store": {"media", "masks"},
    "engine": {"media", "model", "masks", "store"},
    "tools": {"masks", "store", "engine"},
    "training": {"model"},
    "evaluation": set(),
    "nano": {"media", "model", "engine", "training", "evaluation"},
    "testing": {"media", "model", "masks", "store", "engine"},
    "langchain_sa2va": {"engine", "tools"},
    "sa2va_server": {"media", "model", "masks", "store", "engine", "tools", "training", "evaluation", "nano"},
}
"""Room → rooms that it may import. Every room may import the foundation, which imports only itself (and
`__init__`, lazily, the public names)."""
MODEL_FOUNDATION = {"config", "output", "key_mapping"}
MODEL_MAY_IMPORT = {
    "text": set(),
    "preprocessing": set(),
    "device": set(),
    "families": {"text", "preprocessing"},
    "sam2": set(),
    "sa2va": {"families", "sam2"},
    "generation": {"device", "families", "text"},
    "tracking": {"device", "preprocessing", "sam2"},
    "checkpoints": {"device", "text", "sam2", "sa2va"},
    "hub": {"checkpoints"},
    "runtime": {
        "text", "preprocessing", "device", "families", "sam2", "generation", "tracking", "checkpoints",
    },
}  # fmt: skip
"""The same for the rooms (and single modules) inside `model`."""
TORCH_ROOMS = {"model", "training", "nano"}
MAX_LINES = 400


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


def model_room_of(name: str) -> str:
    """`sam2` for `sa2va_tools.model.sam2.modules`."""
    parts = name.split(".")
    return parts[2] if len(parts) > 2 else "__init__"


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
        beside = PUBLIC_ROOMS if room == "__init__" else MAY_IMPORT.get(room, set()) | {room}
        allowed = FOUNDATION | beside
        wrong += [(name, each) for each in imports_of(file) if ours(each) and known_room(each) not in allowed]
    assert not wrong


def test_imports_inside_the_model_go_one_way():
    wrong = []
    for name, file in modules():
        if not name.startswith("sa2va_tools.model."):
            continue
        room = model_room_of(name)
        allowed = MODEL_FOUNDATION | MODEL_MAY_IMPORT.get(room, set()) | {room}
        wrong += [
            (name, each)
            for each in imports_of(file)
            if each.startswith("sa2va_tools.model.") and model_room_of(each) not in allowed
        ]
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
    public = [
        "AnswerResult",
        "AsyncEngine",
        "CaptionResult",
        "DescribeOptions",
        "Engine",
        "FrameResult",
        "MaskObject",
        "MaskTrack",
        "Progress",
        "Region",
        "Run",
        "Sa2vaError",
        "SegmentOptions",
        "SegmentResult",
        "SegmentStream",
        "Settings",
        "TrackOptions",
        "ViewResult",
        "__version__",
        "load_engine",
    ]
    assert sa2va_tools.__all__ == public == sorted(public)
    assert dir(sa2va_tools) == public
    for name in public:
        assert getattr(sa2va_tools, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Segment'"):
        _ = sa2va_tools.Segment


def test_importing_the_package_brings_nothing_heavy():
    heavy = {"torch", "transformers", "numpy", "av", "cv2"}
    program = f"import sys, sa2va_tools; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    "module",
    [
        "sa2va_tools.tools.catalogue",
        "sa2va_tools.engine.local",
        "sa2va_server.cli.app",
        "sa2va_server.mcp.server",
    ],
)
def test_front_doors_open_without_torch(module):
    program = f"import sys; sys.path[:0] = {sys.path!r}; import {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_the_list_of_modules_is_up_to_date():
    """If this fails, run `make docs`. Sentences may be older, the files must be right."""
    layout = runpy.run_path(str(ROOT / "docs" / "layout.py"))
    page = layout["PAGE"].read_text(encoding="utf-8")
    files_of = [
        [line.split()[0] for line in text.splitlines() if line]
        for text in (page, layout["update_page"](page))
    ]
    assert files_of[0] == files_of[1]


NANO_MAY_IMPORT = {"world": set(), "course": {"world"}, "exam": {"world"}}
"""The rooms inside `nano`, and which of each other they may import."""


def test_course_and_exam_of_the_nano_build_on_its_world_only():
    wrong = []
    for name, file in modules():
        package, *rooms = name.split(".")
        if (package, *rooms[:1]) != ("sa2va_tools", "nano") or len(rooms) < 3:
            continue
        room = rooms[1]
        allowed = {room} | NANO_MAY_IMPORT[room]
        for each in imports_of(file):
            if each.startswith("sa2va_tools.nano.") and each.split(".")[2] not in allowed:
                wrong.append((name, each))
    assert not wrong
