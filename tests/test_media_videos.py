"""Videos: exact frames and times, upright, read by index and as a stream."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_makers import make_audio, make_video, number_of, numbered_frame, remux

from sa2va_tools.errors import CancelledError, MediaTooLargeError, MediaUnreadableError, RequestError
from sa2va_tools.media import media as media_module
from sa2va_tools.media.decode import iter_frames, read_frames, read_image
from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.media.media import Media, open_media
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

SHARED = Path(__file__).parents[1].parent / "shared" / "media"
real_media = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real media is absent")

B_FRAMES = {"g": "6", "bf": "3", "preset": "medium"}


def numbers(media: Media, indices: list[int] | None = None) -> list[int]:
    return [number_of(rgb) for _, rgb in iter_frames(media, indices)]


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.mp4", "libx264", "mp4"),
        ("a.mov", "libx264", "mov"),
        ("a.mkv", "libx264", "mkv"),
        ("a.webm", "libvpx-vp9", "webm"),
        ("b.webm", "libvpx", "webm"),
        ("a.avi", "mpeg4", "avi"),
        ("a.ts", "libx264", "mpegts"),
        ("a.flv", "flv", "flv"),
    ],
)
def test_exact_frames_of_every_container(tmp_path, name, codec, container, capfd):
    media = open_media(make_video(tmp_path / name, 12, codec=codec))
    assert (media.kind, media.container, media.size_wh) == ("video", container, (64, 48))
    assert (media.frame_count, media.fps) == (12, Fraction(10))
    assert media.timestamps_s == pytest.approx([index / 10 for index in range(12)], abs=0.002)
    assert media.duration_s == pytest.approx(1.2, abs=0.01)
    assert media.warnings == ()
    assert [index for index, _ in iter_frames(media)] == list(range(12))
    assert numbers(media) == list(range(12))
    assert capfd.readouterr().out == ""


def test_raw_stream_has_the_rate_that_its_codec_tells(tmp_path):
    media = open_media(make_video(tmp_path / "a.h264", 12, rate=Fraction(25)))
    assert media.frame_count == 12 and media.warnings == ()
    assert media.timestamps_s[:3] == (0.0, 0.04, 0.08)
    assert number_of(read_frames(media, [7])[0]) == 7


def test_b_frames_are_in_presentation_order(tmp_path):
    media = open_media(make_video(tmp_path / "a.mp4", 24, options=B_FRAMES))
    assert numbers(media) == list(range(24))
    assert media.timestamps_s == pytest.approx([index / 10 for index in range(24)])


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate_keeps_its_times(tmp_path, suffix):
    times_ms = [0, 40, 80, 500, 520, 1500, 1501, 3000]
    media = open_media(make_video(tmp_path / f"a.{suffix}", 8, times_ms=times_ms, options=B_FRAMES))
    assert media.timestamps_s == pytest.approx([ms / 1000 for ms in times_ms], abs=1e-4)
    assert media.fps == Fraction(7, 3)
    assert media.duration_s >= 3.0
    assert numbers(media) == list(range(8))


def test_times_count_from_the_first_frame(tmp_path):
    media = open_media(make_video(tmp_path / "a.ts", 4, times_ms=[2000, 2100, 2200, 2300]))
    assert media.timestamps_s == pytest.approx((0, 0.1, 0.2, 0.3))


def test_ntsc_rates_are_fractions(tmp_path):
    for suffix in ("mp4", "mkv"):
        media = open_media(make_video(tmp_path / f"a.{suffix}", 30, rate=Fraction(30000, 1001)))
        assert media.fps == Fraction(30000, 1001)


def test_edit_list_hides_first_frames(tmp_path):
    plain = make_video(tmp_path / "a.mp4", 20, options={"bf": "0"})
    with av.open(str(plain)) as container:
        tick = int(Fraction(1, 10) / container.streams.video[0].time_base)
    cut = open_media(remux(plain, tmp_path / "b.mp4", earlier_by=5 * tick))
    assert cut.frame_count == 15 and cut.warnings == ()
    assert numbers(cut) == list(range(5, 20))
    assert number_of(read_frames(cut, [9])[0]) == 14


def test_edit_list_hides_last_frames(tmp_path):
    plain = make_video(tmp_path / "a.mp4", 60, options={"bf": "0", "g": "5"})
    data = bytearray(plain.read_bytes())
    duration = data.find(b"elst") + 12  # of the first entry, in the file's thousandths of a second
    assert int.from_bytes(data[duration : duration + 4], "big") == 6000
    data[duration : duration + 4] = (2000).to_bytes(4, "big")
    plain.write_bytes(data)
    cut = open_media(plain)
    assert 20 <= cut.frame_count <= 25 and cut.complete and cut.warnings == ()


@pytest.mark.parametrize(("count", "every_ms"), [(1, 5000), (2, 5000), (3, 5000), (5, 2000)])
def test_long_last_frame_is_no_damage(tmp_path, count, every_ms):
    path = tmp_path / "slides.mp4"
    with VideoWriter(path, (64, 48), Fraction(1000, every_ms)) as writer:
        for number in range(count):
            writer.write(numbered_frame(number), number * every_ms / 1000)
    media = open_media(path)
    assert media.frame_count == count and media.complete and media.warnings == ()


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    ("rotation", "clockwise", "corner"),
    [
        ((0, False, False), 0, (0, 0)),
        ((-90, False, False), 90, (0, -1)),
        ((180, False, False), 180, (-1, -1)),
        ((90, False, False), 270, (-1, 0)),
        ((0, True, False), 0, (0, -1)),
        ((0, False, True), 180, (-1, 0)),
    ],
)
def test_display_matrix_is_applied(tmp_path, suffix, rotation, clockwise, corner):
    media = open_media(make_video(tmp_path / f"a.{suffix}", 3, rotation=rotation))
    turned = clockwise in (90, 270)
    assert media.size_wh == ((48, 64) if turned else (64, 48))
    assert media.rotation_deg == clockwise
    for rgb in read_frames(media, [0, 2]):
        assert rgb.shape[1::-1] == media.size_wh and rgb.flags.c_contiguous
        assert rgb[corner][0] > 150 and rgb[corner][1] < 80


def test_non_square_pixels_are_a_warning(tmp_path):
    media = open_media(make_video(tmp_path / "a.mp4", 3, sar=Fraction(4, 3)))
    assert media.size_wh == (64, 48) and "4/3" in media.warnings[0]


def test_video_with_sound(tmp_path):
    assert open_media(make_video(tmp_path / "a.mp4", 5, audio=True)).frame_count == 5


def test_reading_by_index_agrees_with_the_stream(tmp_path):
    media = open_media(make_video(tmp_path / "a.mp4", 90, options=B_FRAMES))
    stream = dict(iter_frames(media))
    for wanted in ([0], [89], [40, 41], [3, 50, 88], [0, 1, 2]):
        picked = dict(iter_frames(media, wanted))
        assert list(picked) == wanted
        assert all((picked[index] == stream[index]).all() for index in wanted)


def test_far_frames_are_reached_by_seeking(tmp_path, monkeypatch):
    media = open_media(make_video(tmp_path / "a.mp4", 200, options={"g": "10"}))
    decoded = count_decoded(monkeypatch)
    assert numbers(media, [100, 195]) == [100 % 28, 195 % 28]
    assert decoded() < 60


def test_decoding_stops_after_the_last_wanted_frame(tmp_path, monkeypatch):
    media = open_media(make_video(tmp_path / "a.mp4", 200))
    decoded = count_decoded(monkeypatch)
    assert numbers(media, [0, 5]) == [0, 5]
    assert decoded() < 60


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts the frames that the real decoder returns from now on."""
    from sa2va_tools.media import decode

    real, count = decode.decode_stream, 0

    def count_call(*arguments):
        nonlocal count
        for frame in real(*arguments):
            count += 1
            yield frame

    monkeypatch.setattr(decode, "decode_stream", count_call)
    return lambda: count


def test_read_frames_takes_any_order_and_repeats(tmp_path):
    media = open_media(make_video(tmp_path / "a.mp4", 12))
    assert [number_of(rgb) for rgb in read_frames(media, [9, 2, 9, 0])] == [9, 2, 9, 0]
    assert read_frames(media, []) == []
    assert number_of(read_image(media)) == 0


@pytest.mark.parametrize("indices", [[12], [-1], [3, 3], [3, 2]])
def test_bad_indices_are_refused_before_decoding(tmp_path, indices):
    media = open_media(make_video(tmp_path / "a.mp4", 12))
    with pytest.raises(RequestError):
        iter_frames(media, indices)


def test_cancelling_stops_at_the_next_frame(tmp_path):
    media = open_media(make_video(tmp_path / "a.mp4", 12))
    run = Run()
    frames = iter_frames(media, run=run)
    next(frames)
    run.cancel()
    with pytest.raises(CancelledError):
        next(frames)
    with pytest.raises(CancelledError):
        open_media(media.path, run=run)


def test_limits_on_frames_seconds_and_pixels(tmp_path):
    path = make_video(tmp_path / "a.mp4", 12)
    with pytest.raises(MediaTooLargeError, match="more than 11 frames"):
        open_media(path, MediaLimits(max_frames=11))
    with pytest.raises(MediaTooLargeError, match="lasts"):
        open_media(path, MediaLimits(max_duration_s=1.0))
    with pytest.raises(MediaTooLargeError, match="64×48"):
        open_media(path, MediaLimits(max_pixels=3000))
    assert open_media(path, MediaLimits(max_frames=12, max_duration_s=1.3)).frame_count == 12


def test_audio_alone_is_not_a_video(tmp_path):
    with pytest.raises(MediaUnreadableError, match="only audio"):
        open_media(make_audio(tmp_path / "a.m4a"))
    with pytest.raises(MediaUnreadableError, match="only audio"):
        open_media(make_audio(tmp_path / "a.mp4"))


def test_hidden_frames_are_not_counted(tmp_path, monkeypatch):
    """VP8 may store frames that are never shown: the number of packets is then not that of frames."""
    path = tmp_path / "a.webm"
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "arnr-maxframes": "5"}
    make_video(path, 60, codec="libvpx", options=options)
    whole = open_media(path)
    monkeypatch.setattr(media_module, "_VERIFY_BUDGET_PX", 64 * 48 * 40)
    assert whole.frame_count == open_media(path).frame_count == 60
    assert whole.warnings == ()


def test_transparent_video_is_laid_over_white(tmp_path):
    media = open_media(make_video(tmp_path / "a.mov", 1, codec="png", pix_fmt="rgba", alpha=0))
    assert (read_image(media) == 255).all()


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv422p10le"])
def test_other_pixel_formats(tmp_path, pix_fmt):
    media = open_media(make_video(tmp_path / "a.mp4", 6, pix_fmt=pix_fmt))
    assert numbers(media) == list(range(6))


def test_memory_is_constant_on_a_long_video(tmp_path):
    import tracemalloc

    media = open_media(make_video(tmp_path / "a.mp4", 400))
    tracemalloc.start()
    for _ in iter_frames(media):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 64 * 48 * 3


@real_media
@pytest.mark.parametrize(
    ("name", "size_wh", "count", "fps"),
    [
        ("bedroom.mp4", (960, 540), 200, Fraction(30)),
        ("dog.mp4", (1280, 720), 289, Fraction(30000, 1001)),
        ("juggle.mp4", (1280, 720), 247, Fraction(24)),
    ],
)
def test_real_clips(name, size_wh, count, fps):
    media = open_media(SHARED / name)
    assert (media.size_wh, media.frame_count, media.fps) == (size_wh, count, fps)
    assert media.timestamps_s == pytest.approx([float(index / fps) for index in range(count)])
    assert media.warnings == () and media.duration_s == pytest.approx(float(count / fps))
    (picked,) = read_frames(media, [60])
    stream = dict(iter_frames(media, range(58, 62)))
    assert (picked == stream[60]).all() and (picked != stream[61]).any()


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_random_access_where_pictures_are_refreshed_part_by_part(tmp_path, suffix):
    """Streams of low delay have no key frames after the first, though containers flag some as such."""
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        stream.options = {"x264-params": "intra-refresh=1:keyint=20"}
        for index in range(90):
            frame = av.VideoFrame.from_ndarray(numbered_frame(index % 28, (160, 128)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    media = open_media(path)
    frames = [rgb for _, rgb in iter_frames(media)]
    assert len(frames) == media.frame_count == 90
    for index in (48, 55, 72):
        assert np.array_equal(read_frames(media, [index])[0], frames[index])
