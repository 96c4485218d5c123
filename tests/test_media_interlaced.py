"""Interlaced frames show one moment, without combing, wherever decoding begins."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from media_makers import make_video
from picture_makers import make_interlaced

from sa2va_tools.media.decode import iter_frames, read_frames
from sa2va_tools.media.frames import frame_to_rgb
from sa2va_tools.media.media import open_media


def count_combed(rgb: np.ndarray) -> int:
    """Pixels that differ from both neighbours above and below in the same direction."""
    level = rgb.astype(int)
    up, down = level[1:-1] - level[:-2], level[1:-1] - level[2:]
    return int(((np.abs(up) > 30) & (np.abs(down) > 30) & (up * down > 0)).sum())


@pytest.mark.parametrize("is_top_first", [True, False])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "how"),
    [
        ("a.mpg", "mpeg2video", "yuv420p", {"qmin": "1", "qmax": "2"}),
        ("a.mp4", "libx264", "yuv420p", {"crf": "5"}),
        ("a.mov", "prores_ks", "yuv422p10le", {}),
    ],
)
def test_no_combing(tmp_path, name, codec, pix_fmt, how, is_top_first):
    if codec == "libx264":
        how = {**how, "x264-params": "tff=1" if is_top_first else "bff=1"}
    shown = make_interlaced(tmp_path / name, codec, pix_fmt, is_top_first=is_top_first, **how)
    media = open_media(tmp_path / name)
    assert media.warnings == ()
    with av.open(str(tmp_path / name)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = [rgb for _, rgb in iter_frames(media)]
    assert len(frames) == len(stored) == len(shown)
    assert min(count_combed(rgb) for rgb in stored) > 400
    for rgb, moment in zip(frames, shown, strict=True):
        assert count_combed(rgb) == 0
        wrong = np.abs(rgb.astype(int) - moment).max(axis=2) > 40
        assert wrong.sum() < 800  # edges of the square, which the codec blurs


def test_what_rests_stays_sharp(tmp_path):
    make_interlaced(tmp_path / "a.mov", "prores_ks", "yuv422p10le")
    with av.open(str(tmp_path / "a.mov")) as container:
        frame = next(container.decode(video=0))
        assert frame.interlaced_frame
        stored = frame.to_ndarray(format="rgb24")
    still = np.s_[140:230]
    assert np.abs(frame_to_rgb(frame)[still].astype(int) - stored[still]).max() <= 12


def test_random_access(tmp_path):
    make_interlaced(tmp_path / "a.ts", "mpeg2video", count=80, g="12")
    media = open_media(tmp_path / "a.ts")
    frames = dict(iter_frames(media))
    assert np.array_equal(read_frames(media, [70])[0], frames[70])
    assert np.array_equal(read_frames(media, [5])[0], frames[5])


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv411p", "gray", "rgb24", "yuv420p10le"]
)
@pytest.mark.parametrize("height", [48, 49, 50, 51])
def test_fields_of_any_format_and_height(pix_fmt, height):
    """The two fields of a picture at rest give the picture."""
    from sa2va_tools.media.frames import _convert, _take_field

    rgb = np.random.default_rng(3).integers(0, 256, (height, 64, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb).reformat(format=pix_fmt)
    fields = [_convert(_take_field(frame, parity), None) for parity in (0, 1)]
    assert [len(field) for field in fields] == [(height + 1) // 2, height // 2]
    if pix_fmt in ("gray", "rgb24", "yuv444p", "yuv422p"):  # chroma of its own for every line
        whole = frame.to_ndarray(format="rgb24")
        for parity, field in enumerate(fields):
            assert np.abs(field.astype(int) - whole[parity::2]).max() <= 2


def test_progressive_frames_are_untouched(tmp_path):
    path = make_video(tmp_path / "a.mpg", 4, codec="mpeg2video", rate=Fraction(25))
    with av.open(str(path)) as container:
        for frame, (_, rgb) in zip(container.decode(video=0), iter_frames(open_media(path)), strict=True):
            assert not frame.interlaced_frame
            assert np.array_equal(frame.to_ndarray(format="rgb24"), rgb)
