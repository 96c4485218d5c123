"""Still images of every format, upright and in 8-bit RGB; animations; and images that are refused."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_makers import STEP, make_gif, number_of, numbered_frame
from PIL import Image

from sa2va_tools.errors import (
    CancelledError,
    MediaNotFoundError,
    MediaTooLargeError,
    MediaUnreadableError,
    RequestError,
)
from sa2va_tools.media.decode import iter_frames, read_frames, read_image
from sa2va_tools.media.encode import encode_image
from sa2va_tools.media.failures import translate_decoder_errors
from sa2va_tools.media.media import open_media
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

SHARED = Path(__file__).parents[1].parent / "shared" / "media"
PICTURE = numbered_frame(5)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def read(path: Path) -> np.ndarray:
    media = open_media(path)
    rgb = read_image(media)
    assert rgb.dtype == np.uint8 and rgb.shape == (*media.size_wh[::-1], 3)
    return rgb


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
def test_every_format_opens_as_an_image(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(PICTURE), quality=95)
    media = open_media(path)
    assert (media.kind, media.size_wh, media.frame_count) == ("image", (64, 48), 1)
    assert (media.fps, media.duration_s, media.timestamps_s) == (None, None, (0.0,))
    assert media.container == {"jpg": "jpeg"}.get(suffix, suffix)
    assert media.name == path.name and media.warnings == ()
    assert np.abs(read_image(media).astype(int) - PICTURE)[24:, 32:].max() <= 6


def test_content_decides_the_format(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(encode_image(PICTURE, "png"))
    assert open_media(path).container == "png"


def test_content_hash_covers_the_bytes(tmp_path):
    one = save(tmp_path / "a.png", Image.fromarray(PICTURE))
    two = tmp_path / "b.png"
    two.write_bytes(one.read_bytes())
    other = save(tmp_path / "c.png", Image.fromarray(PICTURE[::-1]))
    hashes = [open_media(path).content_hash for path in (one, two, other)]
    assert hashes[0] == hashes[1] != hashes[2] and len(hashes[0]) == 64


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_is_applied(tmp_path, value, suffix):
    exif = Image.Exif()
    exif[0x0112] = value
    options = {"lossless": True} if suffix == "webp" else {"quality": 95, "subsampling": 0}
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(PICTURE), exif=exif, **options)
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    media = open_media(path)
    rgb = read_image(media)
    assert media.size_wh == ((64, 48) if value < 5 else (48, 64)) == rgb.shape[1::-1]
    assert rgb[corner[value]][0] > 200 and rgb[corner[value]][1] < 60
    if suffix != "tiff":  # Pillow turns a TIFF before we can tell
        turns = {1: 0, 2: 0, 3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}
        assert media.rotation_deg == turns[value]


def test_alpha_is_laid_over_white(tmp_path):
    rgba = np.dstack([np.full((48, 64, 3), (200, 0, 0)), np.full((48, 64), 128)]).astype(np.uint8)
    rgba[:10, :, 3] = 0
    for suffix in ("png", "webp", "tiff"):
        rgb = read(save(tmp_path / f"a.{suffix}", Image.fromarray(rgba), lossless=True))
        assert (rgb[5, 5] == 255).all()
        assert np.abs(rgb[30, 30].astype(int) - (227, 127, 127)).max() <= 1


def test_transparent_palette_entry(tmp_path):
    image = Image.new("P", (64, 48), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 32, 48))
    path = save(tmp_path / "a.png", image, transparency=0)
    rgb = read(path)
    assert rgb[0, 0].tolist() == [200, 100, 50] and rgb[0, 40].tolist() == [255, 255, 255]


def test_grey_one_bit_grey_alpha_and_cmyk(tmp_path):
    assert read(save(tmp_path / "l.png", Image.new("L", (8, 8), 77)))[0, 0].tolist() == [77] * 3
    assert read(save(tmp_path / "1.png", Image.new("1", (8, 8), 1)))[0, 0].tolist() == [255] * 3
    assert read(save(tmp_path / "la.png", Image.new("LA", (8, 8), (0, 0))))[0, 0].tolist() == [255] * 3
    cmyk = read(save(tmp_path / "c.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=100))
    assert cmyk[0, 0, 0] > 240 and cmyk[0, 0, 1] < 15
    assert read(save(tmp_path / "c.tiff", Image.new("CMYK", (8, 8), (255, 0, 0, 0))))[0, 0, 0] == 0


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix, channels):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None, :].repeat(8, 0)
    values = ramp if channels == 1 else np.dstack([ramp] * channels)
    if channels == 4:
        values[:, :, 3] = 65535
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), values)
    expected = np.rint(ramp / 257).astype(int)
    assert np.abs(read(path)[:, :, 1].astype(int) - expected).max() <= 1


def test_wide_grey_images(tmp_path):
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None, :].repeat(8, 0)
    unit = read(save(tmp_path / "f.tiff", Image.fromarray(ramp)))
    assert unit[0, 0, 0] == 0 and unit[0, -1, 0] == 255 and abs(int(unit[0, 32, 0]) - 130) <= 1
    assert read(save(tmp_path / "g.tiff", Image.fromarray(ramp * 200)))[0, -1, 0] == 200
    stretched = read(save(tmp_path / "h.tiff", Image.fromarray(ramp * 3000 - 1000)))
    assert stretched[0, 0, 0] == 0 and stretched[0, -1, 0] == 255
    holes = ramp.copy()
    holes[0, 0] = np.nan
    assert read(save(tmp_path / "n.tiff", Image.fromarray(holes)))[0, 0, 0] == 0
    integers = read(save(tmp_path / "i.tiff", Image.fromarray((ramp * 65535).astype(np.int32))))
    assert integers[0, -1, 0] == 255 and abs(int(integers[0, 32, 0]) - 130) <= 1
    flat = read(save(tmp_path / "z.tiff", Image.fromarray(np.full((8, 8), -5.0, np.float32))))
    assert (flat == 0).all()


def test_float_colour_tiff(tmp_path):
    rgb = np.zeros((48, 64, 3), np.float32)
    rgb[:, :32, 0] = 1.0
    path = tmp_path / "a.tiff"
    assert cv2.imwrite(str(path), rgb[:, :, ::-1])
    got = read(path)
    assert got[0, 0].tolist() == [255, 0, 0] and got[0, 63].tolist() == [0, 0, 0]
    with pytest.raises(MediaTooLargeError):
        open_media(path, MediaLimits(max_pixels=1000))


def test_broken_tiff_prints_nothing(tmp_path, capfd):
    path = tmp_path / "a.tiff"
    assert cv2.imwrite(str(path), np.random.default_rng(0).random((48, 64, 3), np.float32))
    data = bytearray(path.read_bytes())
    entry = data.index(b"\x11\x01", struct.unpack_from("<I", data, 4)[0])  # where the strips lie
    data[entry + 8 : entry + 12] = struct.pack("<I", len(data) + 1000)
    path.write_bytes(data)
    with pytest.raises(MediaUnreadableError):
        open_media(path)
    assert capfd.readouterr() == ("", "")


def test_tiff_with_several_pages(tmp_path):
    pages = [Image.fromarray(numbered_frame(index)) for index in (2, 3)]
    path = save(tmp_path / "a.tiff", pages[0], save_all=True, append_images=pages[1:])
    media = open_media(path)
    assert media.kind == "image" and "2 pages" in media.warnings[0]
    assert number_of(read_image(media)) == 2


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animation_is_a_video_with_its_own_delays(tmp_path, suffix):
    options = {"gif": {}, "webp": {"lossless": True}, "png": {}}[suffix]
    media = open_media(make_gif(tmp_path / f"a.{suffix}", [100, 250, 40, 500], **options))
    assert (media.kind, media.container, media.frame_count) == ("video", suffix, 4)
    assert media.timestamps_s == pytest.approx((0, 0.1, 0.35, 0.39))
    assert media.duration_s == pytest.approx(0.89)
    assert media.fps == Fraction(400, 89)
    assert [number_of(rgb) for _, rgb in iter_frames(media)] == [0, 1, 2, 3]
    assert [number_of(rgb) for rgb in read_frames(media, [3, 0, 3])] == [3, 0, 3]


def test_short_delays_count_as_100_ms(tmp_path):
    media = open_media(make_gif(tmp_path / "a.gif", [0, 10, 20]))
    assert media.timestamps_s == pytest.approx((0, 0.1, 0.2)) and media.duration_s == pytest.approx(0.22)


def test_transparent_gif_is_laid_over_white(tmp_path):
    frames = [Image.new("RGBA", (16, 16), (0, 0, 0, 0)), Image.new("RGBA", (16, 16), (255, 0, 0, 255))]
    path = save(
        tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:], duration=100, disposal=2
    )
    first, second = read_frames(open_media(path), [0, 1])
    assert (first == 255).all() and second[0, 0].tolist() == [255, 0, 0]


def test_truncated_gif_is_used_up_to_the_break(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), np.uint8)
    frames = [Image.fromarray(frame) for frame in noise]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:], duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    media = open_media(path)
    assert 1 <= media.frame_count < 6 and "breaks off" in media.warnings[0]
    assert not media.complete
    assert len(list(iter_frames(media))) == media.frame_count


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_images_are_unreadable(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(MediaUnreadableError, match=path.name):
        open_media(path)


def test_missing_empty_and_special_files(tmp_path):
    with pytest.raises(MediaNotFoundError):
        open_media(tmp_path / "none.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(MediaUnreadableError, match="empty"):
        open_media(tmp_path / "empty.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(MediaUnreadableError, match="regular file"):
        open_media(tmp_path / "pipe.png")
    with pytest.raises(MediaUnreadableError, match="regular file"):
        open_media(Path("/dev/zero"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(PICTURE))
    path.chmod(0)
    with pytest.raises(MediaUnreadableError, match="permission"):
        open_media(path)


@pytest.mark.parametrize(
    "content",
    [b"just some words\n" * 20, b"ffconcat version 1.0\nfile '/etc/passwd'\n", bytes(range(7, 256)) * 4],
)
def test_other_formats_are_refused(tmp_path, content, capfd):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaUnreadableError) as caught:
        open_media(path)
    assert "JPEG" in caught.value.hint and "MP4" in caught.value.hint
    assert capfd.readouterr() == ("", "")


def bomb_png(path: Path, width: int, height: int) -> Path:
    """A small file whose header says width × height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_decompression_bomb(tmp_path, side):
    with warnings.catch_warnings(record=True) as leaked, pytest.raises(MediaTooLargeError):
        warnings.simplefilter("always")
        open_media(bomb_png(tmp_path / "a.png", side, side))
    assert not leaked


def test_limits(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(PICTURE))
    with pytest.raises(MediaTooLargeError, match="3,072 pixels; the limit is 3,000"):
        open_media(path, MediaLimits(max_pixels=3000))
    with pytest.raises(MediaTooLargeError, match="the limit is 10"):
        open_media(path, MediaLimits(max_bytes=10))
    gif = make_gif(tmp_path / "a.gif", [100] * 5)
    with pytest.raises(MediaTooLargeError, match="more than 4 frames"):
        open_media(gif, MediaLimits(max_frames=4))
    with pytest.raises(MediaTooLargeError, match="lasts"):
        open_media(gif, MediaLimits(max_duration_s=0.4))


def test_cancelling(tmp_path):
    run = Run()
    run.cancel()
    with pytest.raises(CancelledError):
        open_media(save(tmp_path / "a.png", Image.fromarray(PICTURE)), run=run)


def test_frames_of_an_image(tmp_path):
    media = open_media(save(tmp_path / "a.png", Image.fromarray(PICTURE)))
    assert [index for index, _ in iter_frames(media)] == [0]
    with pytest.raises(RequestError, match="out of range"):
        iter_frames(media, [1])


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp"])
def test_encode_image(fmt):
    image = Image.open(io.BytesIO(encode_image(PICTURE, fmt, 95)))
    assert image.size == (64, 48) and image.format == fmt.upper()
    assert np.abs(np.asarray(image.convert("RGB")).astype(int) - PICTURE)[24:, 32:].max() <= STEP // 2


def test_encode_image_checks_its_arguments():
    rgba = np.zeros((4, 4, 4), np.uint8)
    assert Image.open(io.BytesIO(encode_image(rgba, "png"))).mode == "RGBA"
    for bad, fmt in ((rgba, "jpeg"), (PICTURE.astype(float), "png"), (PICTURE[None], "png")):
        with pytest.raises(RequestError):
            encode_image(bad, fmt)
    with pytest.raises(RequestError, match="tiff"):
        encode_image(PICTURE, "tiff")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real media is absent")
@pytest.mark.parametrize(("name", "size_wh"), [("truck.jpg", (1800, 1200)), ("groceries.jpg", (800, 534))])
def test_real_photographs(name, size_wh):
    media = open_media(SHARED / name)
    assert media.size_wh == size_wh
    assert (read_image(media) == np.asarray(Image.open(SHARED / name).convert("RGB"))).all()


def test_warning_filters_are_restored_after_overlapping_decodes(tmp_path):
    """The filters belong to the whole process, and the order of leaving must not matter."""
    before = list(warnings.filters)
    first, second = translate_decoder_errors(tmp_path), translate_decoder_errors(tmp_path)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn("hidden: the second one is still decoding", UserWarning, stacklevel=1)
    second.__exit__(None, None, None)
    assert warnings.filters == before
