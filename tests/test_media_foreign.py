"""A file that is no image or video is called what it is, whatever its name, with what to do about it."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from media_makers import make_video, numbered_frame
from PIL import Image

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.media import open_media
from sa2va_tools.run import Run


def make_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("clip.mp4", bytes(100))
    return buffer.getvalue()


def make_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("clip.mp4"))
    return buffer.getvalue()


def make_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, numbered_frame(1))
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
HTML = b"\n<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body>Forbidden</body></html>\n"
MPD = b'<?xml version="1.0" encoding="utf-8"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"/>\n'
KINDS = [
    (HTML, "a web page", "media file itself"),
    (b"\xef\xbb\xbf" + HTML, "a web page", "media file itself"),
    ("\ufeff<html>404</html>".encode("utf-16-le"), "a web page", "media file itself"),
    (json.dumps({"error": "not found"}).encode(), "JSON text", "media file itself"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML text", "media file itself"),
    (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing", "PNG"),
    (LFS, "a Git LFS pointer", "git lfs pull"),
    (b"#EXTM3U\n#EXTINF:6,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", r"a playlist \(HLS\)", "-c copy"),
    (MPD, r"a playlist \(DASH\)", "-c copy"),
    (b"%PDF-1.7\n1 0 obj\n", "a PDF document", "PNG"),
    (make_zip(), "a ZIP archive", "Unpack"),
    (make_tar(), "a tar archive", "Unpack"),
    (gzip.compress(b"a" * 500, mtime=0), "a gzip file", "Unpack"),
    (make_npy(), "a NumPy array", "numpy.load"),
    (b"L\0\0\0\x01\x14\x02\0" + bytes(100), "a Windows shortcut", "points to"),
    (b"[InternetShortcut]\r\nURL=https://example.org/a.mp4\r\n", "an internet shortcut", "media file itself"),
    (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(100), "macOS metadata", "same name"),
    (b"d8:announce35:udp://example.org:80/announcee", "a torrent description", "Download"),
    (b"\xff\x0a" + bytes(range(100)), "a JPEG XL image", "PNG"),
    (b"\x7fELF" + bytes(range(256)) * 4, "a program", ""),
    (bytes(5000), "only zero bytes", "again"),
    (bytes(5000) + b"\1" * 5000, "a file whose beginning was never written", "again"),
    (b"just some words\n" * 20, "plain text", "JPEG"),
    ("Liebe Grüße aus Köln, und bis bald!\n".encode(), "plain text", "JPEG"),
]


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg"])
@pytest.mark.parametrize(("content", "what", "advice"), KINDS)
def test_other_files(tmp_path, name, content, what, advice, capfd):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MediaUnreadableError, match=rf"{name} is no image or video: it is {what}") as caught:
        open_media(path)
    assert advice in caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_placeholder_of_icloud(tmp_path):
    path = tmp_path / ".clip.mp4.icloud"
    path.write_bytes(b"bplist00" + bytes(range(100)))
    with pytest.raises(MediaUnreadableError, match="placeholder of a file in iCloud"):
        open_media(path)


def test_unknown_bytes(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(range(3, 251)) * 20)
    with pytest.raises(
        MediaUnreadableError, match="truncated, corrupt, or in a format that is not supported"
    ):
        open_media(path)


def test_content_decides_not_the_name(tmp_path):
    video = make_video(tmp_path / "a.mp4", 5).rename(tmp_path / "a.jpg")
    assert open_media(video).kind == "video"
    image = tmp_path / "b.mp4"
    Image.fromarray(numbered_frame(1)).save(image, "PNG")
    assert open_media(image).kind == "image"


def test_empty_frame_of_a_folder(tmp_path):
    for index in range(4):
        Image.fromarray(numbered_frame(index)).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes(b"")
    media = open_media(tmp_path)
    assert media.frame_count == 2 and not media.complete
    assert "2.png is empty (0 bytes)" in media.warnings[0]
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(MediaUnreadableError, match=r"0\.png is empty \(0 bytes\)"):
        open_media(tmp_path)


def test_frame_of_a_folder_that_is_a_web_page(tmp_path):
    for index in range(3):
        Image.fromarray(numbered_frame(index)).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(HTML)
    assert "1.png is no image or video: it is a web page" in open_media(tmp_path).warnings[0]


class GrowingFile(Run):
    """A run during which somebody appends to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.left = 5

    def raise_if_cancelled(self) -> None:
        self.left -= 1
        if self.left > 0:
            with self.path.open("ab") as file:
                file.write(bytes(188))


def test_file_that_is_still_being_written(tmp_path):
    path = make_video(tmp_path / "a.ts", 12)
    with pytest.raises(MediaUnreadableError, match="changed while it was read") as caught:
        open_media(path, run=GrowingFile(path))
    assert "Wait" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
def test_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(MediaUnreadableError, match="not a regular file"):
        open_media(tmp_path / "a.mp4")
