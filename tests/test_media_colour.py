"""HDR and wide gamut are shown as on an SDR screen; ordinary colours are not touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media_makers import keep_priority, make_video
from picture_makers import (
    BT709,
    BT2020,
    GREY,
    HLG,
    P3,
    P3_D50,
    PQ,
    RED,
    SDR_2020,
    SRGB,
    SRGB_D50,
    TO_P3,
    WHITE,
    encode_pq,
    encode_signal,
    make_colour_video,
    make_icc,
    make_patches,
    make_png16,
    read_patches,
    srgb_light,
)
from PIL import Image

from sa2va_tools.media.colour import find_conversion
from sa2va_tools.media.decode import iter_frames, read_frames, read_image
from sa2va_tools.media.frames import frame_to_rgb
from sa2va_tools.media.media import open_media
from sa2va_tools.media.memory import open_pixels

COLOURS = (RED, GREY)
STEP = 4
"""Levels of 255: limited range, chroma of half the size and tables leave less than this."""


def assert_colours(rgb: np.ndarray, *expected: tuple[int, int, int], within: int = STEP) -> None:
    found = np.array(read_patches(rgb, len(expected)), int)
    assert np.abs(found - np.array(expected)).max() <= within, found


def test_field_02_hdr_pq(tmp_path):
    """A phone's HDR clip: HEVC of 10 bits in a MOV. The encoder loses some more levels."""
    rgb = make_patches(encode_signal(COLOURS, PQ))
    path = make_colour_video(
        tmp_path / "pq.mov",
        rgb,
        transfer=PQ,
        codec="libx265",
        options={"x265-params": "log-level=none:crf=10"},
    )
    media = open_media(path)
    assert media.warnings == ()
    for frame in read_frames(media, [0, 2]):
        assert_colours(frame, *COLOURS, within=8)


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "is_full"),
    [
        ("a.mkv", "ffv1", "yuv420p10le", False),
        ("b.mkv", "ffv1", "yuv444p12le", True),
        ("a.mp4", "libx264", "yuv422p10le", False),
        ("a.webm", "libsvtav1", "yuv420p10le", False),
    ],
)
def test_hdr_video(tmp_path, name, codec, pix_fmt, is_full, transfer):
    options = {"libx264": {"crf": "5"}, "libsvtav1": {"crf": "5"}}.get(codec)
    path = make_colour_video(
        tmp_path / name,
        make_patches(encode_signal(COLOURS, transfer)),
        transfer=transfer,
        codec=codec,
        pix_fmt=pix_fmt,
        is_full=is_full,
        options=options,
    )
    media = open_media(path)
    assert media.warnings == ()
    assert_colours(read_image(media), *COLOURS, within=STEP if codec == "ffv1" else 8)


def test_hdr_video_with_alpha(tmp_path):
    path = make_colour_video(
        tmp_path / "a.mov",
        make_patches(encode_signal(COLOURS, PQ)),
        transfer=PQ,
        codec="prores_ks",
        pix_fmt="yuva444p10le",
    )
    media = open_media(path)
    assert any("alpha" in warning for warning in media.warnings)
    assert_colours(read_image(media), *COLOURS, within=8)


def test_bright_light_keeps_its_order():
    """White stays nearly white, and brighter light is brighter up to 1000 cd/m²."""
    nits = np.array([0.0, 20, 100, 142, 203, 400, 1000, 4000])
    rgb = make_patches(np.repeat(encode_pq(nits)[:, None], 3, axis=1), (160, 48))
    grey = [patch[0] for patch in read_patches(find_conversion(PQ, BT2020).apply(rgb), len(nits))]
    assert grey[0] == 0 and grey[-2:] == [255, 255]
    assert grey[:7] == sorted(set(grey[:7]))
    assert grey[3] == pytest.approx(255 * (142 / 203) ** (1 / 2.4), abs=1)
    assert 235 <= grey[4] <= 245


def test_saturated_light_outside_bt709_is_clipped():
    rgb = make_patches(np.array([[0.0, 0.58, 0.0]]))
    red, green, blue = read_patches(find_conversion(PQ, BT2020).apply(rgb), 1)[0]
    assert red == 0 and blue == 0 and green > 220


def test_eight_and_sixteen_bits_agree():
    rgb = make_patches(encode_signal(COLOURS, PQ))
    conversion = find_conversion(PQ, BT2020)
    narrow = np.rint(rgb / 257).astype(np.uint8)
    assert np.abs(conversion.apply(rgb).astype(int) - conversion.apply(narrow)).max() <= 4


def test_wide_gamut_video_becomes_bt709(tmp_path):
    rgb = make_patches(encode_signal((RED, GREY, WHITE), SDR_2020))
    media = open_media(make_colour_video(tmp_path / "a.mkv", rgb, transfer=SDR_2020))
    assert media.warnings == ()
    assert_colours(read_image(media), RED, GREY, WHITE)
    assert any(
        abs(level - wanted) > 20 for level, wanted in zip((rgb[5, 5] // 257).tolist(), RED, strict=True)
    )


def test_p3_video_becomes_bt709(tmp_path):
    light = ((np.array([RED, GREY]) / 255) ** 2.4) @ TO_P3.T
    rgb = make_patches(light ** (1 / 2.4))
    media = open_media(make_colour_video(tmp_path / "a.mkv", rgb, transfer=BT709, primaries=P3))
    assert_colours(read_image(media), RED, GREY)


@pytest.mark.parametrize("transfer", [0, 1, 2, 6, SRGB, 14, 15, 4, 8])
@pytest.mark.parametrize("primaries", [0, 1, 2, 5, 6])
def test_ordinary_colours_are_not_converted(transfer, primaries):
    assert find_conversion(transfer, primaries) is None


def test_sdr_frames_are_the_decoder_s_own(tmp_path):
    import av

    path = make_video(tmp_path / "a.mp4", 4, transfer=BT709)
    with av.open(str(path)) as container:
        for frame, (_, rgb) in zip(container.decode(video=0), iter_frames(open_media(path)), strict=True):
            assert np.array_equal(frame.to_ndarray(format="rgb24"), rgb)
            assert np.array_equal(frame_to_rgb(frame), rgb)


# ---- pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_png(tmp_path, transfer):
    rgb = make_patches(encode_signal(COLOURS, transfer, srgb=True))
    media = open_media(make_png16(tmp_path / "a.png", rgb, (BT2020, transfer)))
    assert media.warnings == ()
    assert_colours(read_image(media), *COLOURS)


def test_hdr_png_in_a_folder_of_frames(tmp_path):
    (tmp_path / "clip").mkdir()
    rgb = make_patches(encode_signal(COLOURS, PQ, srgb=True))
    for name in ("1.png", "2.png"):
        make_png16(tmp_path / "clip" / name, rgb, (BT2020, PQ))
    assert_colours(read_frames(open_media(tmp_path / "clip"), [1])[0], *COLOURS)


@pytest.mark.parametrize("code_points", [None, (BT709, SRGB), (2, 2)])
def test_sdr_png_of_sixteen_bits_is_unchanged(tmp_path, code_points):
    rgb = make_patches(np.array([RED, GREY]) / 255)
    media = open_media(make_png16(tmp_path / "a.png", rgb, code_points))
    assert read_patches(read_image(media), 2) == [RED, GREY]


def test_hdr_avif(tmp_path):
    av = pytest.importorskip("av")
    rgb = make_patches(encode_signal(COLOURS, PQ, srgb=True))
    path = tmp_path / "a.avif"
    with av.open(str(path), "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p10le"
        stream.options = {"crf": "10"}
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = PQ, BT2020, 9, 1
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb48le")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range="MPEG")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    keep_priority()
    assert_colours(read_image(open_media(path)), *COLOURS, within=10)


def test_hdr_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    rgb = np.rint(make_patches(encode_signal(COLOURS, PQ, srgb=True)) / 257).astype(np.uint8)
    path = tmp_path / "a.heic"
    pillow_heif.from_pillow(Image.fromarray(rgb)).save(
        path,
        quality=-1,
        color_primaries=BT2020,
        transfer_characteristics=PQ,
        matrix_coefficients=9,
        full_range_flag=1,
        save_nclx_profile=True,
    )
    assert_colours(read_image(open_media(path)), *COLOURS, within=12)


def save_p3(path: Path, **save: object) -> Path:
    """RED and GREY in Display P3."""
    light = srgb_light((RED, GREY)) @ TO_P3.T
    rgb = np.rint(make_patches(light ** (1 / 2.2)) / 257).astype(np.uint8)
    Image.fromarray(rgb).save(path, icc_profile=make_icc(P3_D50, 2.2), **save)
    return path


@pytest.mark.parametrize(
    ("name", "save"),
    [("a.jpg", {"quality": 100, "subsampling": 0}), ("a.png", {}), ("a.webp", {"lossless": True})],
)
def test_pictures_with_a_profile(tmp_path, name, save):
    path = save_p3(tmp_path / name, **save)
    assert Image.open(path).convert("RGB").getpixel((5, 5))[0] < 210
    rgb = read_image(open_media(path))
    assert_colours(rgb, RED, GREY)
    assert np.array_equal(read_image(open_pixels(Image.open(path))), rgb)


def test_profile_and_alpha(tmp_path):
    image = Image.open(save_p3(tmp_path / "a.png"))
    profile = image.info["icc_profile"]
    image.putalpha(0)
    image.save(tmp_path / "b.png", icc_profile=profile)
    assert read_patches(read_image(open_media(tmp_path / "b.png")), 1) == [WHITE]


@pytest.mark.parametrize("profile", [make_icc(SRGB_D50, 2.2)[:200], b"no profile at all", b""])
def test_damaged_profiles_are_ignored(tmp_path, profile):
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png", icc_profile=profile)
    assert tuple(read_image(open_media(tmp_path / "a.png"))[4, 4]) == RED


def test_profile_of_other_pixels_is_ignored(tmp_path):
    Image.new("L", (8, 8), 90).save(tmp_path / "a.png", icc_profile=make_icc(P3_D50, 2.2))
    assert tuple(read_image(open_media(tmp_path / "a.png"))[4, 4]) == (90, 90, 90)


def test_srgb_profile_changes_nothing(tmp_path):
    from PIL import ImageCms

    rgb = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(rgb).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(read_image(open_media(tmp_path / "a.png")), rgb)
