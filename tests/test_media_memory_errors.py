"""Out of memory while reading or writing media: an error with numbers that does not blame the file."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import pytest

from sa2va_tools.errors import MediaNotFoundError, MediaUnreadableError, OutOfMemoryError
from sa2va_tools.media.container import decode_stream
from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.media.failures import translate_decoder_errors

CV2_WORDS = "OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 36 bytes"
NO_MEMORY = av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize("error", [MemoryError(), NO_MEMORY, cv2.error(CV2_WORDS)])
def test_decoder_without_memory(error):
    raises = pytest.raises(OutOfMemoryError, match=r"a\.mp4 cannot be decoded: ")
    with raises as caught, translate_decoder_errors(Path("a.mp4"), "decoded", (4000, 3000)):
        raise error
    assert "4000×3000 takes 34.3 MiB" in caught.value.message and "ulimit" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("could not create decoder object"), MediaUnreadableError),
        (cv2.error("error: (-215:Assertion failed) !empty()"), MediaUnreadableError),
        (FileNotFoundError(errno.ENOENT, "No such file"), MediaNotFoundError),
    ],
)
def test_other_errors_are_about_the_file(error, expected):
    with pytest.raises(expected), translate_decoder_errors(Path("a.webp")):
        raise error


STREAM = SimpleNamespace(width=64, height=48, metadata={}, codec_context=SimpleNamespace(name="h264"))


def fail(*_: object) -> None:
    raise NO_MEMORY


@pytest.mark.parametrize("where", ["decode", "demux"])
def test_packet_is_not_skipped_for_lack_of_memory(where):
    def demux(stream):
        if where == "demux":
            fail()
        yield SimpleNamespace(size=1, decode=fail)

    faults = []
    frames = decode_stream(
        Path("a.mp4"),
        SimpleNamespace(demux=demux),
        STREAM,
        on_fault=faults.append,
    )
    with pytest.raises(OutOfMemoryError):
        list(frames)
    assert not faults


def test_broken_packet_is_skipped():
    def invalid():
        raise av.error.InvalidDataError(1, "Invalid data found")

    faults = []
    packets = [SimpleNamespace(size=size, pts=size, decode=invalid) for size in (1, 0)]
    container = SimpleNamespace(demux=lambda stream: iter(packets))
    assert not list(decode_stream(Path("a.mp4"), container, STREAM, faults.append))
    assert faults == [1, 0]


def test_writing_without_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(VideoWriter, "_new_stream", fail)
    with pytest.raises(OutOfMemoryError, match="64×48"), VideoWriter(tmp_path / "a.mp4", (64, 48), 10):
        pass
    assert not list(tmp_path.iterdir())
