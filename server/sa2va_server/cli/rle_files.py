"""`--rle`: masks as COCO RLE, compressed or not, in a file, on standard input (`-`) or as JSON.

A document is an RLE, `{"size": [height, width], "counts": …}`; something that contains one under
`segmentation` (a COCO annotation, an automatic mask of SAM) or `rle` (a frame of `masks.json`, a mask of
`--rle-in-json` on one frame); or a list of these.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sa2va_tools.errors import RequestError

_HINT = 'Give {"size": [height, width], "counts": …} as JSON, or a file with it; - reads standard input.'
_BYTE_ORDER_MARK = "\ufeff"
"""Some programs on Windows begin a text file with it."""
_HOLDERS = ("segmentation", "rle")


def read_rles(text: str) -> list[dict[str, Any]]:
    """The RLEs that the value of `--rle` means. RequestError if there is none; what is in them is checked
    where the size of the picture is known."""
    name = text.strip()
    if not name:
        raise RequestError("--rle is empty.", hint=_HINT)
    is_json = name.startswith(("{", "["))
    content = text if is_json else _read_input() if name == "-" else _read_file(Path(text).expanduser())
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        where = "--rle" if is_json else "Standard input" if name == "-" else name
        raise RequestError(f"{where} is not valid JSON: {error}.", hint=_HINT) from error
    found = [_find_rle(item) for item in (document if isinstance(document, list) else [document])]
    if not found:
        raise RequestError("--rle got an empty list.", hint=_HINT)
    return found


def _find_rle(item: Any) -> dict[str, Any]:
    inner = next((item[key] for key in _HOLDERS if key in item), item) if isinstance(item, dict) else item
    if isinstance(inner, list) and inner and isinstance(inner[0], dict):  # a mask of --rle-in-json
        if len(inner) > 1:
            raise RequestError(
                f"--rle got a mask on {len(inner)} frames.", hint="Give the RLE of one frame, and --frame."
            )
        inner = inner[0]
    if not isinstance(inner, dict) or not {"size", "counts"} <= set(inner):
        problem = "is a polygon" if isinstance(inner, list) else "has no size and counts"
        raise RequestError(f"--rle got something that {problem}, so it is not an RLE.", hint=_HINT)
    return {"size": inner["size"], "counts": inner["counts"]}


def _read_input() -> str:
    try:
        if sys.stdin is None:
            raise OSError("it is closed")
        return sys.stdin.read().removeprefix(_BYTE_ORDER_MARK)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"Standard input cannot be read: {error}.", hint=_HINT) from error


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").removeprefix(_BYTE_ORDER_MARK)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RequestError(f"The file {path} cannot be read: {reason}.", hint=_HINT) from error
