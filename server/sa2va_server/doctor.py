"""`sa2va doctor`: is everything here that is needed, and does it work? One line per check, with the
remedy where it fails. Reads, and works in a temporary folder; changes nothing of the user's."""

from __future__ import annotations

import importlib.util
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from sa2va_server.cli_commands import say
from sa2va_server.cli_output import printable
from sa2va_server.cli_session import EXIT_FAILED, Session
from sa2va_server.doctor_machine import disk, gpu, hub, memory, roots
from sa2va_server.findings import Finding
from sa2va_tools import __version__
from sa2va_tools.errors import Sa2vaError

_ENGINE_REMEDY = 'pip install "sa2va-tools[engine]"'
_OLDEST_PYTHON = (3, 11)


Check = Callable[[Session], Finding]


def run_doctor(session: Session) -> None:
    """Show every finding; exit code 1 when one of them is `fail`."""
    findings = []
    for check in (
        _python, _torch, gpu, memory, disk, _video, _store, roots, _weights, _round_trip, _mcp, hub,
    ):  # fmt: skip
        finding = check(session)
        findings.append(finding)
        if not session.as_json:
            say(session, _lines(finding))
    failed = any(finding.state == "fail" for finding in findings)
    if session.as_json:
        session.emit_json({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _lines(finding: Finding) -> Iterable[str]:
    yield f"{finding.state:<4}  {finding.name:<11}  {printable(finding.detail)}"
    if finding.remedy:
        yield f"{'':<19}{printable(finding.remedy)}"


def _python(_: Session) -> Finding:
    detail = (
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, sa2va-tools {__version__}"
    )
    if sys.version_info < _OLDEST_PYTHON:
        return Finding("python", "fail", detail, "Use Python 3.11 or newer.")
    return Finding("python", "ok", detail)


def _torch(session: Session) -> Finding:
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("torch", "fail", f"not installed: {', '.join(missing)}", _ENGINE_REMEDY)
    from sa2va_tools.model.device import choose_device

    wanted = session.settings().device
    try:
        place = choose_device(wanted)
    except Sa2vaError as error:
        return Finding("torch", "fail", error.message, error.hint)
    detail = f"torch {_version('torch')}, transformers {_version('transformers')}, device {place.type}"
    if place.type == "cpu" and wanted == "auto":
        remedy = (
            "Fine for the nano model. Larger checkpoints want a GPU and its build of torch (pytorch.org)."
        )
        return Finding("torch", "warn", detail, remedy)
    return Finding("torch", "ok", detail)


def _video(_: Session) -> Finding:
    import av

    detail = f"PyAV {av.__version__}"
    try:
        av.Codec("libx264", "w")
    except (av.FFmpegError, ValueError):
        remedy = "Overlays need it: pip install --force-reinstall av"
        return Finding("video", "fail", f"{detail}, without the H.264 encoder libx264", remedy)
    return Finding("video", "ok", f"{detail}, writes H.264")


def _store(session: Session) -> Finding:
    folder = session.settings().store_dir
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        remedy = "Give --store, or set SA2VA_STORE_DIR, to a folder that can be written."
        return Finding("store", "fail", f"{folder} cannot be written: {error.strerror or error}", remedy)
    made = "" if folder.exists() else " (not made yet)"
    return Finding("store", "ok", f"{folder}{made}")


def _weights(session: Session) -> Finding:
    model = session.settings().model
    try:
        from sa2va_tools.model.checking import check_folder
        from sa2va_tools.model.checkpoints import checkpoint_folder

        folder = checkpoint_folder(model)
    except ModuleNotFoundError as error:
        return Finding("weights", "fail", f"{error.name} is not installed", _ENGINE_REMEDY)
    except Sa2vaError as error:
        return Finding("weights", "fail", error.message, error.hint)
    bad = [point for point in check_folder(folder).points if not point.ok]
    if bad:
        return Finding("weights", "fail", f"{model}: {bad[0].detail}", bad[0].remedy)
    size_mb = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
    return Finding("weights", "ok", f"{model}: whole, {size_mb:,.1f} MB in {folder}")


def _round_trip(session: Session) -> Finding:
    from sa2va_server.demo_scene import EXPRESSIONS, write_demo_clip

    began_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="sa2va-doctor-") as folder:
            settings = session.settings().model_copy(
                update={"model": "nano", "sam2_decoder": None, "store_dir": Path(folder) / "store"}
            )
            clip = write_demo_clip(Path(folder) / "clip.mp4", frames=12, size_wh=(256, 192))
            with session.open_engine(settings) as engine, session.working() as (on_progress, cancel):
                result = engine.segment(clip, list(EXPRESSIONS), on_progress=on_progress, cancel=cancel)
    except ModuleNotFoundError as error:
        return Finding("round trip", "fail", f"{error.name} is not installed", _ENGINE_REMEDY)
    except Sa2vaError as error:
        return Finding("round trip", "fail", error.message, error.hint)
    found = sum(item.found for item in result.objects)
    passed_s = time.monotonic() - began_s
    detail = f"the nano found {found} of {len(EXPRESSIONS)} shapes in 12 frames, {passed_s:.1f} s"
    if found < len(EXPRESSIONS):
        return Finding(
            "round trip", "warn", detail, "It runs, but not as it should: install the package again."
        )
    return Finding("round trip", "ok", detail)


def _mcp(_: Session) -> Finding:
    if importlib.util.find_spec("mcp") is None:
        return Finding(
            "mcp", "warn", "not installed: `sa2va mcp` will not run", 'pip install "sa2va-tools[server]"'
        )
    return Finding("mcp", "ok", f"mcp {_version('mcp')}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
