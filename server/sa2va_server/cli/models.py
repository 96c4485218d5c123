"""`sa2va pull` and `sa2va models …`: which checkpoints exist, how much memory they need, and whether a folder
is complete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Typer

from sa2va_server.cli.commands import EXIT_FAILED, with_session
from sa2va_server.cli.flags import WorkloadFlags
from sa2va_server.cli.session import Session
from sa2va_server.cli.vocabulary import SHELL
from sa2va_tools.errors import CheckpointError, RequestError
from sa2va_tools.printable import make_printable
from sa2va_tools.wording import spell

if TYPE_CHECKING:
    from sa2va_tools.model.checkpoints.inspection import CheckResult
    from sa2va_tools.model.checkpoints.quantization import Quantization
    from sa2va_tools.model.config import Sa2vaConfig
    from sa2va_tools.model.hub.published import PublishedCheckpoint

_DTYPES = ("float32", "bfloat16")
_QUANTIZATIONS: tuple[Quantization, ...] = ("int8", "nf4")
_ABILITIES = {
    "chat_image": "image chat",
    "chat_video": "video chat",
    "segment": "segment",
    "ground": "grounded captions",
    "caption_region": "region captions",
    "second_decoder": "mode sa2va-i with a second decoder",
}


models_app = Typer(help="List, inspect and check checkpoints.")


@with_session
def pull(
    session: Session,
    checkpoint: Annotated[str, Argument(metavar="ID[@REVISION]", help="A hub id, e.g. ByteDance/Sa2VA-4B.")],
) -> None:
    """Download a checkpoint from the hub. Run it again to resume an interrupted download."""
    from sa2va_tools.model.hub.names import find_hub_reference
    from sa2va_tools.model.hub.pull import pull as download

    reference = find_hub_reference(checkpoint)
    if reference is None:
        raise RequestError(
            f"{checkpoint!r} is not a hub id like ByteDance/Sa2VA-4B.", hint="`sa2va models` lists the ids."
        )
    with session.open_run() as run:
        folder = download(reference, run=run)
    if session.as_json:
        session.print_json({"model": str(reference), "folder": str(folder)})
        return
    session.print_lines([f"{reference} is in {folder}", f"To use it: sa2va segment --model {reference} …"])


@models_app.callback(invoke_without_command=True)
@with_session
def list_published(session: Session) -> None:
    """List the published checkpoints with their sizes, scores and families."""
    from sa2va_tools.model.hub.published import PUBLISHED_CHECKPOINTS

    if session.subcommand is not None:
        return
    if session.as_json:
        session.print_json([_describe_published(one) for one in PUBLISHED_CHECKPOINTS])
        return
    session.print_lines(_format_list(PUBLISHED_CHECKPOINTS))


@models_app.command()
@with_session
def info(
    session: Session,
    checkpoint: Annotated[str, Argument(metavar="ID|DIR", help="A hub id, a folder, or nano.")],
    work: WorkloadFlags,
) -> None:
    """Show what a checkpoint is, what it can do, and how much memory it needs."""
    from sa2va_tools.model.hub.names import find_checkpoint
    from sa2va_tools.model.hub.published import find_published, make_published_config

    known = find_published(checkpoint)
    document: dict[str, Any] = {"model": checkpoint}
    if known is not None:
        document |= _describe_published(known) | _describe_memory(make_published_config(known), work)
    try:
        document |= _describe_folder(find_checkpoint(checkpoint), work)
    except CheckpointError:
        # A published one need not be here, nor completely: a pull may have been interrupted.
        if known is None:
            raise
    if session.as_json:
        session.print_json(document)
        return
    session.print_lines(_format_info(document))


@models_app.command()
@with_session
def check(
    session: Session,
    checkpoint: Annotated[str, Argument(metavar="DIR|ID", help="A folder, a pulled hub id, or nano.")],
) -> None:
    """Check a checkpoint without loading it: config, files, keys, shapes, tokenizer."""
    from sa2va_tools.model.checkpoints.inspection import check_folder
    from sa2va_tools.model.hub.names import find_checkpoint

    report = check_folder(find_checkpoint(checkpoint))
    if session.as_json:
        session.print_json({"ok": report.ok, "points": [asdict(point) for point in report.results]})
    else:
        session.print_lines(_format_points(report.results))
    if not report.ok:
        raise Exit(EXIT_FAILED)


def _describe_published(one: PublishedCheckpoint) -> dict[str, Any]:
    return {
        "id": one.id,
        "family": f"{one.family}+{one.llm}",
        "vision": one.vision,
        "language": one.language,
        "parameters_billion": one.parameters,
        "download_gib": round(one.disk_gib, 1),
        "weights_gib": {dtype: round(one.weights_gib(dtype), 1) for dtype in _DTYPES},
        "abilities": asdict(one.capabilities),
        "published_scores": dict(one.scores),
    }


def _describe_folder(folder: Path, work: WorkloadFlags) -> dict[str, Any]:
    """What the folder's own files say. CheckpointError if they are not all there."""
    from sa2va_tools.model.checkpoints.config_file import read_config
    from sa2va_tools.model.checkpoints.safetensors_files import find_weight_files, read_tensor_index
    from sa2va_tools.model.config import detect_second_decoder

    config = detect_second_decoder(read_config(folder), read_tensor_index(find_weight_files(folder)))
    return {
        "folder": str(folder),
        "family": config.family_name,
        "abilities": asdict(config.capabilities),
        **_describe_memory(config, work),
    }


def _describe_memory(config: Sa2vaConfig, work: WorkloadFlags) -> dict[str, Any]:
    """Memory for each variant, and which of them fits on this machine."""
    from sa2va_tools.model.checkpoints.memory_estimate import Work, advise_on_memory, estimate_memory
    from sa2va_tools.model.device.placement import choose_device, choose_precision, free_bytes

    frames = work.llm_frames
    task = Work(objects=work.objects, video=not work.is_image, llm_frames=frames, prompt_frames=frames)
    estimates = {dtype: estimate_memory(config, dtype, task) for dtype in _DTYPES} | {
        f"bfloat16, {quantize}": estimate_memory(config, "bfloat16", task, quantize=quantize)
        for quantize in _QUANTIZATIONS
    }
    device = choose_device("auto")
    free = free_bytes(device)
    dtype = str(choose_precision("auto", device, small=False).modules).removeprefix("torch.")
    video = f"a video of any length (the model sees {frames or config.llm_frames} frames)"
    return {
        "memory_gib": {
            name: {part: round(size / 2**30, 2) for part, size in asdict(estimate).items()}
            | {"total": round(estimate.total / 2**30, 2)}
            for name, estimate in estimates.items()
        },
        "memory_for": f"{'an image' if work.is_image else video}, {work.objects} object(s), CUDA",
        "advice": None
        if free is None
        else spell(advise_on_memory(config, dtype, task, free, device=device.type), SHELL),
    }


def _format_list(published: Sequence[PublishedCheckpoint]) -> Iterable[str]:
    width = max(len(one.id) for one in published)
    yield f"{'id':<{width}}  {'params':>6}  {'download':>8}  {'bf16':>5}  RefCOCO  MeViS  family"
    for one in published:
        scores = dict(one.scores)
        cells = (f"{scores.get(name, '–')!s:>{space}}" for name, space in (("RefCOCO", 7), ("MeViS", 5)))
        yield (
            f"{one.id:<{width}}  {one.parameters:>5.1f}B  {one.disk_gib:>5.1f}GiB  "
            f"{one.weights_gib('bfloat16'):>5.1f}  {'  '.join(cells)}  "
            f"{one.family}+{one.llm}{' (i)' if one.second_decoder else ''}"
        )
    yield "bf16: GiB of weights in memory. (i): has a second mask decoder, for mode sa2va-i."
    yield "Next: sa2va models info ID, or sa2va pull ID"


def _format_info(document: dict[str, Any]) -> Iterable[str]:
    yield f"{document.get('id', document['model'])}: {document['family']}"
    if "vision" in document:
        yield f"  {document['vision']} + {document['language']}"
        yield f"  {document['parameters_billion']} B parameters, {document['download_gib']} GiB to download"
    can = [words for name, words in _ABILITIES.items() if document["abilities"][name]]
    cannot = [words for name, words in _ABILITIES.items() if not document["abilities"][name]]
    yield f"  can: {', '.join(can)}"
    if cannot:
        yield f"  not available: {', '.join(cannot)}"
    if document.get("published_scores"):
        scores = ", ".join(f"{name} {value}" for name, value in document["published_scores"].items())
        yield f"  published scores: {scores}"
    if "folder" in document:
        yield f"  folder: {make_printable(document['folder'])}"
    yield f"  memory in GiB for {document['memory_for']}:"
    for variant, parts in document["memory_gib"].items():
        yield f"    {variant:<14} {parts['total']:>6.2f}, of which weights {parts['weights']:.2f}"
    if document["advice"]:
        yield f"  on this machine: {document['advice']}"
    if "folder" not in document:
        yield f"  not (completely) on this machine; to download it: sa2va pull {document['id']}"


def _format_points(points: Iterable[CheckResult]) -> Iterable[str]:
    for point in points:
        yield f"{'ok' if point.ok else 'fail':<4}  {point.name:<9}  {make_printable(point.detail)}"
        if point.remedy:
            yield f"{'':<17}{make_printable(point.remedy)}"
