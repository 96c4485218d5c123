"""Recordings joined byte by byte, and frames with errors: as many frames as the decoder delivers, at
increasing times, the same by index as in order."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_makers import STEP, make_video, number_of, numbered_frame, remux

from sa2va_tools.media.decode import iter_frames, read_frames
from sa2va_tools.media.media import Media, open_media

PACKET = 188


def decoder_frames(path: Path) -> int:
    """The frames that FFmpeg delivers with one thread, which loses none to errors in others."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        count = 0
        for packet in container.demux(stream):
            try:
                count += len(packet.decode())
            except av.FFmpegError:
                continue
        return count


def check_reading(media: Media) -> list[np.ndarray]:
    """All frames, which are the same whichever of them are asked for."""
    assert media.path is not None and media.frame_count == decoder_frames(media.path)
    frames = dict(iter_frames(media))
    assert list(frames) == list(range(media.frame_count))
    times = media.timestamps_s
    assert times[0] == 0 and all(before < after for before, after in itertools.pairwise(times))
    dice = random.Random(0)
    for _ in range(6):
        wanted = sorted(dice.sample(range(media.frame_count), 3))
        for index, rgb in zip(wanted, read_frames(media, wanted), strict=True):
            assert np.array_equal(rgb, frames[index]), index
    return list(frames.values())


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("counts", [(12, 12, 12), (40, 12), (7, 50, 9)])
def test_transport_streams_joined_by_cat(tmp_path, codec, counts):
    rate = {"libx264": 10, "mpeg2video": 25}[codec]
    parts = []
    for count in counts:
        part = make_video(tmp_path / f"{count}.ts", count, codec=codec, rate=Fraction(rate))
        parts.append(part.read_bytes())
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(parts))
    media = open_media(path)
    assert media.frame_count == sum(counts) and media.complete and media.damaged_frames == ()
    assert media.warnings == (
        f"The timestamps of a.ts jump at {_starts(counts)}, as in recordings that were joined; their "
        "times go on from the frame before.",
    )
    frames = check_reading(media)
    if codec == "libx264":
        expected = [index % 28 for count in counts for index in range(count)]
        assert [number_of(rgb) for rgb in frames] == expected
    gaps = np.diff(media.timestamps_s)
    assert gaps == pytest.approx([1 / rate] * (sum(counts) - 1), abs=0.002)
    assert media.duration_s == pytest.approx(sum(counts) / rate, abs=0.01)


@pytest.mark.parametrize("starts_s", [(0, 7200, 14400), (30_000, 0), (0, 30_000)])
def test_recordings_that_begin_at_other_times(tmp_path, starts_s):
    """The earlier may come last; FFmpeg then takes its timestamps for later ones, after an overflow."""
    parts = []
    for start_s in starts_s:
        part = make_video(tmp_path / "part.ts", 20, options={"bf": "0"})
        moved = remux(part, tmp_path / "moved.ts", earlier_by=-90_000 * start_s)
        parts.append(moved.read_bytes())
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(parts))
    media = open_media(path)
    count = 20 * len(starts_s)
    assert media.frame_count == count and media.complete
    assert "timestamps of a.ts jump at frame" in media.warnings[0]
    assert media.timestamps_s == pytest.approx([index / 10 for index in range(count)], abs=0.002)
    check_reading(media)


def test_segments_of_one_stream(tmp_path):
    """Joined by cat, as segments of a live stream are; each counts its packets from 0."""
    parts = []
    for start_s in (0, 2, 4):
        part = make_video(tmp_path / "part.ts", 20, options={"bf": "0"})
        parts.append(remux(part, tmp_path / "moved.ts", earlier_by=-90_000 * start_s).read_bytes())
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(parts))
    media = open_media(path)
    assert (media.frame_count, media.complete, media.warnings) == (60, True, ())
    assert media.timestamps_s == pytest.approx([index / 10 for index in range(60)], abs=0.002)
    check_reading(media)


def test_slides_in_a_transport_stream_keep_their_times(tmp_path):
    times_ms = [20_000 * index for index in range(12)]
    media = open_media(make_video(tmp_path / "a.ts", 12, times_ms=times_ms, options={"bf": "0"}))
    assert media.timestamps_s == pytest.approx([20 * index for index in range(12)]) and media.warnings == ()


def _starts(counts: tuple[int, ...]) -> str:
    starts = [str(total) for total in itertools.accumulate(counts[:-1])]
    return f"frame {starts[0]}" if len(starts) == 1 else f"frames {' and '.join(starts)}"


def moving_video(path: Path, count: int = 90, scale: int = 1) -> Path:
    """Frames with detail, of which each differs from the one before; a key frame every 15."""
    size_wh = (64 * scale, 48 * scale)
    noise = np.random.default_rng(0).integers(0, 40, (size_wh[1], size_wh[0], 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
        stream.options = {"g": "15", "threads": "1"}
        for index in range(count):
            rgb = np.roll(noise, index, axis=1) + numbered_frame(index, size_wh) // 2 + STEP
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


def flip(data: bytearray, dice: random.Random) -> bytes:
    for _ in range(10):
        data[dice.randrange(len(data) // 5, len(data) * 9 // 10)] ^= 0xFF
    return bytes(data)


def blank(data: bytearray, dice: random.Random) -> bytes:
    begin, end = len(data) * 4 // 10, len(data) * 5 // 10
    data[begin:end] = bytes(end - begin)
    return bytes(data)


def drop(data: bytearray, dice: random.Random) -> bytes:
    """Some packets of a transport stream."""
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    kept = [packet for number, packet in enumerate(packets) if number < 20 or dice.random() > 0.03]
    return b"".join(kept)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        *itertools.product(("a.ts", "a.mkv", "a.mp4", "a.avi", "a.flv"), (flip, blank)),
        ("a.ts", drop),
    ],
)
def test_damaged_frames_are_kept_and_marked(tmp_path, name, spoil):
    path = moving_video(tmp_path / name)
    sound = dict(iter_frames(open_media(path)))
    path.write_bytes(spoil(bytearray(path.read_bytes()), random.Random(2)))
    media = open_media(path)
    frames = check_reading(media)
    assert not media.complete and media.warnings
    assert all(0 <= index < media.frame_count for index in media.damaged_frames)
    for index in range(2):
        assert np.array_equal(frames[index], sound[index])


def test_every_frame_of_a_lossy_stream_keeps_its_index(tmp_path):
    path = moving_video(tmp_path / "a.ts", scale=5)
    path.write_bytes(drop(bytearray(path.read_bytes()), random.Random(2)))
    media = open_media(path)
    assert 85 < media.frame_count <= 90 and 0 < len(media.damaged_frames) < 30
    check_reading(media)
    listed = media.warnings[0]
    assert "a.ts is damaged: frames" in listed and str(media.damaged_frames[0]) in listed
    assert media.timestamps_s == pytest.approx([round(time, 1) for time in media.timestamps_s], abs=0.001)
    assert media.timestamps_s[-1] == pytest.approx(8.9, abs=0.001)
