"""`--rle-in-json`: the masks themselves in the JSON document of a result, as COCO RLE."""

from __future__ import annotations

import json
from typing import Any

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.errors import RequestError


def require_json(*, wants_rle: bool, as_json: bool) -> None:
    """RequestError if RLE is wanted but no JSON."""
    if wants_rle and not as_json:
        raise RequestError("--rle-in-json needs --json.", hint="Add --json, or use --out DIR for masks.json.")


def add_rles(engine: Engine, document: dict[str, Any]) -> None:
    """Add `rle` to each mask of a result's document: `[{"frame_index": 0, "size": [height, width], "counts":
    "…"}, …]`, one entry per frame that was searched; a described region has only the frame of the
    description."""
    listed = [item for name in ("masks", "regions") for item in document.get(name, ())]
    handles = list(dict.fromkeys(item["handle"] for item in listed if item.get("handle")))
    if not handles:
        return
    objects = json.loads(engine.masks_json(handles))["objects"]
    frames = {item["handle"]: item["frames"] for item in objects}
    only = document.get("frame_index")
    for item in listed:
        if item.get("handle"):
            item["rle"] = [
                {"frame_index": frame["frame_index"], **frame["rle"]}
                for frame in frames[item["handle"]]
                if only is None or frame["frame_index"] == only
            ]
