"""What a file is that is no image or video: a web page, an archive, a placeholder of a cloud folder, …"""

from __future__ import annotations

from pathlib import Path

from sa2va_tools.media.failures import SUPPORTED_FORMATS, translate_decoder_errors

_HEAD_BYTES = 4096
_MIN_ZERO_BYTES = 64
_DOWNLOAD = "Open the address in a browser, download the media file itself, and check that it plays."
_AGAIN = "Download or copy it again."
_UNPACK = "Unpack it and give the media file inside."
_CONVERT = "Convert it to PNG or JPEG first."
_EXPORT = "Export its pages or pictures as PNG or JPEG."
_JOIN = "Save the video as one file first, for example with: ffmpeg -i {name} -c copy video.mp4"
_TARGET = "Give the path of the file that it points to."

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the file itself",
        "Run: git lfs pull",
    ),
    (b"#EXTM3U", "a playlist (HLS), which only lists parts of a video", _JOIN),
    (b"L\0\0\0\x01\x14\x02\0", "a Windows shortcut", _TARGET),
    (b"[InternetShortcut]", "an internet shortcut", _DOWNLOAD),
    (b"book\0\0\0\0mark\0\0\0\0", "a macOS alias", _TARGET),
    (
        b"\0\x05\x16\x07",
        "macOS metadata (AppleDouble)",
        "Give the file of the same name without `._` in front.",
    ),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"%!PS", "a PostScript document", _EXPORT),
    (b"8BPS", "a Photoshop document", _CONVERT),
    (b"PK\x03\x04", "a ZIP archive (or a document that is one)", _UNPACK),
    (b"PK\x05\x06", "an empty ZIP archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x1f\x8b", "a gzip file", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ\0", "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", _UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document of an old format", _EXPORT),
    (
        b"d8:announce",
        "a torrent description, which only names the files to download",
        "Download the files it names.",
    ),
    (b"\x93NUMPY", "a NumPy array", "Load it with numpy.load in Python and pass the array."),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Load it in Python and pass the array."),
    (b"SQLite format 3\0", "a database", ""),
    (b"\x7fELF", "a program", ""),
    (b"\xff\x0a", "a JPEG XL image, which is not supported", _CONVERT),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image, which is not supported", _CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image, which is not supported", _CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image, which is not supported", _CONVERT),
    (b"v/1\x01", "an OpenEXR image, which is not supported", _CONVERT),
    (b"DDS ", "a DDS texture, which is not supported", _CONVERT),
    (b"#?RADIANCE", "a Radiance HDR image, which is not supported", _CONVERT),
    (b"\0\0\x01\0", "an icon, which is not supported", _CONVERT),
    (b"icns", "an icon, which is not supported", _CONVERT),
    (b"FUJIFILMCCD-RAW", "a camera raw file, which is not supported", _CONVERT),
)
"""First bytes, what the file is, and what to do about it."""
_TEXT_STARTS = (
    ("<!doctype html", "a web page (HTML), perhaps the error page of a download", _DOWNLOAD),
    ("<html", "a web page (HTML), perhaps the error page of a download", _DOWNLOAD),
    ("<svg", "an SVG drawing, which is not supported", _CONVERT),
    ("{", "JSON text, perhaps the error message of a download", _DOWNLOAD),
    ("<?xml", "XML text, perhaps the error message of a download", _DOWNLOAD),
)
_XML_ROOTS = (
    ("<mpd", "a playlist (DASH), which only lists parts of a video", _JOIN),
    ("<svg", "an SVG drawing, which is not supported", _CONVERT),
    ("<html", "a web page (HTML), perhaps the error page of a download", _DOWNLOAD),
)


def identify_foreign_file(path: Path) -> tuple[str, str] | None:
    """(what the file is, what to do); None if its bytes do not tell. Raises MediaError."""
    with translate_decoder_errors(path), path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        is_zero = not any(part.strip(b"\0") for part in (head, *iter(lambda: file.read(1 << 20), b"")))
    if is_zero and len(head) >= _MIN_ZERO_BYTES:
        return "only zero bytes, as in a download that was not completed", _AGAIN
    if len(head) >= _MIN_ZERO_BYTES and not head[:_MIN_ZERO_BYTES].strip(b"\0"):
        return "a file whose beginning was never written, as in a download that was not completed", _AGAIN
    if path.suffix.lower() == ".icloud" and head.startswith(b"bplist00"):
        return "the placeholder of a file in iCloud", "Download the file in the Finder first."
    for magic, what, hint in _MAGIC:
        if head.startswith(magic):
            return what, hint.format(name=path.name)
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    return _identify_text(path, head)


def _identify_text(path: Path, head: bytes) -> tuple[str, str] | None:
    text = _decode_text(head)
    if text is None:
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    for mark, what, hint in _TEXT_STARTS:
        if start.startswith(mark):
            if mark == "<?xml":
                what, hint = next((entry[1:] for entry in _XML_ROOTS if entry[0] in start), (what, hint))
            return what, hint.format(name=path.name)
    return "plain text", SUPPORTED_FORMATS


def _decode_text(head: bytes) -> str | None:
    """None if it is not text. The last character may be cut."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        text = head.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return None
        text = head[: error.start].decode(encoding)
    is_text = all(character.isprintable() or character in "\t\r\n\f\ufeff" for character in text)
    return text if is_text and text.strip() else None
