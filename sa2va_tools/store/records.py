"""What the store keeps, as values and as JSON. Knows nothing of files or handles' spelling.

The identity of a record is the part of it that its handle is derived from: for media the content's
hash, for masks and answers everything but the time that it took to make them, and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from sa2va_tools.masks.packed import PackedRles
from sa2va_tools.masks.rle import Rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.media import Media
from sa2va_tools.media.orientation import Orientation
from sa2va_tools.progress import unhindered
from sa2va_tools.store.pieces import Many

Json = dict[str, Any]
_VOLATILE = frozenset({"timings_s", "encoder_passes", "relief"})
"""Keys of a provenance that differ from run to run."""
_SCORES = frozenset({"score", "object_scores", "mask_scores"})
"""Of a mask: their last digits tell what was kept when it was made, equal pixels or not."""


@dataclass(frozen=True, slots=True)
class MaskRecord:
    """A mask over an image, or a track over a video."""

    media_handle: str
    label: str
    track: MaskTrack
    score: float
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """JSON values; tuples come back as lists."""


@dataclass(frozen=True, slots=True)
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
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the call wants to keep; JSON values."""


def media_to_json(media: Media) -> Json:
    """Paths and fractions as text, the orientation as its fields."""
    data = {entry.name: getattr(media, entry.name) for entry in fields(media)}
    data["path"] = str(media.path)
    data["fps"] = None if media.fps is None else str(media.fps)
    data["orientation"] = asdict(media.orientation)
    data["files"] = [str(file) for file in media.files]
    return data


def media_from_json(data: Json) -> Media:
    """KeyError, TypeError or ValueError when a field is missing or wrong."""
    data = {"complete": True, **data}  # records written before there was such a field
    values = {entry.name: data[entry.name] for entry in fields(Media)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values["path"] = Path(data["path"])
    values["fps"] = None if data["fps"] is None else Fraction(data["fps"])
    values["orientation"] = Orientation(**data["orientation"])
    values["files"] = tuple(Path(file) for file in data["files"])
    return Media(**values)


def media_identity(data: Json) -> Json:
    """The same bytes elsewhere are the same media."""
    return {"content_hash": data["content_hash"], "kind": data["kind"]}


def mask_to_json(record: MaskRecord) -> Json:
    """Its masks, which may be many, are read from the track while they are written."""
    track = record.track
    return {
        "media_handle": record.media_handle,
        "label": record.label,
        "score": record.score,
        "provenance": dict(record.provenance),
        "size_wh": list(track.size_wh),
        "frame_indices": list(track.frame_indices),
        "counts": Many(track.counts),
        "object_scores": list(track.object_scores),
        "mask_scores": list(track.mask_scores),
    }


def mask_from_json(data: Json, check: Callable[[], None] = unhindered) -> MaskRecord:
    """KeyError, TypeError or ValueError when a field is missing or wrong; `check` is called before each of
    its masks."""
    width, height = data["size_wh"]

    def rles() -> Iterator[Rle]:
        for counts in data["counts"]:
            check()
            yield {"size": [height, width], "counts": counts}

    track = MaskTrack(
        size_wh=(width, height),
        frame_indices=tuple(data["frame_indices"]),
        rles=PackedRles.of((width, height), rles(), data["frame_indices"]),
        object_scores=tuple(data["object_scores"]),
        mask_scores=tuple(data["mask_scores"]),
    )
    return MaskRecord(data["media_handle"], data["label"], track, data["score"], data["provenance"])


def answer_to_json(record: AnswerRecord) -> Json:
    data = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    return {**data, "provenance": dict(record.provenance), "extra": dict(record.extra)}


def answer_from_json(data: Json) -> AnswerRecord:
    """KeyError, TypeError or ValueError when a field is missing or wrong."""
    values = {entry.name: data[entry.name] for entry in fields(AnswerRecord)}
    for name in ("mask_handles", "labels", "warnings"):
        values[name] = tuple(values[name])
    return AnswerRecord(**values)


def result_identity(data: Json) -> Json:
    """All of a mask or an answer but how long it took, and a mask's scores."""
    provenance = {key: value for key, value in data["provenance"].items() if key not in _VOLATILE}
    return {key: value for key, value in data.items() if key not in _SCORES} | {"provenance": provenance}
