"""A path or `file://` URL → the real file that it names, under the access policy.

This is the one place for untrusted input: nothing else in the project turns a caller's string into a path to
read. It does not know what is in the file.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from sa2va_tools.errors import AccessDeniedError, MediaNotFoundError, RequestError

_MAX_PATH_BYTES = 4096
_MAX_NAME_BYTES = 255
_NEAR_MATCH_ENTRIES = 2000
# A single letter is a Windows drive; `name:part.mp4` without a slash is a file name.
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]+):(?=/)|^(data|mailto|javascript|file):", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Which folders may be read.

    With `roots` None anything may be read (a person's own command line, the library), with an empty tuple
    nothing, otherwise only what is inside one of the folders after all symbolic links are resolved.
    """

    roots: tuple[Path, ...] | None
    how_to_open: str = "`load_engine(roots=[DIR])`"
    """What a user types to open a folder for reading; each front end has its own words."""

    def resolve(self, source: str | Path) -> Path:
        """The real, absolute path that `source` names.

        Relative paths are looked up in each root in turn, then in the working directory; when unrestricted,
        only there. `~` is the home folder; when restricted, `~name` is an ordinary name, because the answer
        would tell which users exist.

        Raises AccessDeniedError for URLs and for anything outside the roots (with the same text whether or
        not it exists), MediaNotFoundError when it is inside and missing, RequestError for a string that is
        not a path, TypeError for a source that is not a string or path.
        """
        text = _path_text(source)
        if self.roots is None:
            # os.path.expanduser keeps the ~ of an unknown user, while Path's raises.
            given = os.path.expanduser(text)  # noqa: PTH111
            return _require_existing(Path(os.path.realpath(given)), given=given)
        roots = tuple(Path(os.path.realpath(root)) for root in self.roots)
        inside = [path for path in _candidates(text, roots) if _is_inside(path, roots)]
        if not inside:
            raise self.refuse()
        found = next((path for path in inside if _exists(path)), inside[0])
        return _require_existing(found, roots)

    def allows(self, path: Path) -> bool:
        """Whether an absolute path is, after all symbolic links are resolved, where reading is allowed."""
        if self.roots is None:
            return True
        roots = tuple(Path(os.path.realpath(root)) for root in self.roots)
        return _is_inside(Path(os.path.realpath(path)), roots)

    def refuse(self) -> AccessDeniedError:
        """The error for everything outside. It names no path, so that all refusals are the same."""
        if not self.roots:
            return AccessDeniedError(
                "No folder is open for reading, so no file can be read.",
                hint=f"Ask the user to open one, with {self.how_to_open}.",
            )
        roots = ", ".join(os.path.realpath(root) for root in self.roots)
        return AccessDeniedError(
            f"This is outside the folders that may be read: {roots}.",
            hint="Use a file inside one of them, or ask the user to open another folder, with "
            f"{self.how_to_open}.",
        )


def _candidates(text: str, roots: tuple[Path, ...]) -> Iterator[Path]:
    """Real paths that `text` may mean, whether or not they exist."""
    if text == "~" or text.startswith(("~/", f"~{os.sep}")):
        text = os.path.expanduser(text)  # noqa: PTH111 - Path's raises without a home folder
    if Path(text).is_absolute():
        yield Path(os.path.realpath(text))
        return
    yield from (Path(os.path.realpath(root / text)) for root in roots)
    try:
        yield Path(os.path.realpath(text))
    except FileNotFoundError:  # the working directory was deleted
        return


def _is_inside(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _require_existing(path: Path, roots: tuple[Path, ...] | None = None, *, given: str = "") -> Path:
    """The real path. MediaNotFoundError, which names the link that was given if it leads nowhere."""
    if _exists(path):
        return path
    if os.path.islink(path):  # noqa: PTH114  # other links have been followed
        raise MediaNotFoundError(
            f"{path} is a link that leads back to itself.", hint="Give the file or folder that is meant."
        )
    if os.path.islink(given):  # noqa: PTH114
        raise MediaNotFoundError(
            f"{given} is a link to {path}, where there is no file or folder.",
            hint="Restore what the link is meant to lead to, or give another file.",
        )
    searchable = roots is None or _is_inside(path.parent, roots)
    near = _near_matches(path) if searchable else []
    hint = f"Did you mean {', '.join(near)}?" if near else "Check the spelling and the folder."
    raise MediaNotFoundError(f"There is no file or folder at {path}.", hint=hint)


def _exists(path: Path) -> bool:
    # os.path.exists returns False when Path's raises: for a path that is too long, or a closed folder.
    return os.path.exists(path)  # noqa: PTH110


def _near_matches(path: Path) -> list[str]:
    """Up to three names in the same folder that look like the missing one."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _NEAR_MATCH_ENTRIES)]
    except OSError:
        return []  # the folder is missing or closed as well, so there is nothing to suggest
    return difflib.get_close_matches(path.name, sorted(names), n=3, cutoff=0.6)


def _path_text(source: str | Path) -> str:
    text = os.fspath(source)
    if not text.strip():
        raise RequestError("The media path is empty.", hint="Give the path of an image, video or folder.")
    scheme = _SCHEME.match(text)
    if scheme:
        name = (scheme.group(1) or scheme.group(2)).lower()
        if name != "file":
            raise AccessDeniedError(
                f"{name}: URLs are disabled; only local files can be read.",
                hint="Download the file first, then give its path.",
            )
        text = _file_url_to_path(text)
    _check_spelling(text)
    return text


def _file_url_to_path(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise RequestError(f"This is not a valid file URL: {error}.", hint="Give a plain path.") from error
    if parts.netloc.lower() not in ("", "localhost"):
        raise AccessDeniedError(
            "A file:// URL must point to this machine (empty host or localhost).",
            hint="Write file:///path/to/file, or give a plain path.",
        )
    if parts.query or parts.fragment or not parts.path.startswith("/"):
        raise RequestError(
            "A file:// URL must be one absolute path, with ? as %3F and # as %23.",
            hint="Write file:///path/to/file, or give a plain path.",
        )
    return url2pathname(parts.path) if os.name == "nt" else unquote(parts.path)


def _check_spelling(text: str) -> None:
    if "\0" in text:
        raise RequestError("The media path contains a NUL byte.", hint="Give a plain path.")
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise RequestError(
            "The media path contains a lone surrogate, which no file name can contain.",
            hint="Give the path as valid Unicode text.",
        ) from error
    longest = max(len(part) for part in re.split(rb"[/\\]", raw))
    if len(raw) > _MAX_PATH_BYTES or longest > _MAX_NAME_BYTES:
        raise RequestError(
            f"The media path is too long: {len(raw)} bytes, its longest name {longest}; the limits are "
            f"{_MAX_PATH_BYTES} and {_MAX_NAME_BYTES}.",
            hint="Give the path of a file, not its contents.",
        )
