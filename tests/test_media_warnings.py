"""Transparency is a warning."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_makers import make_folder, make_gif, make_video, numbered_frame
from PIL import Image

from sa2va_tools.media.media import Media, open_media
from sa2va_tools.media.memory import open_pixels

BT709 = 1
OPAQUE = np.dstack([numbered_frame(1), np.full((48, 64), 255, np.uint8)])
TRANSPARENT = OPAQUE.copy()
TRANSPARENT[5, 7, 3] = 254


def save(path: Path, rgba: np.ndarray, mode: str = "RGBA") -> Path:
    Image.fromarray(rgba).convert(mode).save(path, lossless=True)
    return path


def has_warning(media: Media, words: str) -> bool:
    return any(words in warning for warning in media.warnings)


@pytest.mark.parametrize("transfer", [None, BT709])
def test_ten_bits_alone_are_not_hdr(tmp_path, transfer):
    path = make_video(tmp_path / "a.mp4", 3, pix_fmt="yuv420p10le", transfer=transfer)
    assert open_media(path).warnings == ()


@pytest.mark.parametrize(
    ("file", "codec", "pix_fmt", "fate"),
    [
        ("a.mov", "png", "rgba", "its frames are shown on white"),
        ("b.mov", "prores_ks", "yuva444p10le", "its frames are shown on white"),
        ("a.webm", "libvpx-vp9", "yuva420p", "its frames are shown on white"),
    ],
)
def test_video_with_an_alpha_channel(tmp_path, file, codec, pix_fmt, fate):
    media = open_media(make_video(tmp_path / file, 3, codec=codec, pix_fmt=pix_fmt, alpha=100))
    assert len(media.warnings) == 1
    assert re.fullmatch(rf"{file} has an alpha channel[;,] {fate}\.", media.warnings[0])


@pytest.mark.parametrize(("codec", "pix_fmt"), [("png", "rgb24"), ("prores_ks", "yuv444p10le")])
def test_video_without_an_alpha_channel(tmp_path, codec, pix_fmt):
    assert open_media(make_video(tmp_path / "a.mov", 3, codec=codec, pix_fmt=pix_fmt)).warnings == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparent_images(tmp_path, suffix, mode):
    clear = save(tmp_path / f"a{suffix}", TRANSPARENT, mode)
    opaque = save(tmp_path / f"b{suffix}", OPAQUE, mode)
    assert open_media(clear).warnings == (f"a{suffix} has transparent pixels; they are shown on white.",)
    assert open_media(opaque).warnings == ()


def test_unused_transparent_colour(tmp_path):
    image = Image.new("P", (64, 48), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "unused.png", transparency=0)
    image.paste(0, (0, 0, 1, 1))
    image.save(tmp_path / "used.png", transparency=0)
    assert open_media(tmp_path / "unused.png").warnings == ()
    assert has_warning(open_media(tmp_path / "used.png"), "transparent pixels")


def test_transparent_tiff_through_opencv(tmp_path):
    for name, rgba in (("a.tiff", TRANSPARENT), ("b.tiff", OPAQUE)):
        assert cv2.imwrite(str(tmp_path / name), (rgba / 255).astype(np.float32))
    assert has_warning(open_media(tmp_path / "a.tiff"), "transparent pixels")
    assert open_media(tmp_path / "b.tiff").warnings == ()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_transparent_animations(tmp_path, suffix):
    rgba = TRANSPARENT.copy()
    rgba[:10] = 0
    frames = [Image.fromarray(rgba), Image.fromarray(OPAQUE)]
    if suffix == ".webp":  # whose writer forgets the alpha of a first frame
        frames.reverse()
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, lossless=True, disposal=2)
    assert has_warning(open_media(path), f"a{suffix} has transparent pixels")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_opaque_animations(tmp_path, suffix):
    assert open_media(make_gif(tmp_path / f"a{suffix}", [100] * 4)).warnings == ()


def test_folder_with_transparent_frames(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png"])
    assert not has_warning(open_media(folder), "transparent")
    for number in (2, 3):
        save(folder / f"{number}.png", TRANSPARENT)
    assert sum("clip has transparent pixels" in warning for warning in open_media(folder).warnings) == 1


def test_transparent_pixels_in_memory():
    for clear, opaque in (
        (TRANSPARENT, OPAQUE),
        (Image.fromarray(TRANSPARENT), Image.fromarray(OPAQUE)),
    ):
        assert open_pixels(clear).warnings == (
            "image 64x48 has transparent pixels; they are shown on white.",
        )
        assert open_pixels(opaque).warnings == ()
        assert has_warning(open_pixels([opaque, clear]), "video 64x48 has transparent pixels")
