"""Pixels in memory: what is accepted, what it becomes, and what is refused."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from media_makers import make_folder, number_of, numbered_frame
from PIL import Image, ImageSequence

from sa2va_tools.errors import (
    CancelledError,
    MediaError,
    MediaTooLargeError,
    MediaUnreadableError,
    RequestError,
)
from sa2va_tools.media.decode import iter_frames, read_frames, read_image
from sa2va_tools.media.media import open_media
from sa2va_tools.media.memory import open_pixels
from sa2va_tools.media.sampling import select_frames
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits

FRAMES = [numbered_frame(index) for index in range(5)]


def test_array_is_an_image():
    media = open_pixels(FRAMES[3])
    assert (media.kind, media.size_wh, media.frame_count) == ("image", (64, 48), 1)
    assert (media.fps, media.duration_s, media.timestamps_s, media.warnings) == (None, None, (0.0,), ())
    assert (media.path, media.container, media.name) == (None, "memory", "image 64x48")
    assert (read_image(media) == FRAMES[3]).all()


def sources() -> dict[str, object]:
    return {
        "array": np.stack(FRAMES),
        "list": FRAMES,
        "tuple": tuple(FRAMES),
        "generator": (frame for frame in FRAMES),
        "PIL images": [Image.fromarray(frame) for frame in FRAMES],
        "both": (Image.fromarray(frame) if index % 2 else frame for index, frame in enumerate(FRAMES)),
    }


@pytest.mark.parametrize("kind", sources())
def test_frames_are_a_video(kind):
    media = open_pixels(sources()[kind], fps=10)
    assert (media.kind, media.size_wh, media.frame_count) == ("video", (64, 48), 5)
    assert (media.fps, media.name, media.warnings, media.complete) == (10, "video 64x48", (), True)
    assert media.timestamps_s == (0.0, 0.1, 0.2, 0.3, 0.4) and media.duration_s == pytest.approx(0.5)
    assert [(index, number_of(rgb)) for index, rgb in iter_frames(media)] == [(i, i) for i in range(5)]
    assert [number_of(rgb) for rgb in read_frames(media, [4, 0, 4])] == [4, 0, 4]
    assert select_frames(media, start_s=0.2, stride=2) == (2, 4)
    assert media.content_hash == open_pixels(FRAMES, fps=10).content_hash


@pytest.mark.parametrize("source", [np.stack(FRAMES[:1]), FRAMES[:1], iter(FRAMES[:1])])
def test_one_frame_may_be_a_video(source):
    media = open_pixels(source)
    assert (media.kind, media.frame_count, media.name) == ("video", 1, "video 64x48")
    assert media.content_hash != open_pixels(FRAMES[0]).content_hash


def test_default_frame_rate(tmp_path):
    media = open_pixels(FRAMES)
    folder = open_media(make_folder(tmp_path / "f", [f"{index}.png" for index in range(5)]))
    assert (media.fps, media.timestamps_s) == (folder.fps, folder.timestamps_s)
    assert "24 frames per second are assumed" in media.warnings[0]


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (30, Fraction(30)),
        (29.97, Fraction(2997, 100)),
        (30000 / 1001, Fraction(30000, 1001)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (np.float32(12.5), Fraction(25, 2)),
        (np.int64(5), Fraction(5)),
    ],
)
def test_frame_rates(fps, expected):
    media = open_pixels(FRAMES, fps=fps)
    assert media.fps == expected and media.timestamps_s[4] == pytest.approx(float(4 / expected))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e-9, 10**400, Fraction(-1, 2)])
def test_impossible_frame_rates(fps):
    with pytest.raises(RequestError, match="fps is"):
        open_pixels(FRAMES, fps=fps)


@pytest.mark.parametrize("fps", ["24", True, [24], np.array([24])])
def test_frame_rate_of_the_wrong_type(fps):
    with pytest.raises(TypeError, match="fps has type"):
        open_pixels(FRAMES, fps=fps)


def test_image_has_no_frame_rate():
    with pytest.raises(RequestError, match="no frame rate"):
        open_pixels(FRAMES[0], fps=24)


# ---- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_is_applied_as_for_files(tmp_path, value):
    image = Image.fromarray(FRAMES[0])
    exif = Image.Exif()
    exif[0x0112] = value
    image.save(tmp_path / "a.png", exif=exif)
    from_file = read_image(open_media(tmp_path / "a.png"))
    with Image.open(tmp_path / "a.png") as opened:
        media = open_pixels(opened)
    assert media.size_wh == ((64, 48) if value < 5 else (48, 64))
    assert (read_image(media) == from_file).all()


@pytest.mark.parametrize("alpha", [0, 100, 255])
def test_alpha_is_laid_over_white_as_for_files(tmp_path, alpha):
    rgba = np.dstack([FRAMES[2], np.full((48, 64), alpha, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    from_file = read_image(open_media(tmp_path / "a.png"))
    for source in (rgba, Image.fromarray(rgba)):
        assert (read_image(open_pixels(source)) == from_file).all()
    assert (read_image(open_pixels(rgba[None])) == from_file).all()
    assert (read_image(open_pixels([Image.fromarray(rgba)])) == from_file).all()


def test_grey_becomes_rgb():
    grey = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    for source in (grey, Image.fromarray(grey), [grey], Image.fromarray(grey.astype(np.uint16) * 257)):
        assert (read_image(open_pixels(source)) == np.dstack([grey] * 3)).all()


def test_frames_of_a_pil_animation(tmp_path):
    images = [Image.fromarray(frame) for frame in FRAMES]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], duration=100)
    with Image.open(tmp_path / "a.png") as animation:
        media = open_pixels(ImageSequence.Iterator(animation), fps=10)
    assert [number_of(rgb) for _, rgb in iter_frames(media)] == [0, 1, 2, 3, 4]


def test_array_views():
    rgb = read_image(open_pixels(FRAMES[0][::-1, ::2, ::-1]))
    assert rgb.flags.c_contiguous and (rgb == FRAMES[0][::-1, ::2, ::-1]).all()


def test_equal_pixels_have_equal_hashes():
    same = [FRAMES[0], FRAMES[0].copy(), np.asfortranarray(FRAMES[0]), Image.fromarray(FRAMES[0])]
    assert len({open_pixels(source).content_hash for source in same}) == 1
    assert open_pixels(FRAMES).content_hash == open_pixels(np.stack(FRAMES), fps=24).content_hash
    assert open_pixels(FRAMES) == open_pixels(tuple(FRAMES))


def test_other_content_has_another_hash():
    changed = FRAMES[0].copy()
    changed[0, 0, 0] ^= 1
    flat = np.zeros((4, 6, 3), np.uint8)
    media = [open_pixels(source) for source in (FRAMES[0], changed, FRAMES[:1], FRAMES, FRAMES[::-1])]
    media += [open_pixels(flat), open_pixels(flat.reshape(6, 4, 3)), open_pixels(FRAMES, fps=25)]
    assert len({one.content_hash for one in media}) == len(media)


def test_later_changes_do_not_affect_the_media():
    array, stack, listed = FRAMES[0].copy(), np.stack(FRAMES), [frame.copy() for frame in FRAMES]
    image = Image.fromarray(FRAMES[0].copy())
    media = [open_pixels(source) for source in (array, stack, listed, image)]
    array[:], stack[:], listed[0][:] = 0, 0, 0
    listed.clear()
    image.paste((0, 0, 0), (0, 0, 64, 48))
    assert all((read_image(one) == FRAMES[0]).all() for one in media)
    read_image(media[0])[:] = 0
    assert (read_image(media[0]) == FRAMES[0]).all()
    with pytest.raises(ValueError, match="read-only"):
        media[0].pixels[0][:] = 0


def test_pixels_that_are_gone():
    import dataclasses

    media = dataclasses.replace(open_pixels(FRAMES), pixels=None)
    with pytest.raises(MediaUnreadableError, match="no longer in memory"):
        read_image(media)


# ---- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (FRAMES[0].astype(np.float32) / 255, r"float32.*uint8.*array \* 255\)\.round"),
        (FRAMES[0].astype(np.float64), r"float64.*20 … 220.*\(array\)\.round"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (FRAMES[0].astype(np.int64), "int64.*astype"),
        (FRAMES[0].astype(np.uint16), "uint16"),
        (FRAMES[0] > 9, r"bool.*\* 255"),
        (FRAMES[0].transpose(2, 0, 1), r"\(3, 48, 64\).*moveaxis"),
        (np.zeros((5, 3, 48, 64), np.uint8), r"\(5, 3, 48, 64\).*moveaxis"),
        (np.zeros((5, 48, 64), np.uint8), r"\(5, 48, 64\).*list\(array\)"),
        (np.zeros((48, 64, 2), np.uint8), r"\(48, 64, 2\)"),
        (np.zeros((48,), np.uint8), r"\(48,\)"),
        (np.zeros((), np.uint8), r"\(\)"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), r"\(1, 1, 4, 4, 3\)"),
        (np.zeros((0, 48, 64, 3), np.uint8), "empty"),
        (np.zeros((48, 0, 3), np.uint8), "empty"),
        (np.array([1, "a", None], object), "object"),
    ],
)
def test_arrays_of_wrong_shape_or_dtype(array, words):
    with pytest.raises(RequestError, match=words):
        open_pixels(array)
    with pytest.raises(RequestError, match="Frame 1 has shape"):
        open_pixels([FRAMES[0], array])


@pytest.mark.parametrize("frame", [None, 3, "a.png", b"abc", [[0, 0, 0]], {}, np.uint8(1)])
def test_frames_of_the_wrong_type(frame):
    with pytest.raises(TypeError, match=f"Frame 1 has type {type(frame).__name__}.*NumPy array.*PIL"):
        open_pixels([FRAMES[0], frame])


@pytest.mark.parametrize("source", ["a.png", b"abc", None, {}])
def test_sources_without_pixels(source):
    with pytest.raises(TypeError):
        open_pixels(source)


def test_frames_of_different_sizes():
    with pytest.raises(RequestError, match="Frame 0 is 64×48, frame 2 is 32×48"):
        open_pixels([FRAMES[0], FRAMES[1], FRAMES[2][:, :32]])
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(FRAMES[0])
    turned.info["exif"] = exif.tobytes()
    with pytest.raises(RequestError, match="frame 1 is 48×64"):
        open_pixels([FRAMES[0], turned])


@pytest.mark.parametrize("source", [[], (), iter(())])
def test_no_frames(source):
    with pytest.raises(RequestError, match="no frames"):
        open_pixels(source)


def test_empty_pil_image():
    with pytest.raises(RequestError, match="empty"):
        open_pixels(Image.new("RGB", (0, 5)))


def test_truncated_pil_image(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((64, 48), 50).save(path)
    path.write_bytes(path.read_bytes()[:600])
    with Image.open(path) as image, pytest.raises(MediaUnreadableError, match="image 64x48"):
        open_pixels(image)


# ---- caps -----------------------------------------------------------------------------------------


class Endless:
    """Counts how many of its frames were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self):
        for index in itertools.count():
            self.taken += 1
            yield numbered_frame(index)


@pytest.mark.parametrize(
    ("limits", "taken"),
    [
        (MediaLimits(max_frames=7), 8),
        (MediaLimits(max_bytes=64 * 48 * 3 * 7), 8),
        (MediaLimits(max_duration_s=0.71), 8),
        (MediaLimits(max_pixels=64 * 48 - 1), 1),
    ],
)
def test_endless_iterator_is_consumed_up_to_the_limit(limits, taken):
    frames = Endless()
    with pytest.raises(MediaTooLargeError, match="video 64x48"):
        open_pixels(iter(frames), fps=10, limits=limits)
    assert frames.taken == taken


class Counted(Endless):
    """Of known length."""

    def __len__(self) -> int:
        return 100


@pytest.mark.parametrize("limits", [MediaLimits(max_frames=99), MediaLimits(max_bytes=64 * 48 * 3 * 99)])
def test_too_many_known_frames_are_refused_at_the_first(limits):
    frames = Counted()
    with pytest.raises(MediaTooLargeError):
        open_pixels(frames, limits=limits)
    assert frames.taken == 1


def test_limits_that_are_just_met():
    limits = MediaLimits(max_frames=5, max_bytes=64 * 48 * 3 * 5, max_pixels=64 * 48, max_duration_s=0.5)
    assert open_pixels(FRAMES, fps=10, limits=limits).frame_count == 5


def test_cancelling_stops_an_iterator():
    run = Run()

    def frames():
        yield FRAMES[0]
        run.cancel()
        yield FRAMES[1]
        pytest.fail("more frames were taken")

    with pytest.raises(CancelledError):
        open_pixels(frames(), run=run)


def test_errors_of_the_iterator_pass_unchanged():
    def frames():
        yield FRAMES[0]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        open_pixels(frames())
    assert not isinstance(caught.value, MediaError)
