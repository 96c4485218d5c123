"""Broken videos: used up to the break with a warning, or refused in words."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest
from media_makers import make_video

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media import media as media_module
from sa2va_tools.media.decode import iter_frames
from sa2va_tools.media.media import open_media


def test_a_video_of_no_frames(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
        container.mux(stream.encode())
    with pytest.raises(MediaUnreadableError, match=r"a\.mp4"):
        open_media(path)


def test_a_video_that_lost_its_index(tmp_path):
    path = make_video(tmp_path / "a.mp4", 12)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaUnreadableError, match="truncated or corrupt"):
        open_media(path)
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(MediaUnreadableError):
        open_media(path)


def noisy_video(path: Path, muxer: dict[str, str] | None = None) -> Path:
    """40 frames of noise, so that damage anywhere hits picture data."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(40):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_that_breaks_off_is_used_up_to_the_break(tmp_path, suffix, capfd):
    path = noisy_video(tmp_path / f"a.{suffix}", {"movflags": "+faststart"} if suffix == "mp4" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    media = open_media(path)
    assert 10 < media.frame_count < 30 and "breaks off" in media.warnings[0]
    assert len(list(iter_frames(media))) == media.frame_count == len(media.timestamps_s)
    assert capfd.readouterr() == ("", "")


def test_a_video_cut_off_at_its_start_says_just_that(tmp_path):
    path = noisy_video(tmp_path / "a.mp4", {"movflags": "+faststart"})
    data = path.read_bytes()
    after_first_frame = data.find(b"mdat") + 3500
    path.write_bytes(data[:after_first_frame])
    with pytest.raises(MediaUnreadableError, match=r"a\.mp4 is cut off: its very first frames do not decode"):
        open_media(path)


def test_a_video_with_a_hole_is_used_up_to_it(tmp_path):
    path = noisy_video(tmp_path / "a.mp4", {"movflags": "+faststart"})
    data = bytearray(path.read_bytes())
    begin, end = len(data) // 2, len(data) * 9 // 10
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    media = open_media(path)
    assert 10 < media.frame_count < 30 and not media.complete and "breaks off at" in media.warnings[0]
    assert len(list(iter_frames(media))) == media.frame_count == len(media.timestamps_s)


def test_a_video_of_which_no_frame_decodes_says_just_that(tmp_path):
    path = make_video(tmp_path / "a.mp4", 12)
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    data[start : data.find(b"moov") - 4] = b"\xff" * (data.find(b"moov") - 4 - start)
    path.write_bytes(data)
    with pytest.raises(MediaUnreadableError, match=r"a\.mp4 is corrupt: none of its frames can be decoded\."):
        open_media(path)


def damaged(path: Path, flips: int) -> Path:
    data, dice = bytearray(path.read_bytes()), random.Random(0)
    start = data.find(b"mdat") + 1200  # past the encoder's note in the first frame
    end = data.find(b"moov") - 4
    for _ in range(flips):
        data[dice.randrange(start, end)] ^= 0xFF
    path.write_bytes(data)
    return path


def test_a_glitch_is_a_warning_and_damage_throughout_an_error(tmp_path, capfd):
    media = open_media(damaged(noisy_video(tmp_path / "a.mp4"), 8))
    assert media.frame_count >= 39 and "damaged" in media.warnings[0]
    with pytest.raises(MediaUnreadableError, match="corrupt"):
        open_media(damaged(noisy_video(tmp_path / "b.mp4"), 400))
    assert capfd.readouterr() == ("", "")


def test_damage_beyond_what_opening_decodes_is_an_error_of_its_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(media_module, "_VERIFY_BUDGET_PX", 64 * 48 * 3)
    path = noisy_video(tmp_path / "a.mkv")
    media = open_media(path)
    assert media.frame_count == 40 and media.warnings == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = iter_frames(media)
    with pytest.raises(MediaUnreadableError, match="cannot be decoded") as caught:
        for _ in frames:
            pass
    assert "End the range before" in caught.value.hint
