"""Damaged videos are used up to the damage, with a warning, or refused."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_makers import make_video, number_of

from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media import decode as decode_module
from sa2va_tools.media import media as media_module
from sa2va_tools.media import videos as videos_module
from sa2va_tools.media.decode import iter_frames, read_frames
from sa2va_tools.media.media import open_media
from sa2va_tools.media.orientation import Orientation


def test_no_frames(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
        container.mux(stream.encode())
    with pytest.raises(MediaUnreadableError, match=r"a\.mp4"):
        open_media(path)


def test_missing_index(tmp_path):
    path = make_video(tmp_path / "a.mp4", 12)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        MediaUnreadableError, match=r"a\.mp4 is cut off: it has [\d,]+ of at least [\d,]+ bytes"
    ):
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
def test_truncated_video_is_used_up_to_the_break(tmp_path, suffix, capfd):
    path = noisy_video(tmp_path / f"a.{suffix}", {"movflags": "+faststart"} if suffix == "mp4" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    media = open_media(path)
    assert 10 < media.frame_count < 30 and "ends early" in media.warnings[0]
    assert len(list(iter_frames(media))) == media.frame_count == len(media.timestamps_s)
    assert capfd.readouterr() == ("", "")


def with_sound(path: Path) -> Path:
    """40 noisy frames in 4 seconds, and sound of the same length."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(
            "libopus" if path.suffix == ".webm" else "ac3", rate=48_000, layout="mono"
        )
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
            container.mux(picture.encode(frame))
            samples = np.zeros((1, 4800), np.int16 if sound.format.name == "s16" else np.float32)
            samples_frame = av.AudioFrame.from_ndarray(samples, format=sound.format.name, layout="mono")
            samples_frame.sample_rate, samples_frame.pts = 48_000, number * 4800
            container.mux(sound.encode(samples_frame))
        for stream in (picture, sound):
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("make", "name"), [(with_sound, "a.mkv"), (with_sound, "a.webm"), (noisy_video, "a.mkv")]
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_matroska_is_detected_by_its_duration_tag(tmp_path, make, name, share, capfd):
    path = make(tmp_path / name)
    media = open_media(path)
    assert media.complete and media.frame_count == 40 and not media.warnings
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    media = open_media(path)
    assert not media.complete and 5 < media.frame_count < 40
    assert any("ends early" in warning for warning in media.warnings)


def test_video_cut_off_in_its_first_frames(tmp_path):
    path = noisy_video(tmp_path / "a.mp4", {"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"mdat") + 1500])
    with pytest.raises(MediaUnreadableError, match=r"a\.mp4 is cut off: "):
        open_media(path)


def test_frames_around_a_hole_are_used(tmp_path):
    path = noisy_video(tmp_path / "a.mp4", {"movflags": "+faststart"})
    data = bytearray(path.read_bytes())
    begin, end = len(data) // 2, len(data) * 9 // 10
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    media = open_media(path)
    assert 10 < media.frame_count < 30 and not media.complete and "cannot be decoded" in media.warnings[0]
    assert len(list(iter_frames(media))) == media.frame_count == len(media.timestamps_s)


def test_no_frame_decodes(tmp_path):
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


def test_glitch_is_a_warning_heavy_damage_an_error(tmp_path, capfd):
    media = open_media(damaged(noisy_video(tmp_path / "a.mp4"), 8))
    assert media.frame_count >= 39 and "damaged" in media.warnings[0]
    with pytest.raises(MediaUnreadableError, match="corrupt"):
        open_media(damaged(noisy_video(tmp_path / "b.mp4"), 400))
    assert capfd.readouterr() == ("", "")


def test_damage_beyond_the_budget_is_an_error_of_its_frame(tmp_path, monkeypatch):
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


def joined(path: Path, counts: tuple[int, int]) -> Path:
    """Frames of 64×48, then frames of 32×32, as two files in one; any timestamps start again."""
    one = make_video(path.with_stem("one"), counts[0], options={"g": "1"})
    two = make_video(path.with_stem("two"), counts[1], size_wh=(32, 32), options={"g": "1"})
    path.write_bytes(one.read_bytes() + two.read_bytes())
    return path


def muxed(path: Path, counts: tuple[int, int], codec: str = "") -> Path:
    """The same as one stream with continuous timestamps, as recorders of calls write it."""
    codec = codec or ("libvpx" if path.suffix == ".webm" else "libx264")
    one = make_video(path.with_stem("one"), counts[0], codec=codec, options={"g": "5", "bf": "0"})
    two = make_video(
        path.with_stem("two"), counts[1], codec=codec, size_wh=(32, 32), options={"g": "5", "bf": "0"}
    )
    with av.open(str(path), "w") as new, av.open(str(one)) as first, av.open(str(two)) as second:
        made = new.add_stream_from_template(first.streams.video[0])
        for source, frames_before in ((first, 0), (second, counts[0])):
            given = source.streams.video[0]
            later = round(Fraction(frames_before, 10) / given.time_base)
            for packet in source.demux(given):
                if packet.dts is not None:
                    packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, made
                    new.mux(packet)
    return path


@pytest.mark.parametrize("counts", [(1, 4), (4, 4), (40, 3), (4, 40)])
@pytest.mark.parametrize(
    ("name", "make"), [("a.h264", joined), ("a.ts", joined), ("a.ts", muxed), ("a.webm", muxed)]
)
def test_frames_after_a_change_of_size_are_scaled_to_the_first(tmp_path, name, make, counts, capfd):
    media = open_media(make(tmp_path / name, counts))
    assert (media.size_wh, media.frame_count, media.complete) == ((64, 48), sum(counts), True)
    assert (
        f"{name} changes its size, at frame {counts[0]} to 32×32; all frames are scaled" in media.warnings[0]
    )
    frames = [rgb for _, rgb in iter_frames(media)]
    assert {rgb.shape for rgb in frames} == {(48, 64, 3)}
    assert [number_of(rgb) for rgb in frames] == [index % 28 for count in counts for index in range(count)]
    times = media.timestamps_s
    assert all(before < after for before, after in itertools.pairwise(times))
    if make is muxed:
        assert times == pytest.approx([index / 10 for index in range(sum(counts))], abs=0.002)
        assert media.duration_s == pytest.approx(sum(counts) / 10, abs=0.01) and len(media.warnings) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "make"), [("a.ts", joined), ("a.ts", muxed), ("a.webm", muxed)])
def test_frames_around_a_change_of_size_are_read_by_index(tmp_path, name, make):
    """Also when frames after the change have the same timestamps."""
    media = open_media(make(tmp_path / name, (100, 100)))
    assert media.frame_count == 200 and media.size_wh == (64, 48)
    for wanted in ([97], [0, 60], [40, 90, 160], [100], [99, 199]):
        assert [number_of(rgb) for rgb in read_frames(media, wanted)] == [
            index % 100 % 28 for index in wanted
        ]


def test_scaled_frames_are_the_same_whether_or_not_decoding_starts_there(tmp_path):
    media = open_media(muxed(tmp_path / "a.webm", (50, 60)))
    frames = dict(iter_frames(media))
    for index in (49, 50, 55, 103, 109):
        assert np.array_equal(read_frames(media, [index])[0], frames[index])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.webm", "libvpx"), ("b.webm", "libvpx-vp9"), ("a.ts", "libx264"), ("b.ts", "libx265")],
)
def test_change_of_size_beyond_the_budget(tmp_path, monkeypatch, name, codec):
    path = muxed(tmp_path / name, (10, 10), codec=codec)
    whole = open_media(path)
    monkeypatch.setattr(media_module, "_VERIFY_BUDGET_PX", 64 * 48 * 3)
    media = open_media(path)
    assert media.frame_count == 20 and media.complete and media.warnings == whole.warnings
    assert "at frame 10 to 32×32" in media.warnings[0]
    assert {rgb.shape for _, rgb in iter_frames(media)} == {(48, 64, 3)}


def test_change_of_rotation(tmp_path, monkeypatch):
    """As a phone's recorder may write it that is turned while it records."""
    upright, quarter = Orientation(), Orientation.from_exif(6)

    def turn(frame, default=upright):
        return quarter if frame.pts >= muxed_pts[4] else upright

    path = make_video(tmp_path / "a.ts", 8, options={"bf": "0"})
    muxed_pts = sorted(open_media(path).pts)
    monkeypatch.setattr(videos_module, "frame_orientation", turn)
    monkeypatch.setattr(decode_module, "frame_orientation", turn)
    media = open_media(path)
    assert media.size_wh == (64, 48) and "at frame 4 to 48×64" in media.warnings[0]
    frames = read_frames(media, range(8))
    assert [rgb.shape for rgb in frames] == [(48, 64, 3)] * 8
    assert frames[0][2, 2, 0] > 180 and frames[7][2, 61, 0] > 180  # the red corner, turned


def test_file_that_is_replaced_by_one_of_another_size(tmp_path):
    path = make_video(tmp_path / "a.mp4", 8)
    media = open_media(path)
    make_video(tmp_path / "b.mp4", 8, size_wh=(32, 32)).replace(path)
    with pytest.raises(MediaUnreadableError, match="changed since it was opened"):
        read_frames(media, [3])


def test_packet_of_an_impossible_size_is_no_lack_of_memory(tmp_path):
    path = make_video(tmp_path / "a.ivf", 12, codec="libvpx")
    data = bytearray(path.read_bytes())
    data[32:36] = (2**31 - 100).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(MediaUnreadableError, match=r"a\.ivf is cut off: it has [\d,]+ of at least 2,147,"):
        open_media(path)
