"""Marks: files stay readable, and only what we wrote and nobody changed counts as ours."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.media.marks import is_own_file, mark_file

PIXELS = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8)
NAMES = ["a.json", "a.png", "a.jpg", "a.JPEG", "a.webp", "a.mp4", "a.npz"]


def write(path):
    if path.suffix == ".json":
        path.write_text('{"a":1}', "utf-8")
    elif path.suffix == ".npz":
        np.savez_compressed(path, masks=PIXELS)
    elif path.suffix == ".mp4":
        with VideoWriter(path, (64, 48), Fraction(5), threads=1) as writer:
            for _ in range(3):
                writer.write(PIXELS)
    else:
        Image.fromarray(PIXELS).save(path)
    return path


def read(path):
    if path.suffix == ".json":
        document = json.loads(path.read_text("utf-8"))
        return {name: value for name, value in document.items() if name != "written_by"}
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["masks"].tolist()
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return [frame.to_ndarray().tolist() for frame in container.decode(video=0)]
    with Image.open(path) as picture:
        return np.asarray(picture).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_marked_file_has_the_same_content_and_counts_as_ours_until_it_changes(tmp_path, name):
    path = write(tmp_path / name)
    content = read(path)
    assert not is_own_file(path)
    mark_file(path)
    assert is_own_file(path) and read(path) == content

    data = path.read_bytes()
    for changed in (data[:-1], data + b"\n", data[:20] + bytes([data[20] ^ 1]) + data[21:]):
        path.write_bytes(changed)
        assert not is_own_file(path)


def test_a_picture_that_a_program_saved_again_is_not_ours(tmp_path):
    path = write(tmp_path / "a.png")
    mark_file(path)
    with Image.open(path) as picture:
        picture.load()
        picture.save(path)
    assert not is_own_file(path)


def test_links_folders_other_kinds_and_absent_files_are_not_ours(tmp_path):
    path = write(tmp_path / "a.png")
    mark_file(path)
    (tmp_path / "b.png").symlink_to(path)
    (tmp_path / "c.png").mkdir()
    (tmp_path / "d.txt").write_bytes(path.read_bytes())
    (tmp_path / "e.png").touch()
    assert not any(is_own_file(tmp_path / name) for name in ("b.png", "c.png", "d.txt", "e.png", "f.png"))


def test_what_has_no_room_for_a_mark_is_refused(tmp_path):
    for name, data in (("a.txt", b"x"), ("a.json", b"[]"), ("a.png", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name.removeprefix("a")):
            mark_file(tmp_path / name)
        assert (tmp_path / name).read_bytes() == data
