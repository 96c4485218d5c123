"""Results as types of other libraries, which are imported only here, when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sa2va_tools.engine.mask_object import MaskObject, MediaRef
from sa2va_tools.errors import MissingExtraError
from sa2va_tools.masks import rle

if TYPE_CHECKING:
    from sa2va_tools.media.media import Media


def to_detections(masks: NDArray[np.bool_], scores: NDArray[np.float32], labels: Sequence[str]) -> Any:
    """A `supervision.Detections` of the non-empty masks (objects, height, width)."""
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise MissingExtraError("supervision", "supervision") from error
    visible = [number for number, mask in enumerate(masks) if mask.any()]
    if not visible:
        return supervision.Detections.empty()
    boxes = [rle.bounding_box_xyxy(rle.encode(masks[number])) for number in visible]
    return supervision.Detections(
        xyxy=np.asarray(boxes, np.float32),
        mask=masks[visible],
        confidence=scores[visible],
        class_id=np.asarray(visible),
        tracker_id=np.asarray(visible),
        data={"class_name": np.asarray([labels[number] for number in visible])},
    )


def to_dataframe(objects: Sequence[MaskObject]) -> Any:
    """A `pandas.DataFrame`: a row per object and frame, and one for each object that was not found."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise MissingExtraError("pandas", "pandas") from error
    rows = [row for number, item in enumerate(objects) for row in _object_rows(number, item)]
    return pandas.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = (
    "object", "label", "handle", "found", "frame_index", "time_s", "area", "x0", "y0", "x1", "y1",
    "object_score", "mask_score", "suspect",
)  # fmt: skip


def _object_rows(number: int, item: MaskObject) -> list[dict[str, Any]]:
    common = {"object": number, "label": item.label, "handle": item.handle, "found": item.found}
    if item.track is None:
        return [{**common, "suspect": ""}]
    reasons = {suspect.frame_index: ", ".join(suspect.reasons) for suspect in item.suspects}
    rows = []
    for at, frame in enumerate(item.track.frame_indices):
        encoded = item.track.rles[at]
        box = rle.bounding_box_xyxy(encoded) or (None,) * 4
        rows.append(
            {
                **common,
                "frame_index": frame,
                "time_s": item.times_s[at] if item.times_s else None,
                "area": rle.area(encoded),
                **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
                "object_score": item.track.object_scores[at],
                "mask_score": item.track.mask_scores[at],
                "suspect": reasons.get(frame, ""),
            }
        )
    return rows


def name_frames(media: Media | None) -> tuple[str, ...]:
    """The file of each source frame, for a folder of frames; otherwise empty."""
    return () if media is None else tuple(file.name for file in media.files)


def to_coco(
    media: MediaRef,
    objects: Sequence[MaskObject],
    frame_indices: Sequence[int],
    frame_names: Sequence[str] = (),
) -> dict[str, Any]:
    """A COCO dataset (https://cocodataset.org/#format-data): RLE with `counts` as text, boxes as x, y, width,
    height. `track_id` is the object's number, from 1. What was not found is a category without annotations,
    and stands in `info` with the reason."""
    width, height = media.size_wh
    categories = {item.label: number for number, item in enumerate(objects, start=1)}
    images = [
        {
            "id": frame,
            "file_name": frame_names[frame] if frame_names else media.name,
            "width": width,
            "height": height,
            "frame_index": frame,
        }
        for frame in frame_indices
    ]
    missing = [{"label": item.label, "reason": item.reason} for item in objects if not item.found]
    info = {"contributor": "sa2va-tools", "description": f"Masks over {media.name}", "not_found": missing}
    return {
        "info": info,
        "images": images,
        "annotations": _make_annotations(objects, categories),
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }


def _make_annotations(objects: Sequence[MaskObject], categories: Mapping[str, int]) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(objects, start=1):
        for at, frame in enumerate(item.frame_indices):
            assert item.track is not None  # it has frames
            encoded = item.track.rles[at]
            box = rle.bounding_box_xyxy(encoded)
            if box is None:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame,
                    "category_id": categories[item.label],
                    "track_id": number,
                    "segmentation": dict(encoded),
                    "area": rle.area(encoded),
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "iscrowd": 0,
                    "score": item.track.score(frame),
                }
            )
    return annotations
