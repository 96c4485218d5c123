"""Handles, the names of stored media, masks and answers: how they look, and what to say about a wrong one.
Knows nothing of files.

A handle is `<kind>:<id>`; the id is the beginning of the content's SHA-256 in lower-case base32, so the same
content has the same handle on every machine.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sa2va_tools.checks import type_error
from sa2va_tools.errors import RequestError, UnknownHandleError
from sa2va_tools.run import Run, raise_if_cancelled
from sa2va_tools.store.pieces import iter_json
from sa2va_tools.wording import call

Kind = Literal["media", "mask", "answer"]
KINDS: tuple[Kind, ...] = ("media", "mask", "answer")
ID_LENGTHS = (10, 16, 26, 52)
"""An id has the first free one of these lengths; 52 is the whole hash."""

_HANDLE = re.compile(r"(media|mask|answer):([a-z2-7]{10,52})")
_MASKS_COME_FROM = f"{call('segment')}, {call('ground')} or {call('track')}"
_HOW_TO_GET: Mapping[str, str] = {
    "media": "Pass the path of the image or video instead; the result names its media handle.",
    "mask": f"Masks come from {_MASKS_COME_FROM}: use one of them first.",
    "answer": f"Answers come from {call('describe')}, {call('caption_region')}, {_MASKS_COME_FROM}: use "
    "one of them first.",
}
_ARTICLE = {"media": "a media", "mask": "a mask", "answer": "an answer"}


def compute_digest(content: Mapping[str, Any], run: Run | None = None) -> str:
    """52 characters that identify this JSON content. TypeError or ValueError for others, CancelledError."""
    sha = hashlib.sha256()
    for piece in iter_json(content):
        raise_if_cancelled(run)
        sha.update(piece.encode("ascii"))
    return base64.b32encode(sha.digest()).decode("ascii").rstrip("=").lower()


def parse_kind(handle: object) -> Kind | None:
    """The kind of a well-formed handle; None for any other text or value."""
    match = _HANDLE.fullmatch(handle) if isinstance(handle, str) else None
    return None if match is None else next(kind for kind in KINDS if kind == match[1])


def looks_like_handle(text: str) -> bool:
    """Whether the text begins like a handle, well-formed or not. No path does."""
    return text.strip().startswith(tuple(f"{kind}:" for kind in KINDS))


def parse_id(handle: str, expected: Kind) -> str:
    """The id in a handle of the expected kind, safe as a file name.

    RequestError for a handle of another kind, UnknownHandleError for any other text, TypeError for anything
    else.
    """
    if not isinstance(handle, str):
        raise type_error(f"the {expected} handle", handle, f"text ({expected}:…)")
    kind = parse_kind(handle)
    if kind is None:
        shown = repr(handle)
        shown = shown if len(shown) <= 60 else shown[:57] + "…'"
        raise UnknownHandleError(
            f"{shown} is not a handle; {_ARTICLE[expected]} handle looks like {expected}:…, with at "
            f"least {ID_LENGTHS[0]} letters (a to z) and digits (2 to 7).",
            hint=_HOW_TO_GET[expected],
        )
    if kind != expected:
        raise RequestError(
            f"{handle} is {_ARTICLE[kind]} handle, but {_ARTICLE[expected]} handle is expected here.",
            hint=_HOW_TO_GET[expected],
        )
    return handle.partition(":")[2]


def unknown_handle_error(handle: str, expected: Kind, known: Sequence[str]) -> UnknownHandleError:
    """The error for a well-formed handle that is not in the store; `known` are some that are."""
    listed = f" Known {expected} handles, newest first: {', '.join(known)}." if known else ""
    return UnknownHandleError(f"{handle} is not in the store.", hint=_HOW_TO_GET[expected] + listed)
