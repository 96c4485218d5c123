"""HEIC and AVIF: rotated as the container says; without the extra, an error that names it."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_makers import make_gif, make_video, number_of, numbered_frame
from PIL import Image, features

from sa2va_tools.errors import MediaTooLargeError, MediaUnreadableError, MissingExtraError
from sa2va_tools.media import animations
from sa2va_tools.media.decode import iter_frames, read_frames, read_image
from sa2va_tools.media.media import open_media
from sa2va_tools.media.orientation import Orientation
from sa2va_tools.settings import MediaLimits

pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra [heif]")
if not features.check("avif"):
    pytest.skip("needs a Pillow that reads AVIF", allow_module_level=True)

PICTURE = numbered_frame(5)
CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
"""EXIF orientation → where `numbered_frame` then has its red corner."""


def save(path: Path, image: Image.Image, orientation: int = 1, **options: object) -> Path:
    """Both libraries write the orientation as the container's rotation; pillow-heif also keeps it in EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    if path.suffix == ".avif":
        image.save(path, exif=exif, quality=95, **options)
    else:
        pillow_heif.from_pillow(image).save(path, exif=exif.tobytes(), quality=95, **options)
    return path


@pytest.mark.parametrize(("suffix", "container"), [(".heic", "heif"), (".avif", "avif")])
def test_opens_as_an_image(tmp_path, suffix, container):
    path = save(tmp_path / f"a{suffix}", Image.fromarray(PICTURE)).rename(tmp_path / "misnamed.jpg")
    media = open_media(path)
    assert (media.kind, media.container, media.size_wh) == ("image", container, (64, 48))
    assert media.frame_count == 1 and media.warnings == ()
    assert np.abs(read_image(media).astype(int) - PICTURE)[24:, 32:].max() <= 6


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_container_rotation_is_applied_once(tmp_path, suffix, orientation):
    path = save(tmp_path / f"a{suffix}", Image.fromarray(PICTURE), orientation)
    assert (b"irot" in path.read_bytes() or b"imir" in path.read_bytes()) == (orientation != 1)
    media = open_media(path)
    rgb = read_image(media)
    assert media.size_wh == ((64, 48) if orientation < 5 else (48, 64)) == rgb.shape[1::-1]
    assert rgb[CORNERS[orientation]][0] > 180 and rgb[CORNERS[orientation]][1] < 80


@pytest.mark.parametrize("stale", [1, 3, 8])
@pytest.mark.parametrize("orientation", [1, 6])
def test_stale_exif_orientation_is_ignored(tmp_path, orientation, stale):
    path = save(tmp_path / "a.heic", Image.fromarray(PICTURE), orientation)
    data = bytearray(path.read_bytes())
    entry = data.index(b"\x01\x12\x00\x03\x00\x00\x00\x01")  # orientation, one short
    data[entry + 8 : entry + 10] = stale.to_bytes(2, "big")
    path.write_bytes(data)
    rgb = read_image(open_media(path))
    assert rgb.shape[1::-1] == ((64, 48) if orientation == 1 else (48, 64))
    assert rgb[CORNERS[orientation]][0] > 180 and rgb[CORNERS[orientation]][1] < 80


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_alpha_is_laid_over_white(tmp_path, suffix):
    rgba = np.dstack([PICTURE, np.zeros((48, 64), np.uint8)])
    path = save(tmp_path / f"a{suffix}", Image.fromarray(rgba))
    assert read_image(open_media(path)).min() >= 250


def test_heic_with_several_images(tmp_path):
    several = pillow_heif.from_pillow(Image.fromarray(numbered_frame(2)))
    several.add_from_pillow(Image.fromarray(numbered_frame(7)))
    several.save(tmp_path / "a.heic", quality=95, primary_index=1)
    media = open_media(tmp_path / "a.heic")
    assert media.kind == "image" and "2 images; only the main one is read" in media.warnings[0]
    assert number_of(read_image(media)) == 7


def test_heic_sequence_is_its_main_image(tmp_path):
    path = save(tmp_path / "a.heic", Image.fromarray(PICTURE))
    path.write_bytes(path.read_bytes().replace(b"ftypheic", b"ftypmsf1"))
    media = open_media(path)
    assert media.kind == "image" and "image sequence" in media.warnings[0]
    assert number_of(read_image(media)) == 5


def test_avif_sequence_is_a_video(tmp_path):
    media = open_media(make_gif(tmp_path / "a.avif", [100, 250, 40, 500], quality=95))
    assert (media.kind, media.container, media.frame_count) == ("video", "avif", 4)
    assert media.timestamps_s == pytest.approx((0, 0.1, 0.35, 0.39)) and media.duration_s == pytest.approx(
        0.89
    )
    assert [number_of(rgb) for _, rgb in iter_frames(media)] == [0, 1, 2, 3]
    assert [number_of(rgb) for rgb in read_frames(media, [3, 0])] == [3, 0]


def test_avif_sequence_times_do_not_drift(tmp_path):
    path, options = tmp_path / "a.avif", {"preset": "10"}
    make_video(path, 30, codec="libsvtav1", rate=Fraction(24), options=options, file_format="avif")
    media = open_media(path)
    assert (media.frame_count, media.fps) == (30, 24)
    assert media.timestamps_s == pytest.approx([index / 24 for index in range(30)], abs=0.0011)


def test_rotated_avif_sequence_is_upright(tmp_path, monkeypatch):
    monkeypatch.setattr(animations, "image_orientation", lambda image: Orientation.from_exif(6))
    media = open_media(make_gif(tmp_path / "a.avif", [100] * 3, quality=95))
    assert (media.kind, media.size_wh, media.rotation_deg) == ("video", (48, 64), 90)
    for _, rgb in iter_frames(media):
        assert rgb.shape == (64, 48, 3) and rgb[0, -1, 0] > 180 and rgb[0, -1, 1] < 80


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_file(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    path = save(tmp_path / f"a{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(MediaUnreadableError, match=path.name):
        open_media(path)


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_pixel_limit(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", Image.fromarray(PICTURE))
    with pytest.raises(MediaTooLargeError, match="3,072 pixels"):
        open_media(path, MediaLimits(max_pixels=3000))


def test_missing_extra(tmp_path, monkeypatch):
    heic = save(tmp_path / "a.heic", Image.fromarray(PICTURE))
    avif = save(tmp_path / "a.avif", Image.fromarray(PICTURE))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(features, "check", lambda name: False)
    for path in (heic, avif):
        with pytest.raises(MissingExtraError, match=r"pillow.*sa2va-tools\[heif\]"):
            open_media(path)


def test_no_plugin_is_registered(tmp_path):
    path = save(tmp_path / "a.heic", Image.fromarray(PICTURE))
    code = (
        "import sys; from pathlib import Path; from PIL import Image; "
        "from sa2va_tools.media.media import open_media; "
        f"assert open_media(Path({str(path)!r})).size_wh == (64, 48); Image.init(); "
        "sys.exit('HEIF' in Image.OPEN)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0
