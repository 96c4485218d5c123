"""What is typed after a command → images and videos, and words.

Files, folders, handles and patterns (`"pic*.png"`, for shells that do not expand them) come first, words
after them. A word that is a file, or is named like one, is never taken for an expression:
`sa2va segment pic*.png` would otherwise look for things called "pic2.png".
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va_tools.errors import MediaNotFoundError, RequestError
from sa2va_tools.printable import make_printable, make_valid

_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif"),
    *(
        ".mp4",
        ".m4v",
        ".mov",
        ".webm",
        ".mkv",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
    ),
    *(".3gp", ".mjpeg", ".mjpg", ".h264", ".y4m", ".ogv", ".vob", ".apng"),
)
"""A word that ends with one of these is meant as a file, whether or not it exists."""
_URL = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_HANDLE = re.compile(r"^(media|mask|answer):\S*$")
_UNSAFE_IN_NAMES = re.compile(r'[<>:"/\\|?*\N{REPLACEMENT CHARACTER}]')


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a command line, told apart."""

    media: tuple[str, ...]
    """Images, videos, folders of frames and handles, each once."""
    texts: tuple[str, ...]
    """Expressions, or a question."""
    is_list: bool
    """Whether the result is a list, however many media there are."""


def split_words(words: Sequence[str], *, each: bool = False) -> Words:
    """Media first, then texts. The first word is always media. With `each`, a folder stands for every image
    and video in it. RequestError for a file after a text; MediaNotFoundError for a pattern without match."""
    media: list[str] = []
    texts: list[str] = []
    if words and not words[0].strip():
        raise RequestError(
            "MEDIA is empty.", hint="Is a variable not set? Give the path of a file or folder."
        )
    for word in words:
        found = _find_media(word)
        if not texts and (found or not media):
            media += found or [word]
        elif found:
            raise RequestError(
                f"{word!r} is a file or handle, but it stands after the text {texts[-1]!r}.",
                hint="Give all files first, then the words. If it is meant as words, say more: 'the …'.",
            )
        else:
            texts.append(_check_text(word))
    if each:
        media = [inner for name in media for inner in _list_folder(name)]
    unique = {name if _HANDLE.match(name) else os.path.abspath(name): name for name in reversed(media)}  # noqa: PTH100
    kept = set(unique.values())
    return Words(tuple(dict.fromkeys(name for name in media if name in kept)), tuple(texts), each)


def _check_text(word: str) -> str:
    if word != make_valid(word):
        raise RequestError(
            f"{make_printable(word)!r} contains bytes that are no text in UTF-8.",
            hint="Check which encoding the terminal uses (LANG).",
        )
    return word


def require_expressions(words: Words) -> tuple[str, ...]:
    """The texts. RequestError, which names what was taken for a file, if there are none."""
    if not words.texts:
        last = words.media[-1]
        is_taken = len(words.media) > 1
        raise RequestError(
            f"No EXPRESSION was given{f'; {last!r} {_say_why_media(last)}' if is_taken else ''}.",
            hint='Say in words what to look for, after the files: sa2va segment photo.jpg "the red car".'
            + (f" If {last!r} is meant as words, say more." if is_taken else ""),
        )
    return words.texts


def _say_why_media(word: str) -> str:
    if _HANDLE.match(word):
        return "is a handle"
    return "is a file or folder" if _exists(word) else "ends like the name of a file"


def require_one_question(words: Words) -> str | None:
    """The only text, or None. RequestError for several."""
    if len(words.texts) > 1:
        listed = ", ".join(map(repr, words.texts))
        raise RequestError(
            f"{len(words.texts)} texts were given where one question is expected: {listed}.",
            hint="Put a question of several words into quotes. Check the spelling if one is meant as a file.",
        )
    return words.texts[0] if words.texts else None


def require_no_text(words: Words) -> None:
    """RequestError if there is a text."""
    if words.texts:
        raise RequestError(
            f"{words.texts[0]!r} is not a file, folder or handle.", hint="Check the spelling and the folder."
        )


def name_folders(media: Sequence[str]) -> list[str]:
    """The name of a subfolder for each of the media, all different also where case does not count."""
    names: list[str] = []
    taken: set[str] = set()
    for source in media:
        base = _name_folder(source)
        name, number = base, 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _name_folder(source: str) -> str:
    if _HANDLE.match(source):
        return source.replace(":", "-")
    path = Path(source).absolute()
    name = path.name if path.is_dir() else path.stem
    return _UNSAFE_IN_NAMES.sub("_", make_printable(name)).strip(" .") or "media"


def _find_media(word: str) -> list[str]:
    """The media that a word names; empty for a text."""
    if _HANDLE.match(word) or _URL.match(word) or _exists(word):
        return [word]
    matches = glob.iglob(_expand(word), recursive=True) if _is_pattern(word) else []  # noqa: PTH207
    if found := sorted(matches, key=_natural_key):
        return list(map(_write_as_path, found))
    if not word.strip().lower().endswith(_SUFFIXES):
        return []
    if _is_pattern(word):
        raise MediaNotFoundError(f"No file matches {word!r}.", hint="Check the spelling and the folder.")
    return [word]


def _write_as_path(file: str) -> str:
    """The name of an existing file, so that it is never read as a handle (`mask:1.png`)."""
    return os.path.join(os.curdir, file) if _HANDLE.match(file) else file  # noqa: PTH118


def _is_pattern(word: str) -> bool:
    # A question ends with a question mark and is no pattern.
    return glob.has_magic(word) and not word.rstrip().endswith("?")


def _exists(word: str) -> bool:
    return bool(word.strip()) and os.path.lexists(_expand(word))


def _expand(word: str) -> str:
    return os.path.expanduser(word)  # noqa: PTH111


def _list_folder(name: str) -> Iterator[str]:
    """A folder's images and videos in natural order; anything else as it is. MediaNotFoundError if there is
    nothing in the folder."""
    folder = Path(_expand(name))
    if _HANDLE.match(name) or not folder.is_dir():
        yield name
        return
    try:
        files = [entry for entry in folder.iterdir() if entry.name.lower().endswith(_SUFFIXES)]
    except OSError as error:
        raise MediaNotFoundError(
            f"The folder {folder} cannot be read: {error.strerror or error}.", hint="Check its permissions."
        ) from error
    shown = [
        _write_as_path(str(file)) for file in files if not file.name.startswith(".") and not file.is_dir()
    ]
    if not shown:
        raise MediaNotFoundError(
            f"The folder {folder} contains no images or videos.",
            hint="Check the folder, or leave out --each.",
        )
    yield from sorted(shown, key=_natural_key)


def _natural_key(path: str) -> tuple[list[tuple[int, int, str]], str]:
    """frame2 before frame10."""
    parts = re.split(r"([0-9]+)", path.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path
