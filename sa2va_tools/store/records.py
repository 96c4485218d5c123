"""Stored records as values and as JSON; records of format 2 are converted when they are read. Knows nothing
about files or the form of handles.

The identity of a record is the part from which its handle is derived: for media the hash of the content, for
masks and answers everything except scores and what differs from run to run. Format 2 called the frames that
the language model saw `key_frames` and the measures against a lack of memory `relief`. It kept what later
calls need in a loose dictionary, `extra`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from sa2va_tools.masks.packed import PackedRles
from sa2va_tools.masks.rle import Rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.media import Media
from sa2va_tools.media.orientation import Orientation
from sa2va_tools.run import Run, raise_if_cancelled
from sa2va_tools.store.pieces import LazyArray

Json = dict[str, Any]
_VOLATILE = frozenset({"timings_s", "encoder_passes", "memory_fallbacks", "relief"})
"""Keys of a provenance that differ from run to run (`relief` in format 2)."""
_SCORES = frozenset({"score", "object_scores", "mask_scores"})
"""Their last digits depend on the cache and on the processor, even for equal masks."""
_MEDIA_FRACTIONS = ("fps", "given_fps", "pixel_aspect")
_RENAMED = {"key_frames": "llm_frames", "relief": "memory_fallbacks"}


@dataclass(frozen=True, slots=True)
class MaskRecord:
    """A mask over an image, or a track over a video."""

    media_handle: str
    label: str
    track: MaskTrack
    score: float
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """JSON values; tuples are read back as lists."""


@dataclass(frozen=True, slots=True)
class ExtensionRecord:
    """What is needed to add objects to an answer later. Frames are source frame indices."""

    llm_frames: tuple[int, ...]
    """Frames that the language model saw."""
    prompt_frames: tuple[int, ...]
    """Frames on which the masks begin."""
    frames: tuple[int, ...] = ()
    """The frames of the clip; empty if there is a mask, which lists them."""
    answers: tuple[tuple[str, str], ...] = ()
    """Each expression with the answer to it."""
    missing: tuple[tuple[int, str, str], ...] = ()
    """Objects that were not found: their index among all objects, label and reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """The result of one call: its words and the masks that belong to it."""

    media_handle: str | None
    kind: str
    """`describe`, `segment`, `ground`, `caption` or `track`."""
    question: str
    text: str
    raw_text: str
    mask_handles: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()
    """Questions and raw answers of the conversation up to this answer; empty if it cannot be continued."""
    extension: ExtensionRecord | None = None


def media_to_json(media: Media) -> Json:
    """Paths and fractions become text, the orientation its fields; pixels are left out."""
    data = {entry.name: getattr(media, entry.name) for entry in fields(media) if entry.name != "pixels"}
    data["path"] = None if media.path is None else str(media.path)
    data |= {name: None if data[name] is None else str(data[name]) for name in _MEDIA_FRACTIONS}
    data["orientation"] = asdict(media.orientation)
    data["files"] = [str(file) for file in media.files]
    return data


def media_from_json(data: Json) -> Media:
    """KeyError, TypeError or ValueError if a field is missing or wrong. Fields with defaults may be missing:
    they were added after the record was written."""
    values = {entry.name: data[entry.name] for entry in fields(Media) if _is_stored(entry, data)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values["path"] = None if data["path"] is None else Path(data["path"])
    values["orientation"] = Orientation(**data["orientation"])
    values["files"] = tuple(Path(file) for file in data["files"])
    for name in _MEDIA_FRACTIONS:
        if values.get(name) is not None:
            values[name] = Fraction(values[name])
    return Media(**values)


def _is_stored(entry: Field[Any], data: Json) -> bool:
    return entry.name != "pixels" and (entry.name in data or entry.default is MISSING)


def extract_media_identity(data: Json) -> Json:
    """The same bytes in another place are the same media, unless another video stream is read, or another
    frame rate was given."""
    chosen = {name: data[name] for name in ("video_stream", "given_fps") if data.get(name)}
    return {"content_hash": data["content_hash"], "kind": data["kind"], **chosen}


def mask_to_json(record: MaskRecord) -> Json:
    """The masks of its frames, which may be many, are read from the track while they are written."""
    track = record.track
    return {
        "media_handle": record.media_handle,
        "label": record.label,
        "score": record.score,
        "provenance": dict(record.provenance),
        "size_wh": list(track.size_wh),
        "frame_indices": list(track.frame_indices),
        "counts": LazyArray(track.iter_counts),
        "object_scores": list(track.object_scores),
        "mask_scores": list(track.mask_scores),
    }


def mask_from_json(data: Json, run: Run | None = None) -> MaskRecord:
    """KeyError, TypeError or ValueError if a field is missing or wrong; CancelledError."""
    width, height = data["size_wh"]

    def rles() -> Iterator[Rle]:
        for counts in data["counts"]:
            raise_if_cancelled(run)
            yield {"size": [height, width], "counts": counts}

    track = MaskTrack(
        size_wh=(width, height),
        frame_indices=tuple(data["frame_indices"]),
        rles=PackedRles.pack((width, height), rles(), data["frame_indices"]),
        object_scores=tuple(data["object_scores"]),
        mask_scores=tuple(data["mask_scores"]),
    )
    others = {name: data[name] for name in ("media_handle", "label", "score", "provenance")}
    return MaskRecord(track=track, **others)


def answer_to_json(record: AnswerRecord) -> Json:
    """All fields as JSON values."""
    data = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    extension = None if record.extension is None else asdict(record.extension)
    return {**data, "provenance": dict(record.provenance), "extension": extension}


def answer_from_json(data: Json) -> AnswerRecord:
    """KeyError, TypeError or ValueError if a field is missing or wrong."""
    values = {entry.name: data[entry.name] for entry in fields(AnswerRecord)}
    for name in ("mask_handles", "labels", "warnings"):
        values[name] = tuple(values[name])
    values["turns"] = tuple((question, answer) for question, answer in data["turns"])
    values["extension"] = None if data["extension"] is None else _extension_from_json(data["extension"])
    return AnswerRecord(**values)


def _extension_from_json(data: Json) -> ExtensionRecord:
    return ExtensionRecord(
        llm_frames=tuple(data["llm_frames"]),
        prompt_frames=tuple(data["prompt_frames"]),
        frames=tuple(data["frames"]),
        answers=tuple((expression, answer) for expression, answer in data["answers"]),
        missing=tuple((at, label, reason) for at, label, reason in data["missing"]),
    )


def extract_result_identity(data: Json) -> Json:
    """Everything about a mask or an answer except a mask's scores and what differs from run to run."""
    provenance = {key: value for key, value in data["provenance"].items() if key not in _VOLATILE}
    return {key: value for key, value in data.items() if key not in _SCORES} | {"provenance": provenance}


def upgrade_record(kind: str, record: Json) -> Json:
    """A record of format 2 as one of format 3. KeyError, TypeError, AttributeError or ValueError if it is not
    one.

    A mask's provenance of format 2 does not say on which frames the mask begins; `prompt_frames` stays
    absent.
    """
    if kind == "media":
        return record
    provenance = {_RENAMED.get(name, name): value for name, value in record["provenance"].items()}
    if kind == "mask":
        return {**record, "provenance": provenance}
    extra = record["extra"]
    upgraded = {name: value for name, value in record.items() if name != "extra"}
    upgraded |= {"provenance": provenance, "turns": extra.get("turns", []), "extension": None}
    plan = extra.get("plan")
    if plan is not None:
        provenance["prompt_frames"] = plan["keys"]
        upgraded["extension"] = {
            "llm_frames": plan["seen"],
            "prompt_frames": plan["keys"],
            "frames": plan.get("frames", []),
            "answers": extra.get("asked", []),
            "missing": extra.get("missed", []),
        }
    return upgraded
