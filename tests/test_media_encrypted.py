"""Encrypted media are called encrypted, with what to do. The files are whole ones to which the marks of
protected tracks are added, and whose pictures are changed as encryption changes them."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import pytest
from media_makers import make_audio, make_video

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media.media import open_media

VISUAL_ENTRY_BYTES = 78
PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def protect_mp4(path: Path, kind: bytes = b"encv", scheme: bytes = b"cenc", *, is_protected: int = 1) -> Path:
    """The sample entry of an MP4's video track as protected, with the boxes that say how."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd"))
    tenc = box(b"tenc", bytes([0, 0, 0, 0, 0, 0, is_protected, 8]), bytes(range(16)))
    sinf = box(
        b"sinf",
        box(b"frma", b"avc1"),
        box(b"schm", bytes(4), scheme, bytes(4)),
        box(b"schi", tenc),
    )
    data[entry : entry + 4] = kind
    size = int.from_bytes(data[entry - 4 : entry], "big")
    data[entry - 4 + size : entry - 4 + size] = sinf
    for start in [*(data.rindex(parent, 0, entry) - 4 for parent in PARENTS), entry - 4]:
        size = int.from_bytes(data[start : start + 4], "big")
        data[start : start + 4] = (size + len(sinf)).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def scramble(path: Path) -> Path:
    """Change most of the pictures' bytes, as a cipher does."""
    data, dice = bytearray(path.read_bytes()), random.Random(0)
    start = data.index(b"mdat") + 12
    for at in range(start + 8, data.index(b"moov") - 4):
        data[at] ^= dice.randrange(256)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "scheme", "words"),
    [
        (b"encv", b"cenc", "Common Encryption"),
        (b"encv", b"cbcs", "Common Encryption"),
        (b"drmi", b"itun", "FairPlay"),
        (b"encv", b"zzzz", "zzzz"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m4v", "a.mov"])
def test_protected_tracks_of_mp4(tmp_path, name, kind, scheme, words):
    path = scramble(protect_mp4(make_video(tmp_path / name, 20, options={"g": "5"}), kind, scheme))
    with pytest.raises(MediaUnreadableError, match=rf"{name} is encrypted \({words}\)") as caught:
        open_media(path)
    assert "without copy protection" in caught.value.hint


def test_protected_track_whose_pictures_seem_to_decode(tmp_path):
    path = protect_mp4(make_video(tmp_path / "a.mp4", 6))
    with pytest.raises(MediaUnreadableError, match="is encrypted"):
        open_media(path)


def test_track_that_is_marked_but_in_the_clear(tmp_path):
    media = open_media(protect_mp4(make_video(tmp_path / "a.mp4", 6), is_protected=0))
    assert media.frame_count == 6 and media.complete


def vint(size: int) -> bytes:
    return (size | 1 << 56).to_bytes(8, "big")


def element(kind: str, body: bytes) -> bytes:
    return bytes.fromhex(kind) + vint(len(body)) + body


def read_vint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends)."""
    length = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1), at + length


def protect_matroska(path: Path) -> Path:
    """A content encryption in the first track."""
    data = path.read_bytes()
    tracks = data.rindex(bytes.fromhex("1654AE6B"))
    tracks_size, tracks_body = read_vint(data, tracks + 4)
    inner = data[tracks_body : tracks_body + tracks_size]
    track = inner.index(b"\xae")
    track_size, track_body = read_vint(inner, track + 1)
    settings = element("5035", element("47E1", b"\x05") + element("47E2", bytes(16)))
    encodings = element("6D80", element("6240", element("5031", b"\0") + element("5033", b"\x01") + settings))
    entry = element("AE", inner[track_body : track_body + track_size] + encodings)
    new = inner[:track] + entry + inner[track_body + track_size :]
    whole = data[:tracks] + element("1654AE6B", new) + data[tracks_body + tracks_size :]
    segment = whole.index(bytes.fromhex("18538067")) + 4
    _, segment_body = read_vint(whole, segment)
    path.write_bytes(whole[:segment] + vint(len(whole) - segment_body) + whole[segment_body:])
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx")])
def test_encrypted_matroska(tmp_path, name, codec):
    path = protect_matroska(make_video(tmp_path / name, 6, codec=codec))
    with pytest.raises(MediaUnreadableError, match=rf"{name} is encrypted \(Matroska"):
        open_media(path)


def test_scrambled_transport_stream(tmp_path):
    path = make_video(tmp_path / "a.ts", 40)
    data, dice = bytearray(path.read_bytes()), random.Random(0)
    for start in range(0, len(data), 188):
        if int.from_bytes(data[start + 1 : start + 3], "big") & 0x1FFF == 0x100:  # the video
            data[start + 3] |= 0xC0
            data[start + 12 : start + 188] = dice.randbytes(176)
    path.write_bytes(data)
    with pytest.raises(MediaUnreadableError, match=r"a\.ts is encrypted \(a scrambled broadcast\)"):
        open_media(path)


def test_windows_media_drm(tmp_path):
    path = make_video(tmp_path / "a.wmv", 6, codec="wmv2")
    data = bytearray(path.read_bytes())
    guid = bytes.fromhex("FBB3112223BDD211B4B700A0C955FC6E")
    size = int.from_bytes(data[16:24], "little")
    data[size:size] = guid + (24).to_bytes(8, "little")
    data[16:24] = (size + 24).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(MediaUnreadableError, match=r"a\.wmv is encrypted \(Windows Media DRM\)"):
        open_media(path)


def zip_with_password() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("clip.mp4", bytes(100))
    data = bytearray(buffer.getvalue())
    data[6] |= 1  # the flag of a file with a password
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zip_with_password(), "a ZIP archive with a password"),
        (b"Salted__" + random.Random(1).randbytes(500), "with OpenSSL"),
        (b"age-encryption.org/v1\n-> X25519 abc\n" + random.Random(1).randbytes(500), "with age"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n", "with PGP"),
    ],
)
def test_encrypted_files(tmp_path, content, words):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaUnreadableError, match=rf"a\.mp4 is encrypted .*{words}"):
        open_media(path)


def test_encrypted_segment_of_a_stream(tmp_path):
    path = tmp_path / "segment1.ts"
    path.write_bytes(random.Random(1).randbytes(16 * 200))
    with pytest.raises(MediaUnreadableError, match=r"segment1\.ts .* encrypted"):
        open_media(path)


def test_sound_is_no_encryption(tmp_path):
    with pytest.raises(MediaUnreadableError, match="only audio"):
        open_media(make_audio(tmp_path / "a.mp4"))


def test_lost_bytes_are_no_encryption(tmp_path):
    """They move the marks of a transport stream's packets."""
    path = make_video(tmp_path / "a.ts", 40)
    data = path.read_bytes()
    path.write_bytes(data[: 188 * 3 + 50] + data[188 * 3 + 51 :])
    assert open_media(path).frame_count >= 30
