"""Animated PNGs whose first image is not part of the animation, and TIFFs of every layout."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from media_makers import number_of, numbered_frame
from PIL import Image

from sa2va_tools.media.decode import iter_frames, read_frames, read_image
from sa2va_tools.media.media import open_media

HIDDEN = Image.new("RGB", (64, 48), (0, 0, 255))


def test_hidden_first_image_of_an_animated_png(tmp_path):
    path = tmp_path / "a.png"
    frames = [Image.fromarray(numbered_frame(index)) for index in range(4)]
    HIDDEN.save(path, save_all=True, append_images=frames, default_image=True, duration=[100, 200, 300, 400])
    media = open_media(path)
    assert (media.kind, media.frame_count, media.warnings) == ("video", 4, ())
    assert media.timestamps_s == pytest.approx((0, 0.1, 0.3, 0.6)) and media.duration_s == pytest.approx(1.0)
    assert [number_of(rgb) for _, rgb in iter_frames(media)] == [0, 1, 2, 3]
    assert [number_of(rgb) for rgb in read_frames(media, [3, 1])] == [3, 1]


def test_hidden_image_does_not_show_through(tmp_path):
    path = tmp_path / "a.png"
    patches = []
    for grey, at in ((100, 10), (180, 20)):
        patch = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
        patch.paste((grey, grey, grey, 255), (at, 10, at + 20, 40))
        patches.append(patch)
    options = {"default_image": True, "duration": 100, "blend": 1}
    HIDDEN.convert("RGBA").save(path, save_all=True, append_images=patches, **options)
    first, second = read_frames(open_media(path), [0, 1])
    assert first[20, 15].tolist() == [100] * 3 and first[20, 60].tolist() == [255] * 3
    assert second[20, 15].tolist() == [100] * 3 and second[20, 35].tolist() == [180] * 3
    assert second[45, 5].tolist() == [255] * 3


def test_hidden_image_before_a_single_frame(tmp_path):
    path = tmp_path / "a.png"
    HIDDEN.save(
        path,
        save_all=True,
        append_images=[Image.fromarray(numbered_frame(7))],
        default_image=True,
        duration=90,
    )
    media = open_media(path)
    assert media.frame_count == 1 and number_of(read_image(media)) == 7


NOTHING, BACKGROUND, PREVIOUS = 0, 1, 2
"""What is done with a frame of an animated PNG before the next one."""


def make_png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_animated_png(patches: list[tuple[np.ndarray, int, int, int, int]], *, hidden: bool) -> bytes:
    """Each patch is (RGBA, x, y, disposal, blending); the first covers the whole picture. A hidden first
    image is blue."""
    height, width = patches[0][0].shape[:2]
    data = b"\x89PNG\r\n\x1a\n" + make_png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    )
    data += make_png_chunk(b"acTL", struct.pack(">II", len(patches), 0))
    if hidden:
        data += make_png_chunk(b"IDAT", zlib.compress((b"\0" + b"\0\0\xff\xff" * width) * height))
    number = 0
    for index, (rgba, x, y, disposal, blending) in enumerate(patches):
        size = rgba.shape[1], rgba.shape[0]
        data += make_png_chunk(
            b"fcTL", struct.pack(">IIIIIHHBB", number, *size, x, y, 1, 10, disposal, blending)
        )
        number += 1
        pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rgba))
        if index or hidden:
            data += make_png_chunk(b"fdAT", struct.pack(">I", number) + pixels)
            number += 1
        else:
            data += make_png_chunk(b"IDAT", pixels)
    return data + make_png_chunk(b"IEND", b"")


def compose(patches: list[tuple[np.ndarray, int, int, int, int]]) -> list[np.ndarray]:
    """The frames as the PNG specification says, on white. Patches are opaque or fully transparent."""
    canvas = np.zeros_like(patches[0][0])
    shown = []
    for rgba, x, y, disposal, blending in patches:
        area = np.s_[y : y + rgba.shape[0], x : x + rgba.shape[1]]
        before = canvas.copy()
        canvas[area] = np.where(rgba[..., 3:] > 0, rgba, canvas[area]) if blending else rgba
        shown.append(np.where(canvas[..., 3:] > 0, canvas[..., :3], 255).astype(np.uint8))
        if disposal == BACKGROUND:
            canvas[area] = 0
        elif disposal == PREVIOUS:
            canvas = before
    return shown


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_frames_that_are_taken_away_again(tmp_path, seed, hidden):
    """Every order of what is done with a frame and how the next one is drawn."""
    rng = np.random.default_rng(seed)
    patches = [(np.full((32, 48, 4), (90, 160, 90, 255), np.uint8), 0, 0, NOTHING, 0)]
    for _ in range(12):
        rgba = np.full((10, 12, 4), (*rng.integers(0, 255, 3), 255), np.uint8)
        rgba[rng.integers(0, 2, (10, 12)) > 0] = 0
        x, y = (int(limit) for limit in rng.integers(0, (36, 22)))
        patches.append((rgba, x, y, int(rng.integers(0, 3)), int(rng.integers(0, 2))))
    path = tmp_path / "a.png"
    path.write_bytes(make_animated_png(patches, hidden=hidden))
    media = open_media(path)
    assert media.frame_count == len(patches)
    frames = [rgb for _, rgb in iter_frames(media)]
    for index, (rgb, expected) in enumerate(zip(frames, compose(patches), strict=True)):
        assert np.array_equal(rgb, expected), index


def test_big_tiff(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(numbered_frame(3)).save(path, big_tiff=True)
    assert path.read_bytes()[2] == 43
    media = open_media(path)
    assert (media.kind, media.container, media.warnings) == ("image", "tiff", ())
    assert np.array_equal(read_image(media), numbered_frame(3))


def test_pages_of_a_big_tiff(tmp_path):
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(numbered_frame(index)) for index in range(3)]
    pages[0].save(path, big_tiff=True, save_all=True, append_images=pages[1:])
    media = open_media(path)
    assert media.warnings == ("a.tif has 3 pages; only the first is read.",)
    assert number_of(read_image(media)) == 0


def make_tiff(pixels: np.ndarray, *, order: str = "<", big: bool = False, tile: int = 0) -> bytes:
    """An uncompressed TIFF in either byte order, in one strip or in square tiles."""
    height, width, channels = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order))
    parts = [data.tobytes()]
    if tile:
        padded = np.pad(data, ((0, -height % tile), (0, -width % tile), (0, 0)))
        rows, columns = padded.shape[0] // tile, padded.shape[1] // tile
        squares = padded.reshape(rows, tile, columns, tile, channels).swapaxes(1, 2)
        parts = [square.tobytes() for square in squares.reshape(-1, tile, tile, channels)]
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    word = "Q" if big else "I"
    start = 16 if big else 8
    where = [start + sum(map(len, parts[:index])) for index in range(len(parts))]
    kind = 16 if big else 4
    formats = {"u": 1, "f": 3}[pixels.dtype.kind]
    entries = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [8 * pixels.dtype.itemsize] * channels),
        (259, 3, [1]),
        (262, 3, [2]),
        (277, 3, [channels]),
        *(
            [
                (322, 4, [tile]),
                (323, 4, [tile]),
                (324, kind, where),
                (325, kind, [len(part) for part in parts]),
            ]
            if tile
            else [(273, kind, where), (278, 4, [height]), (279, kind, [len(parts[0])])]
        ),
        (339, 3, [formats] * channels),
    ]
    entries.sort()
    directory = start + sum(map(len, parts))
    inline = 8 if big else 4
    extra_at = directory + (8 if big else 2) + len(entries) * (20 if big else 12) + inline
    table, extra = b"", b""
    for tag, kind_, values in entries:
        raw = struct.pack(f"{order}{len(values)}{ {3: 'H', 4: 'I', 16: 'Q'}[kind_] }", *values)
        if len(raw) > inline:
            place = struct.pack(f"{order}{word}", extra_at + len(extra))
            extra += raw
        else:
            place = raw.ljust(inline, b"\0")
        table += struct.pack(f"{order}HH{word}", tag, kind_, len(values)) + place
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(entries))
    header = head + (
        struct.pack(f"{order}HHQ", 8, 0, directory) if big else struct.pack(f"{order}I", directory)
    )
    return header + b"".join(parts) + count + table + bytes(inline) + extra


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tile", [0, 32])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_layouts_of_tiff(tmp_path, order, big, tile, dtype):
    frame = numbered_frame(3)
    factor = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    path = tmp_path / "a.tif"
    path.write_bytes(make_tiff((frame * np.float64(factor)).astype(dtype), order=order, big=big, tile=tile))
    media = open_media(path)
    assert media.size_wh == (64, 48) and media.warnings == ()
    assert np.array_equal(read_image(media), frame)


def test_tiff_of_another_program(tmp_path):
    path = tmp_path / "a.tif"
    assert cv2.imwrite(str(path), numbered_frame(3)[:, :, ::-1].astype(np.uint16) * 257)
    assert np.array_equal(read_image(open_media(path)), numbered_frame(3))
