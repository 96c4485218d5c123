"""`sa2va pull`, `sa2va models …`: which checkpoints there are, what they need, whether a folder is whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sa2va_server.cli_commands import say
from sa2va_server.cli_output import printable
from sa2va_server.cli_session import EXIT_FAILED, Session
from sa2va_tools.errors import CheckpointError, CheckpointNotFoundError, RequestError
from sa2va_tools.model.checkpoints import checkpoint_folder, reference_of
from sa2va_tools.model.zoo import ZOO, Published, published

if TYPE_CHECKING:
    from sa2va_tools.model.config import Sa2vaConfig
    from sa2va_tools.model.quantised import Quantisation

_DTYPES = ("float32", "bfloat16")
_WAYS: tuple[tuple[str, str, Quantisation | None], ...] = (
    ("float32", "float32", None),
    ("bfloat16", "bfloat16", None),
    ("bfloat16, int8", "bfloat16", "int8"),
    ("bfloat16, nf4", "bfloat16", "nf4"),
)
_ABILITIES = {
    "chat_image": "image chat",
    "chat_video": "video chat",
    "segment": "segment",
    "ground": "grounded captions",
    "caption_region": "region captions",
    "second_decoder": "second decoder (mode sa2va-i)",
}


def pull_command(session: Session, model: str) -> None:
    """Download a checkpoint and say where it lies."""
    from sa2va_tools.model.hub import pull

    reference = reference_of(model)
    if reference is None:
        raise RequestError(
            f"{model!r} is no hub id such as ByteDance/Sa2VA-4B.", hint="`sa2va models` lists them."
        )
    with session.working() as (on_progress, cancel):
        folder = pull(reference, on_progress=on_progress, cancel=cancel)
    if session.as_json:
        session.emit_json({"model": str(reference), "folder": str(folder)})
        return
    say(session, [f"{reference} is in {folder}", f"use it: sa2va segment --model {reference} …"])


def list_command(session: Session) -> None:
    """The zoo as a table."""
    if session.as_json:
        session.emit_json([_document(one) for one in ZOO])
        return
    say(session, _table())


def info_command(session: Session, model: str, objects: int, image: bool, key_frames: int | None) -> None:
    """What a checkpoint is, what it can do, and the memory that it wants."""
    from sa2va_tools.model.zoo_sizes import sizes_of

    known = published(model)
    folder = _folder_or_none(model)
    if known is None and folder is None:
        checkpoint_folder(model)  # raises, with the reason
    document: dict[str, Any] = {"model": model}
    work: dict[str, Any] = {"objects": objects, "image": image, "key_frames": key_frames}
    if known is not None:
        document |= _document(known) | _wants(sizes_of(known), **work)
    if folder is not None:
        document |= _of_folder(folder, whole=known is None, **work)
    if session.as_json:
        session.emit_json(document)
        return
    say(session, _info_lines(document))


def check_command(session: Session, model: str) -> None:
    """Every finding about a folder; exit code 1 when one is bad."""
    from sa2va_tools.model.checking import check_folder

    report = check_folder(checkpoint_folder(model))
    if session.as_json:
        session.emit_json({"ok": report.ok, "points": [asdict(point) for point in report.points]})
    else:
        say(session, _point_lines(report.points))
    if not report.ok:
        raise typer.Exit(EXIT_FAILED)


def _folder_or_none(model: str) -> Path | None:
    try:
        return checkpoint_folder(model)
    except CheckpointNotFoundError:
        return None


def _document(one: Published) -> dict[str, Any]:
    return {
        "id": one.id,
        "family": f"{one.family}+{one.llm}",
        "vision": one.vision,
        "language": one.language,
        "parameters_billion": one.parameters,
        "download_gib": round(one.disk_gib, 1),
        "weights_gib": {dtype: round(one.weights_gib(dtype), 1) for dtype in _DTYPES},
        "abilities": asdict(one.abilities),
        "published_scores": dict(one.scores),
    }


def _of_folder(folder: Path, *, whole: bool, **work: Any) -> dict[str, Any]:
    """What a folder's own files say. Unless it must be `whole`, one whose weights are not all there yet says
    nothing: a pull was broken off."""
    from sa2va_tools.model.config import read_config, with_second_decoder
    from sa2va_tools.model.weight_files import read_heads, weight_files

    try:
        config = with_second_decoder(read_config(folder), read_heads(weight_files(folder)))
    except CheckpointError:
        if whole:
            raise
        return {}
    return {
        "folder": str(folder),
        "family": config.family_name,
        "abilities": asdict(config.capabilities),
        **_wants(config, **work),
    }


def _wants(config: Sa2vaConfig, *, objects: int, image: bool, key_frames: int | None) -> dict[str, Any]:
    """Memory by dtype, and what this machine makes of it."""
    from sa2va_tools.model.device import choose_device, choose_dtype, free_bytes
    from sa2va_tools.model.memory import Work, advice, estimate

    work = Work(objects=objects, video=not image, chat_frames=key_frames, key_frames=key_frames)
    memory = {name: estimate(config, dtype, work, quantize=how) for name, dtype, how in _WAYS}
    device = choose_device("auto")
    free, usual = free_bytes(device), str(choose_dtype("auto", device, small=False)).removeprefix("torch.")
    frames = "" if image else f" ({key_frames or config.chat_frames} frames of it are seen)"
    media = "an image" if image else "a video of any length"
    return {
        "memory_gib": {
            name: {part: round(size / 2**30, 2) for part, size in asdict(found).items()}
            | {"total": round(found.total / 2**30, 2)}
            for name, found in memory.items()
        },
        "memory_for": f"{media}{frames}, {objects} object(s), CUDA",
        "advice": None if free is None else advice(config, usual, work, free, device=device.type),
    }


def _table() -> Iterable[str]:
    width = max(len(one.id) for one in ZOO)
    yield f"{'id':<{width}}  {'params':>6}  {'download':>8}  {'bf16':>5}  RefCOCO  MeViS  family"
    for one in ZOO:
        scores = dict(one.scores)
        cells = (f"{scores.get(name, '–')!s:>{space}}" for name, space in (("RefCOCO", 7), ("MeViS", 5)))
        yield (
            f"{one.id:<{width}}  {one.parameters:>5.1f}B  {one.disk_gib:>5.1f}GiB  "
            f"{one.weights_gib('bfloat16'):>5.1f}  {'  '.join(cells)}  "
            f"{one.family}+{one.llm}{' (i)' if one.second_decoder else ''}"
        )
    yield "bf16: GiB of weights once loaded. (i): a second decoder, for mode sa2va-i."
    yield "Next: sa2va models info ID, or sa2va pull ID"


def _info_lines(document: dict[str, Any]) -> Iterable[str]:
    yield f"{document.get('id', document['model'])}: {document['family']}"
    if "vision" in document:
        yield f"  {document['vision']} + {document['language']}"
        yield f"  {document['parameters_billion']} B parameters, {document['download_gib']} GiB to download"
    able = [words for name, words in _ABILITIES.items() if document["abilities"][name]]
    lacking = [words for name, words in _ABILITIES.items() if not document["abilities"][name]]
    yield f"  can: {', '.join(able)}"
    if lacking:
        yield f"  cannot: {', '.join(lacking)}"
    if document.get("published_scores"):
        yield "  published: " + ", ".join(
            f"{name} {value}" for name, value in document["published_scores"].items()
        )
    if "folder" in document:
        yield f"  folder: {printable(document['folder'])}"
    yield f"  memory, GiB ({document['memory_for']}):"
    for way, parts in document["memory_gib"].items():
        yield f"    {way:<14} {parts['total']:>6.2f}, of it {parts['weights']:.2f} weights"
    if document["advice"]:
        yield f"  on this machine: {document['advice']}"
    if "folder" not in document:
        yield f"  not (or not wholly) on this machine: sa2va pull {document['id']}"


def _point_lines(points: Iterable[Any]) -> Iterable[str]:
    for point in points:
        yield f"{'ok' if point.ok else 'fail':<4}  {point.name:<9}  {printable(point.detail)}"
        if point.remedy:
            yield f"{'':<17}{printable(point.remedy)}"
