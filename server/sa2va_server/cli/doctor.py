"""`sa2va doctor` checks that everything needed is installed and works. It prints one line per check, with a
remedy if it fails. Works in a temporary folder and changes nothing of the user's."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from sa2va_server.cli.commands import EXIT_FAILED, with_session
from sa2va_server.cli.session import Session
from sa2va_server.cli.vocabulary import SHELL
from sa2va_tools import __version__
from sa2va_tools.errors import Sa2vaError
from sa2va_tools.printable import make_printable

_INSTALL_ENGINE = 'pip install "sa2va-tools[engine]"'
_INSTALL_SERVER = 'pip install "sa2va-tools[server]"'
_GIB = 2**30
_LITTLE_MEMORY, _LITTLE_DISK = 2 * _GIB, 5 * _GIB
_HUB_TIMEOUT_S = 5.0


class Finding(NamedTuple):
    """The result of one check. `warn`: works, but not for everything; `fail`: does not work."""

    state: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


@with_session
def doctor(session: Session) -> None:
    """Check the installation and report problems."""
    session.settings()  # wrong ones are an error of the command, not a finding
    findings = {}
    for name, check in _CHECKS.items():
        findings[name] = _run_check(check, session)
        if not session.as_json:
            session.print_lines(_format(name, findings[name]))
    failed = any(finding.state == "fail" for finding in findings.values())
    if session.as_json:
        checks = [{"name": name, **finding._asdict()} for name, finding in findings.items()]
        session.print_json({"ok": not failed, "checks": checks})
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _run_check(check: Callable[[Session], Finding], session: Session) -> Finding:
    try:
        return check(session)
    except ModuleNotFoundError as error:
        return Finding("fail", f"{error.name} is not installed", _INSTALL_ENGINE)
    except Sa2vaError as error:
        error.spell(SHELL)
        return Finding("fail", error.message, error.hint)


def _format(name: str, finding: Finding) -> Iterable[str]:
    yield f"{finding.state:<4}  {name:<11}  {make_printable(finding.detail)}"
    if finding.remedy:
        yield f"{'':<19}{make_printable(finding.remedy)}"


def _check_python(_: Session) -> Finding:
    machine = f"{platform.system()} {platform.machine()}"
    return Finding("ok", f"{platform.python_version()} on {machine}, sa2va-tools {__version__}")


def _check_torch(session: Session) -> Finding:
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        return Finding("fail", f"not installed: {', '.join(missing)}", _INSTALL_ENGINE)
    from sa2va_tools.model.device.placement import choose_devices

    wanted = session.settings().device
    names = ", ".join(map(str, choose_devices(wanted)))
    detail = f"torch {_find_version('torch')}, transformers {_find_version('transformers')}, device {names}"
    if names == "cpu" and wanted == "auto":
        remedy = "Enough for the nano model. Larger ones need a GPU and a torch build for it (pytorch.org)."
        return Finding("warn", detail, remedy)
    return Finding("ok", detail)


def _check_video(_: Session) -> Finding:
    import av

    detail = f"PyAV {av.__version__}"
    try:
        av.Codec("libx264", "w")
    except (av.FFmpegError, ValueError):
        remedy = "Overlays of videos need it: pip install --force-reinstall av"
        return Finding("fail", f"{detail} has no H.264 encoder (libx264)", remedy)
    return Finding("ok", f"{detail}, writes H.264")


def _check_weights(session: Session) -> Finding:
    from sa2va_tools.model.checkpoints.inspection import check_folder
    from sa2va_tools.model.hub.names import find_checkpoint

    model = session.settings().model
    folder = find_checkpoint(model)
    bad = [point for point in check_folder(folder).results if not point.ok]
    if bad:
        return Finding("fail", f"{model}: {bad[0].detail}", bad[0].remedy)
    size_mb = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
    return Finding("ok", f"{model} is complete, {size_mb:,.1f} MB in {folder}")


def _check_round_trip(session: Session) -> Finding:
    """Segment a small clip with the nano model."""
    from sa2va_server.cli.demo_scene import EXPRESSIONS, write_demo_clip

    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sa2va-doctor-") as folder:
        settings = session.settings().model_copy(
            update={"model": "nano", "sam2_decoder": None, "store_dir": Path(folder) / "store"}
        )
        clip = write_demo_clip(Path(folder) / "clip.mp4", frames=12, size_wh=(256, 192))
        with session.open_engine(settings) as engine, session.open_run() as run:
            result = engine.segment(clip, list(EXPRESSIONS), run=run)
    found = sum(item.found for item in result.objects)
    seconds = time.monotonic() - start_s
    detail = f"the nano model found {found} of {len(EXPRESSIONS)} shapes in 12 frames in {seconds:.1f} s"
    if found < len(EXPRESSIONS):
        remedy = "It runs, but its results are wrong: install sa2va-tools again."
        return Finding("warn", detail, remedy)
    return Finding("ok", detail)


def _check_mcp(_: Session) -> Finding:
    if find_spec("mcp") is None:
        return Finding("warn", "not installed, so `sa2va mcp` does not work", _INSTALL_SERVER)
    return Finding("ok", f"mcp {_find_version('mcp')}")


def _check_gpu(_: Session) -> Finding:
    if find_spec("torch") is None:
        return Finding("warn", "unknown, because torch is not installed")
    from sa2va_tools.model.device.placement import find_accelerators

    found = find_accelerators()
    if found.gpus:
        gpus = "; ".join(
            f"{gpu.name}, {gpu.free / _GIB:.1f} of {gpu.total / _GIB:.1f} GiB free" for gpu in found.gpus
        )
        return Finding("ok", f"CUDA {found.cuda_build}: {gpus}")
    if found.mps_bytes is not None:
        return Finding("ok", f"MPS, {found.mps_bytes / _GIB:.1f} GiB usable")
    if found.cuda_build is None:
        detail = "none: this torch was built for the CPU only"
        remedy = "If you have an NVIDIA GPU, install torch for CUDA (pytorch.org). The nano model needs none."
    else:
        detail = f"none: torch was built for CUDA {found.cuda_build}, but finds no device or driver"
        remedy = "Run nvidia-smi to see whether a driver is installed and which version it has."
    return Finding("warn", detail, remedy)


def _check_memory(_: Session) -> Finding:
    free = _find_free_memory()
    if free is None:
        return Finding("ok", "unknown on this system")
    detail = f"{free / _GIB:.1f} GiB free"
    if free < _LITTLE_MEMORY:
        return Finding("warn", detail, "Close other programs: the nano model needs 0.6 GiB.")
    return Finding("ok", detail)


def _check_disk(session: Session) -> Finding:
    folders = {"store": session.settings().store_dir}
    if find_spec("huggingface_hub") is not None:
        from huggingface_hub import constants

        folders["hub cache"] = Path(constants.HF_HUB_CACHE)
    free = {name: shutil.disk_usage(_find_existing(folder)).free for name, folder in folders.items()}
    detail = ", ".join(f"{name} {size / _GIB:.1f} GiB free" for name, size in free.items())
    if min(free.values()) < _LITTLE_DISK:
        remedy = "A checkpoint takes 4 to 100 GiB. Set HF_HOME to a folder on a larger disk."
        return Finding("warn", detail, remedy)
    return Finding("ok", detail)


def _check_store(session: Session) -> Finding:
    folder = session.settings().store_dir
    try:
        with tempfile.TemporaryFile(dir=_find_existing(folder)):
            pass
    except OSError as error:
        remedy = "Set --store or SA2VA_STORE_DIR to a folder that you can write to."
        return Finding("fail", f"{folder} cannot be written: {error.strerror or error}", remedy)
    return Finding("ok", f"{folder}" if folder.exists() else f"{folder} (does not exist yet)")


def _check_roots(session: Session) -> Finding:
    """Folders that agents may read through `sa2va mcp`."""
    roots = session.settings().roots
    if not roots:
        return Finding("ok", "none set; give them to the server: sa2va mcp --root DIR")
    missing = [str(root) for root in roots if not root.expanduser().is_dir()]
    if missing:
        return Finding("warn", f"not folders: {', '.join(missing)}", "Correct SA2VA_ROOTS.")
    return Finding("ok", ", ".join(map(str, roots)))


def _check_hub(_: Session) -> Finding:
    """Whether `sa2va pull` can work; nothing else needs the hub."""
    if find_spec("huggingface_hub") is None:
        return Finding("warn", "huggingface-hub is not installed", _INSTALL_ENGINE)
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding("warn", "HF_HUB_OFFLINE is set", "Unset it to pull checkpoints.")
    try:
        httpx.head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        detail = f"{constants.ENDPOINT} cannot be reached ({type(error).__name__})"
        remedy = "Only `sa2va pull` needs it. Set HF_ENDPOINT to a mirror, or HTTPS_PROXY."
        return Finding("warn", detail, remedy)
    return Finding("ok", f"{constants.ENDPOINT} answers")


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _find_free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _find_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


_CHECKS: dict[str, Callable[[Session], Finding]] = {
    "python": _check_python,
    "torch": _check_torch,
    "gpu": _check_gpu,
    "memory": _check_memory,
    "disk": _check_disk,
    "video": _check_video,
    "store": _check_store,
    "roots": _check_roots,
    "weights": _check_weights,
    "round trip": _check_round_trip,
    "mcp": _check_mcp,
    "hub": _check_hub,
}
