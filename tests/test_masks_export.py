"""masks.json, polygons.json and PNGs: what they contain, and that they are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from polygon_filling import fill_polygons
from pycocotools import mask as coco

from sa2va_tools.errors import CancelledError, RequestError, StoreError
from sa2va_tools.masks import rle
from sa2va_tools.masks.export import ExportedMask, ExportedMasks, write_masks_json, write_polygons
from sa2va_tools.masks.palette import pick_color
from sa2va_tools.masks.png import write_mask_pngs
from sa2va_tools.masks.polygons import Polygon
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.run import Run

INFO = {"name": "clip.mp4", "size_wh": [8, 6], "frame_count": 5, "fps": "30000/1001"}
TIMES = [0.0, 0.1, 0.25, 0.3, 0.4]


def _rectangle(x0: int, y0: int, x1: int, y1: int) -> rle.Rle:
    mask_hw = np.zeros((6, 8), dtype=bool)
    mask_hw[y0:y1, x0:x1] = True
    return rle.encode(mask_hw)


def _objects() -> list[ExportedMask]:
    large = MaskTrack(
        size_wh=(8, 6),
        frame_indices=(0, 2, 4),
        rles=(_rectangle(1, 1, 5, 4), _rectangle(0, 0, 0, 0), _rectangle(0, 0, 8, 6)),
        object_scores=(0.9, 0.1, 0.8),
        mask_scores=(0.5, 0.0, 1.0),
    )
    small = MaskTrack(
        size_wh=(8, 6),
        frame_indices=(4,),
        rles=(_rectangle(2, 2, 4, 4),),
        object_scores=(1.0,),
        mask_scores=(0.75,),
    )
    return [
        ExportedMask("mask:aaaaaaaaaa", "the cat 猫 \ud800", 0.6, large),
        ExportedMask(None, "b", 0.75, small),
    ]


def test_masks_json_describes_the_tracks(tmp_path):
    write_masks_json(tmp_path / "masks.json", ExportedMasks(INFO, _objects()), TIMES)
    document = json.loads((tmp_path / "masks.json").read_text(encoding="utf-8"))
    assert document["format"] == "sa2va-masks/1"
    assert document["media"] == INFO
    first, second = document["objects"]
    assert first["handle"] == "mask:aaaaaaaaaa"
    assert first["label"].startswith("the cat 猫")
    assert first["spans"] == [
        {"start_frame": 0, "end_frame": 0, "start_s": 0.0, "end_s": 0.0},
        {"start_frame": 4, "end_frame": 4, "start_s": 0.4, "end_s": 0.4},
    ]
    assert [frame["frame_index"] for frame in first["frames"]] == [0, 2, 4]
    assert first["frames"][0]["box_xyxy"] == [1, 1, 5, 4]
    assert first["frames"][0]["area"] == 12
    assert first["frames"][0]["score"] == pytest.approx(0.45)
    assert [frame["mask_score"] for frame in first["frames"]] == [0.5, 0.0, 1.0]
    assert [frame["suspect"] for frame in first["frames"]] == [[], ["lost"], ["full frame"]]
    assert first["frames"][1]["box_xyxy"] is None
    assert first["frames"][1]["time_s"] == 0.25
    assert second["handle"] is None
    assert coco.toBbox(second["frames"][0]["rle"]).tolist() == [2, 2, 2, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["masks.json"]


def test_polygons_json_gives_every_mask_back(tmp_path):
    holed = np.zeros((6, 8), dtype=bool)
    holed[0:5, 0:5] = True
    holed[1:4, 1:4] = False
    holed[2, 2] = True
    holed[5, 7] = True
    track = MaskTrack(
        size_wh=(8, 6),
        frame_indices=(0, 3),
        rles=(rle.encode(holed), rle.empty((8, 6))),
        object_scores=(0.9, 0.1),
        mask_scores=(0.5, 0.0),
    )
    objects = [*_objects(), ExportedMask("mask:bbbbbbbbbb", "holed", 0.5, track)]
    write_polygons(tmp_path / "polygons.json", ExportedMasks(INFO, objects))
    document = json.loads((tmp_path / "polygons.json").read_text(encoding="utf-8"))
    assert document["format"] == "sa2va-polygons/1" and document["media"] == INFO
    assert [(entry["handle"], entry["label"]) for entry in document["objects"]] == [
        ("mask:aaaaaaaaaa", "the cat 猫 ?"),
        (None, "b"),
        ("mask:bbbbbbbbbb", "holed"),
    ]
    for entry, written in zip(objects, document["objects"], strict=True):
        assert tuple(frame["frame_index"] for frame in written["frames"]) == entry.track.frame_indices
        for frame in written["frames"]:
            polygons = [Polygon(part["exterior"], tuple(part["holes"])) for part in frame["polygons"]]
            assert np.array_equal(fill_polygons(polygons, (8, 6)), entry.track.mask(frame["frame_index"]))
    ring, corner, island = document["objects"][2]["frames"][0]["polygons"]
    assert sorted(map(tuple, ring["exterior"])) == [(0, 0), (0, 5), (5, 0), (5, 5)]
    assert sorted(map(tuple, ring["holes"][0])) == [(1, 1), (1, 4), (4, 1), (4, 4)]
    assert corner["holes"] == island["holes"] == []
    assert document["objects"][2]["frames"][1]["polygons"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["polygons.json"]


def test_polygons_that_cannot_be_written_leave_the_old_file(tmp_path):
    target = tmp_path / "polygons.json"
    target.write_text("old")
    run = Run()
    run.cancel()
    with pytest.raises(CancelledError):
        write_polygons(target, ExportedMasks(INFO, _objects()), run)
    with pytest.raises(ValueError, match="JSON"):
        write_polygons(target, ExportedMasks({**INFO, "fps": float("inf")}, _objects()))
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with pytest.raises(StoreError, match="Cannot write"):
        write_polygons(tmp_path / "absent" / "polygons.json", ExportedMasks(INFO, _objects()))


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    target = tmp_path / "masks.json"
    target.write_text("old")
    broken = [_objects()[0]._replace(score=float("nan"))]
    with pytest.raises(ValueError, match="JSON"):
        write_masks_json(target, ExportedMasks(INFO, broken), TIMES)
    with pytest.raises(ValueError, match="timestamps_s"):
        write_masks_json(target, ExportedMasks(INFO, _objects()), TIMES[:2])
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(StoreError, match="Cannot write") as caught:
        write_masks_json(tmp_path / "absent" / "masks.json", ExportedMasks(INFO, _objects()), TIMES)
    assert "folder" in caught.value.hint


def test_pngs_show_every_covered_frame(tmp_path):
    count = write_mask_pngs(tmp_path / "masks", _objects())
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert count == len(names) == 7
    assert names[:3] == ["frame_000000.png", "frame_000002.png", "frame_000004.png"]
    with Image.open(tmp_path / "masks" / "frame_000004.png") as picture:
        assert picture.mode == "P"
        assert tuple(picture.getpalette()[3:9]) == (*pick_color(1), *pick_color(2))
        indices = np.array(picture)
    expected = np.ones((6, 8), dtype=np.uint8)
    expected[2:4, 2:4] = 2  # the smaller object shows
    assert np.array_equal(indices, expected)
    with Image.open(tmp_path / "masks" / "object_01_frame_000004.png") as picture:
        assert np.array_equal(np.array(picture), np.full((6, 8), 255))


def test_many_frames_get_no_binaries(tmp_path):
    assert write_mask_pngs(tmp_path / "masks", _objects(), binary_up_to_frames=2) == 3


def test_an_older_export_is_replaced_but_nothing_else(tmp_path):
    folder = tmp_path / "masks"
    write_mask_pngs(folder, _objects())
    assert write_mask_pngs(folder, _objects()[1:]) == 2
    assert len(list(folder.iterdir())) == 2
    (folder / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(StoreError, match="not written by sa2va-tools"):
        write_mask_pngs(folder, _objects())
    assert len(list(folder.iterdir())) == 3
    assert (folder / "holiday.jpg").read_bytes() == b"dear"
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="not written by sa2va-tools"):
        write_mask_pngs(tmp_path / "file", _objects())


def test_a_cancelled_export_leaves_nothing(tmp_path):
    def cancel(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        write_mask_pngs(tmp_path / "masks", _objects(), on_frame=cancel)
    assert list(tmp_path.iterdir()) == []


def test_objects_that_one_png_cannot_show_are_refused(tmp_path):
    other = MaskTrack(
        size_wh=(4, 4),
        frame_indices=(0,),
        rles=(rle.empty((4, 4)),),
        object_scores=(1.0,),
        mask_scores=(0.0,),
    )
    with pytest.raises(RequestError, match="different sizes"):
        write_mask_pngs(tmp_path / "m", [*_objects(), ExportedMask(None, "c", 0.0, other)])
    with pytest.raises(RequestError, match="got 0"):
        write_mask_pngs(tmp_path / "m", [])
    with pytest.raises(RequestError, match="got 256"):
        write_mask_pngs(tmp_path / "m", _objects()[:1] * 256)
    assert not Path(tmp_path / "m").exists()
