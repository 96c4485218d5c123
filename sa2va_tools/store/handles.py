"""The names under which media, masks and answers are kept: how they look, and what to say when one
is wrong. Knows nothing of files.

A handle is `<kind>:<id>`; the id is the beginning of the content's SHA-256 in lower-case base32, so
the same content has the same handle, on any machine.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from sa2va_tools.errors import RequestError, UnknownHandleError
from sa2va_tools.progress import unhindered
from sa2va_tools.store.pieces import json_pieces

Kind = Literal["media", "mask", "answer"]
KINDS: tuple[Kind, ...] = ("media", "mask", "answer")
ID_LENGTHS = (10, 16, 26, 52)
"""An id is as short as the first of these; a collision takes the next. 52 is the whole hash."""

_HANDLE = re.compile(r"(media|mask|answer):([a-z2-7]{10,52})")
_HOW_TO_GET: Mapping[str, str] = {
    "media": "Pass the path of the image or video instead; the result names its media handle.",
    "mask": "Masks come from segment_by_text, ground_conversation or track_region: call one of them first.",
    "answer": "Answers come from describe, segment_by_text, ground_conversation, caption_region or "
    "track_region: call one of them first.",
}
_ARTICLE = {"media": "a media", "mask": "a mask", "answer": "an answer"}


def digest_of(content: Mapping[str, Any], check: Callable[[], None] = unhindered) -> str:
    """52 characters that stand for this JSON content; `check` is called between pieces of it. TypeError or
    ValueError when it is not JSON."""
    sha = hashlib.sha256()
    for piece in json_pieces(content):
        check()
        sha.update(piece.encode("ascii"))
    return base64.b32encode(sha.digest()).decode("ascii").rstrip("=").lower()


def kind_of(handle: str) -> Kind | None:
    """The kind of a well-formed handle; None for any other text."""
    match = _HANDLE.fullmatch(handle)
    return None if match is None else next(kind for kind in KINDS if kind == match[1])


def is_handle(text: str) -> bool:
    """Whether a caller means a handle: it begins like one, well-formed or not. No path does."""
    return text.strip().startswith(tuple(f"{kind}:" for kind in KINDS))


def id_of(handle: str, expected: Kind) -> str:
    """The id in a handle of the expected kind, safe as a file name.

    RequestError when the handle is of another kind, UnknownHandleError when it is no handle.
    """
    kind = kind_of(handle)
    if kind is None:
        raise UnknownHandleError(
            f"{_shown(handle)} is no handle; {_ARTICLE[expected]} handle looks like {expected}:abcdefgh23.",
            hint=_HOW_TO_GET[expected],
        )
    if kind != expected:
        raise RequestError(
            f"{handle} is {_ARTICLE[kind]} handle, but {_ARTICLE[expected]} handle is expected here.",
            hint=_HOW_TO_GET[expected],
        )
    return handle.partition(":")[2]


def unknown(handle: str, expected: Kind, known: Sequence[str]) -> UnknownHandleError:
    """The error for a well-formed handle that the store does not hold; `known` are some that it does."""
    listed = f" Known {expected} handles, newest first: {', '.join(known)}." if known else ""
    return UnknownHandleError(f"The store holds no {handle}.", hint=_HOW_TO_GET[expected] + listed)


def _shown(handle: object) -> str:
    """What a caller sent, short enough and on one line."""
    text = repr(handle)
    return text if len(text) <= 60 else text[:57] + "…'"
