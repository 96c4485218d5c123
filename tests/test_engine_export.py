"""Exports: names of frames, the size of overlays, and what may be replaced, also while they are written."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sa2va_tools import Run
from sa2va_tools.errors import StoreError
from sa2va_tools.media.marks import is_own_file
from sa2va_tools.testing import FakeEngine


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path / "store") as made:
        yield made


def make_frames(folder, names):
    folder.mkdir()
    for shade, name in enumerate(names):
        Image.new("RGB", (64, 48), (shade, 90, 90)).save(os.path.join(folder, name))  # noqa: PTH118
    return folder


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- names ----------------------------------------------------------------------------------------


def test_files_of_a_folder_of_frames_have_the_frames_names(engine, tmp_path):
    names = ["IMG_0008.jpg", "IMG_0009.JPG", "IMG_0012.png", "last one.jpeg"]
    folder = make_frames(tmp_path / "frames", names)
    result = engine.segment(folder, "a box")
    for files in (
        result.save(tmp_path / "a", ["png", "coco", "polygons"]),
        engine.export(result.handle, tmp_path / "b", formats=["png", "coco", "polygons"]),
    ):
        pictures = {path.name for path in Path(files["png"]).iterdir()}
        stems = [Path(name).stem for name in names]
        assert pictures == {*(f"{s}.png" for s in stems), *(f"object_01_{s}.png" for s in stems)}
        for kind in ("json", "polygons"):
            frames = json.loads(Path(files[kind]).read_text("utf-8"))["objects"][0]["frames"]
            assert [frame["file_name"] for frame in frames] == names
        coco = json.loads(Path(files["coco"]).read_text("utf-8"))
        assert [image["file_name"] for image in coco["images"]] == names
        with Image.open(Path(files["png"]) / "IMG_0012.png") as picture:
            np.testing.assert_array_equal(np.array(picture) > 0, result.masks[0, 2])
    assert [image["file_name"] for image in result.to_coco()["images"]] == names


def test_videos_and_images_keep_numbers_as_names(engine, clip, tmp_path):
    files = engine.export(engine.segment(clip, "a box", end_s=0.1).handle, tmp_path / "out")
    names = {path.name for path in Path(files["png"]).iterdir()}
    assert names == {f"{kind}frame_00000{n}.png" for kind in ("", "object_01_") for n in (0, 1)}
    assert "file_name" not in json.loads(Path(files["json"]).read_text())["objects"][0]["frames"][0]


NAMES = {
    "same stem twice": ["a.jpg", "a.png", "b.png"],
    "same letters": ["A.png", "a.jpg"],
    "like our names": ["frame_000001.png", "object_01_x.png", "x.png", "frame_000000.png"],
    "long": ["x" * 250 + ".png", "x" * 250 + ".jpg", "y" * 246 + ".jpeg"],
    "words": ["été 1.png", "日本.png", "a\nb.png", "'quoted'.png", "100%.png"],
}


@pytest.mark.parametrize("kind", NAMES)
def test_every_frame_has_a_file_of_its_own(engine, tmp_path, kind):
    folder = make_frames(tmp_path / "frames", NAMES[kind])
    result = engine.segment(folder, ["a box", "a ball"])
    files = engine.export(result.handle, tmp_path / "out")
    written = list(Path(files["png"]).iterdir())
    assert len({path.name.casefold() for path in written}) == 3 * len(NAMES[kind])
    assert all(path.suffix == ".png" and is_own_file(path) for path in written)
    assert engine.export(result.handle, tmp_path / "out") == files


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_are_kept_on_disk_and_replaced_in_documents(engine, tmp_path):
    folder = make_frames(tmp_path / "frames", [os.fsdecode(b"caf\xe9.png"), "b.png"])
    files = engine.export(engine.segment(folder, "a box").handle, tmp_path / "out")
    assert os.fsencode(tmp_path / "out") + b"/masks/caf\xe9.png" in [
        os.fsencode(path) for path in Path(files["png"]).iterdir()
    ]
    frames = json.loads(Path(files["json"]).read_bytes().decode("utf-8"))["objects"][0]["frames"]
    assert {frame["file_name"] for frame in frames} == {"b.png", "caf?.png"}


# ---- size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 12])
def test_an_overlay_is_as_large_as_its_source_however_long_the_legend(engine, clip, tmp_path, count):
    expressions = [f"a box {number}" for number in range(count)]
    files = engine.export(engine.segment(clip, expressions).handle, tmp_path / "video")
    with av.open(files["overlay"]) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (96, 64, 16)
    with Image.open(files["legend"]) as legend:
        assert legend.height >= 20 * count and legend.width >= 300
    Image.new("RGB", (65, 47), (200, 30, 30)).save(tmp_path / "odd.png")
    files = engine.export(engine.segment(tmp_path / "odd.png", expressions).handle, tmp_path / "image")
    with Image.open(files["overlay"]) as overlay:
        assert overlay.size == (65, 47)


# ---- what may be replaced -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["masks.json", "overlay.mp4", "legend.png", "masks/frame_000003.png", "coco.json", "masks.npz"],
)
@pytest.mark.parametrize("when", ["before", "while it is written"])
def test_an_edited_file_of_ours_is_a_file_of_the_user(engine, clip, tmp_path, name, when):
    formats = ["png", "overlay", "coco", "npz"]
    result = engine.segment(clip, "a box")
    engine.export(result.handle, tmp_path / "out", formats=formats)
    target = tmp_path / "out" / name

    def edit():
        target.write_bytes(target.read_bytes()[:-1] + b" ")

    def on_progress(report):
        if report.stage == "overlay" and report.done == 3:
            edit()

    if when == "before":
        edit()
    before = content(tmp_path / "out")
    with pytest.raises(StoreError, match=target.name if when == "before" else "out"):
        engine.export(
            engine.segment(clip, "a ball").handle,
            tmp_path / "out",
            formats=formats,
            run=None if when == "before" else Run(on_progress),
        )
    edited = before | {name: target.read_bytes()}
    assert content(tmp_path / "out") == edited
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_file_that_appears_while_an_export_is_written_is_kept(engine, clip, tmp_path):
    out = tmp_path / "out"

    def on_progress(report):
        if report.stage == "overlay" and report.done == 3:
            (out / "overlay.mp4").write_bytes(b"theirs")

    with pytest.raises(StoreError, match=r"overlay\.mp4 was not written by sa2va-tools"):
        engine.export(engine.segment(clip, "a box").handle, out, run=Run(on_progress))
    assert content(out) == {"overlay.mp4": b"theirs"}


def test_links_in_the_folder_are_not_followed(engine, clip, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "masks.json").write_text("{}", "utf-8")
    for name, target in (("masks.json", theirs / "masks.json"), ("masks", theirs), ("overlay.mp4", "gone")):
        out = tmp_path / f"out of {name}"
        out.mkdir()
        (out / name).symlink_to(target)
        with pytest.raises(StoreError, match=name):
            engine.export(engine.segment(clip, "a box").handle, out)
        assert os.readlink(out / name) == str(target) and len(list(out.iterdir())) == 1  # noqa: PTH115
    assert content(theirs) == {"masks.json": b"{}"}


def test_a_link_to_a_folder_is_a_folder(engine, clip, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files = engine.export(engine.segment(clip, "a box").handle, tmp_path / "link")
    assert Path(files["overlay"]).is_file() and (tmp_path / "real" / "masks.json").is_file()


def test_two_formats_one_after_the_other_stay_side_by_side(engine, clip, tmp_path):
    result = engine.segment(clip, "a box")
    result.save(tmp_path / "out", ["npz"])
    result.save(tmp_path / "out", ["overlay"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "masks.json",
        "masks.npz",
        "overlay.mp4",
        "legend.png",
    }


def test_an_export_can_be_moved_and_copied_and_is_still_ours(engine, clip, tmp_path):
    result = engine.segment(clip, "a box")
    engine.export(result.handle, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert set(engine.export(engine.segment(clip, "a ball").handle, tmp_path / "copy")) >= {"png", "overlay"}


def test_the_home_folder_can_be_written_as_a_tilde(engine, clip, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    files = engine.segment(clip, "a box").save("~/found", "json")
    assert files == {"json": str(tmp_path / "found" / "masks.json")}
