"""`view`: a small picture that is also a file, and crops whose places can be converted into source pixels."""

import os
import re
import stat
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa2va_tools.errors import RequestError
from sa2va_tools.media.encode import encode_image
from sa2va_tools.run import Run
from sa2va_tools.store import pictures
from sa2va_tools.store.store import Store
from sa2va_tools.testing import FakeEngine, synthetic_clip
from sa2va_tools.tools.base import ToolOutput
from sa2va_tools.tools.catalogue import find_tool
from sa2va_tools.tools.view import DEFAULT_BYTES, DEFAULT_SIDE

BLUE = (20, 40, 230)


@pytest.fixture(scope="module")
def engine():
    with FakeEngine() as fake:
        yield fake


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """A picture that JPEG can hardly compress."""
    path = tmp_path_factory.mktemp("noise") / "noise.png"
    path.write_bytes(encode_image(np.random.default_rng(3).integers(0, 256, (900, 1600, 3), np.uint8)))
    return path


def view(engine: FakeEngine, handles: object, **arguments: object) -> ToolOutput:
    tool = find_tool("view")
    return tool.run(engine, tool.parse({"handles": handles, **arguments}), Run())


def open_picture(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("arguments", [{}, {"max_side": 64}, {"max_side": 1568}])
def test_the_picture_is_small_even_if_the_media_is_noise(engine, noise, arguments):
    (picture,) = view(engine, str(noise), **arguments).pictures
    side = arguments.get("max_side", DEFAULT_SIDE)
    assert max(open_picture(picture.data).size) <= side
    assert len(picture.data) <= DEFAULT_BYTES * max(1, side / DEFAULT_SIDE) ** 2


def test_a_larger_side_may_have_more_bytes(engine, noise):
    usual, large = (view(engine, str(noise), **more).pictures[0].data for more in ({}, {"max_side": 1568}))
    assert len(usual) < 60_000 < len(large)
    assert max(open_picture(large).size) > 1.5 * max(open_picture(usual).size)


def test_the_legend_names_the_file_of_the_picture(engine, noise):
    output = view(engine, str(noise))
    path = Path(re.search(r"If you do not see it, it is the file (.+)", output.text)[1])
    assert path.read_bytes() == output.pictures[0].data
    assert path.is_relative_to(engine.library.store.root)
    again = view(engine, str(noise))
    assert str(path) in again.text and len(list(path.parent.iterdir())) >= 1


def test_without_keep_a_view_writes_no_file(tmp_path, noise):
    with FakeEngine(tmp_path / "store") as fake:
        assert fake.view(noise).path is None
        assert not (tmp_path / "store" / "views").exists()


def test_a_picture_that_cannot_be_kept_is_shown_with_a_warning(tmp_path, noise):
    with FakeEngine(tmp_path / "store") as fake:
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "views").write_text("a file in the place of the folder")
        output = view(fake, str(noise))
    assert output.pictures[0].data and "Warning: The picture was not kept" in output.text
    assert "it is the file" not in output.text


def test_the_oldest_pictures_are_removed_beyond_a_number(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_FILES", 3)
    store = Store(tmp_path / "store")
    paths = []
    for number in range(5):
        paths.append(store.save_view(bytes([number]) * 10, ".jpg"))
        os.utime(paths[-1], ns=(number, number))
    assert [path.exists() for path in paths] == [False, False, True, True, True]
    assert store.save_view(bytes([2]) * 10, ".jpg") == paths[2]  # shown again, so it is the newest
    store.save_view(b"new", ".jpg")
    assert [path.exists() for path in paths] == [False, False, True, False, True]


def test_the_oldest_pictures_are_removed_beyond_a_size_but_never_the_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 25)
    store = Store(tmp_path / "store")
    first, second = (store.save_view(bytes([n]) * 10, ".jpg") for n in (1, 2))
    os.utime(first, ns=(1, 1))
    third = store.save_view(bytes([3]) * 10, ".jpg")
    assert not first.exists() and second.exists() and third.exists()
    large = store.save_view(b"x" * 100, ".jpg")
    assert list(large.parent.iterdir()) == [large]


def test_only_own_files_are_removed_from_the_folder_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_FILES", 1)
    store = Store(tmp_path / "store")
    folder = store.save_view(b"one", ".jpg").parent
    (folder / "notes.txt").write_text("keep")
    (folder / ".partial-0123").write_text("left by a crash")
    os.utime(folder / ".partial-0123", ns=(1, 1))
    last = store.save_view(b"two", ".jpg")
    assert sorted(path.name for path in folder.iterdir()) == sorted([last.name, "notes.txt"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_the_folder_of_pictures_is_for_its_owner_only(tmp_path):
    folder = Store(tmp_path / "store").save_view(b"one", ".jpg").parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# ---- crops ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dots(tmp_path_factory) -> tuple[Path, tuple[int, int, int, int]]:
    """A large grey picture with one small blue dot, and the dot's box."""
    box = (611, 402, 627, 418)
    pixels = np.full((700, 1000, 3), 128, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = BLUE
    path = tmp_path_factory.mktemp("dots") / "dot.png"
    path.write_bytes(encode_image(pixels))
    return path, box


def test_a_crop_enlarges_the_object_and_tells_how_to_convert_places(engine, dots):
    path, box = dots
    around = [box[0] - 10, box[1] - 10, box[2] + 10, box[3] + 10]
    mask = engine.track(path, [around]).objects[0].handle
    output = view(engine, mask, crop=True)
    picture = np.asarray(open_picture(output.pictures[0].data)).astype(int)
    assert max(picture.shape) > 300
    scale = float(re.search(r"Scale: ([\d.]+)", output.text)[1])
    assert scale > 5
    crop = re.search(
        r"Cropped to (\d+)×(\d+) source pixels with the top left corner at \((\d+), (\d+)\)", output.text
    )
    width, height, x0, y0 = map(int, crop.groups())
    assert x0 < around[0] and around[2] < x0 + width and y0 < around[1] and around[3] < y0 + height
    blue = (picture[:, :, 2] - picture[:, :, 0]) > 60
    rows, columns = np.nonzero(blue)
    found = (x0 + columns.mean() / scale, y0 + rows.mean() / scale)
    assert found == pytest.approx(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), abs=1.5)


def test_a_crop_follows_a_moving_object(engine, tmp_path):
    clip = synthetic_clip(tmp_path / "clip.mp4", frames=40, size_wh=(320, 200))
    mask = engine.segment(clip, "a square").objects[0]
    result = engine.view(mask.handle, crop=True, max_frames=4)
    assert len(set(result.origins_xy)) > 1 and len(result.frames) == 4
    width, height = result.shown_wh
    assert width < 320
    for frame, (x0, y0) in zip(result.frames, result.origins_xy, strict=True):
        left, top, right, bottom = mask.box_xyxy(frame)
        assert 0 <= x0 <= left and right <= x0 + width <= 320
        assert 0 <= y0 <= top and bottom <= y0 + height <= 200
    text = view(engine, mask.handle, crop=True, max_frames=4).text
    for frame, (x0, y0) in zip(result.frames, result.origins_xy, strict=True):
        assert f"({x0}, {y0}) on frame {frame}" in text


def test_several_masks_are_in_one_crop(engine, dots):
    path, box = dots
    result = engine.track(path, [list(box), [100, 100, 140, 130]])
    shown = engine.view(result.handle, crop=True)
    (x0, y0), (width, height) = shown.origins_xy[0], shown.shown_wh
    assert x0 <= 100 and y0 <= 100 and box[2] <= x0 + width and box[3] <= y0 + height


def test_a_crop_of_a_mask_that_fills_the_picture_is_the_picture(engine, dots):
    path, _ = dots
    mask = engine.track(path, [[0, 0, 1000, 700]]).objects[0].handle
    output = view(engine, mask, crop=True)
    assert "Cropped" not in output.text and output.pictures


@pytest.mark.parametrize(
    "box", [[0, 0, 2, 2], [999, 699, 1000, 700], [500, 0, 501, 700], [0, 350, 1000, 351]]
)
def test_a_crop_of_a_thin_mask_or_one_at_the_edge(engine, dots, box):
    path, _ = dots
    mask = engine.track(path, [box]).objects[0].handle
    shown = engine.view(mask, crop=True)
    (x0, y0), (width, height) = shown.origins_xy[0], shown.shown_wh
    assert 0 <= x0 <= box[0] and box[2] <= x0 + width <= 1000
    assert 0 <= y0 <= box[1] and box[3] <= y0 + height <= 700


def test_a_crop_needs_a_visible_mask(engine, tmp_path):
    clip = synthetic_clip(tmp_path / "clip.mp4")
    with pytest.raises(RequestError, match="no mask to crop to"):
        view(engine, str(clip), crop=True)
    late = engine.segment(clip, "red", start_s=1.0).objects[0].handle
    with pytest.raises(RequestError, match="No mask is visible on frame 0") as caught:
        view(engine, late, crop=True, frame_index=0)
    assert "Use frame 10" in caught.value.hint
    assert view(engine, late, crop=True, frame_index=10).pictures
