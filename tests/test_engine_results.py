"""What a result offers: masks as arrays, boxes, frames, other libraries' types, and files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from sa2va_tools.errors import MissingExtraError, RequestError
from sa2va_tools.masks import rle
from sa2va_tools.testing import FakeEngine, synthetic_clip

RED, BLUE, NONE = "the red box", "the blue box", "a unicorn"


@pytest.fixture(scope="module")
def engine():
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def result(engine, tmp_path_factory):
    clip = synthetic_clip(tmp_path_factory.mktemp("media") / "clip.mp4", frames=6)
    return engine.segment(clip, [RED, NONE, BLUE], stride=2)


@pytest.fixture(scope="module")
def still(engine):
    return engine.segment(np.zeros((48, 64, 3), np.uint8), [RED, BLUE])


# ---- pixels ---------------------------------------------------------------------------------------


def test_an_object_is_found_by_its_label_or_number(result):
    assert result[RED] is result[0] is result.objects[0]
    assert len(result) == 3 and bool(result)
    with pytest.raises(KeyError, match="the blue box"):
        result["the green box"]


def test_a_mask_is_a_boolean_array_of_the_frames_size(result):
    mask = result[RED].mask(2)
    assert mask.shape == (64, 96) and mask.dtype == bool and mask.any()
    x0, y0, x1, y1 = result[RED].box_xyxy(2)
    ys, xs = np.nonzero(mask)
    assert (x0, y0, x1, y1) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_a_missing_object_has_empty_masks_and_no_box(result):
    missing = result[NONE]
    assert not missing.found and missing.reason
    assert not missing.mask(0).any() and missing.box_xyxy(0) is None


@pytest.mark.parametrize("frame", [1, 6, -1])
def test_a_frame_that_was_not_searched_is_refused(result, frame):
    with pytest.raises(RequestError, match=str(frame)):
        result[RED].mask(frame)
    with pytest.raises(RequestError, match=f"Frame {frame} has no masks"):
        result.frame(frame)


def test_an_image_needs_no_frame_number(still, result):
    assert still[RED].mask().any() and still[RED].box_xyxy() is not None
    assert still.frame().masks.shape == (2, 48, 64)
    with pytest.raises(RequestError, match="frame"):
        result.frame()
    with pytest.raises(RequestError, match="frame"):
        result[RED].mask()


def test_masks_index_like_an_array(result):
    masks = result.masks
    whole = np.asarray(masks)
    assert masks.shape == whole.shape == (3, 3, 64, 96) and whole.dtype == bool
    assert (masks.ndim, masks.dtype, len(masks)) == (4, bool, 3)
    for index in (
        0, -1, (0, 1), (slice(None), 2), (slice(None), -1), slice(1, 3), (0, slice(None, None, 2)),
        (0, 1, 5), (2, 0, slice(3, 9), slice(None, None, -1)), ([0, 2], 1), Ellipsis, (..., 4),
        (np.array([True, False, True]), 0), (slice(0, 0),),
    ):  # fmt: skip
        np.testing.assert_array_equal(masks[index], whole[index], err_msg=str(index))
    np.testing.assert_array_equal(np.stack(list(masks)), whole)
    assert np.array(masks, dtype=np.uint8).sum() == whole.sum()
    np.testing.assert_array_equal(masks[0, 1], result[RED].mask(2))
    for outside in (3, (0, 3), (-4,)):
        with pytest.raises(IndexError):
            masks[outside]


def test_masks_are_decoded_only_when_they_are_indexed(result, monkeypatch):
    decoded = []
    real = rle.decode
    monkeypatch.setattr(rle, "decode", lambda data: decoded.append(1) or real(data))
    masks = result.masks
    assert masks.shape and not decoded
    masks[0, 1]
    assert len(decoded) == 1


def test_frames_come_in_the_order_of_time(result):
    frames = list(result)
    assert [frame.index for frame in frames] == [0, 2, 4] == list(result.frame_indices)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.2, 0.4])
    for frame in frames:
        assert frame.labels == (RED, NONE, BLUE)
        assert frame.masks.shape == (3, 64, 96) and frame.scores.shape == (3,)
        np.testing.assert_array_equal(frame.masks[0], result[RED].mask(frame.index))
        assert frame.scores[1] == 0 and 0 < frame.scores[0] <= 1


def test_a_result_without_any_mask(engine):
    result = engine.segment(np.zeros((48, 64, 3), np.uint8), NONE)
    assert result.masks.shape == (1, 0, 48, 64) and list(result) == []
    assert np.asarray(result.masks).size == 0
    with pytest.raises(RequestError, match="no masks"):
        result.frame(0)


def test_grounded_answers_and_tracks_offer_the_same(engine):
    picture = np.zeros((48, 64, 3), np.uint8)
    grounded = engine.ground(picture)
    phrase = grounded.objects[0]
    assert grounded[phrase.label].mask().any() and grounded.masks.shape[0] == 2
    tracked = engine.track(picture, (5, 5, 20, 20))
    assert tracked[0].mask()[5:20, 5:20].all()


# ---- other libraries ------------------------------------------------------------------------------


def test_detections_for_supervision(result, still):
    supervision = pytest.importorskip("supervision")
    detections = result.to_detections(2)
    assert isinstance(detections, supervision.Detections) and len(detections) == 2
    assert list(detections.data["class_name"]) == [RED, BLUE]
    assert list(detections.tracker_id) == [0, 2] == list(detections.class_id)
    np.testing.assert_array_equal(detections.mask[0], result[RED].mask(2))
    np.testing.assert_allclose(detections.xyxy[0], result[RED].box_xyxy(2))
    assert detections.confidence[0] == pytest.approx(result.frame(2).scores[0])
    assert len(still.to_detections()) == 2
    (first, *_) = list(result)
    assert len(first.to_detections()) == 2
    picture = supervision.MaskAnnotator().annotate(np.zeros((64, 96, 3), np.uint8), detections)
    assert picture[result[RED].mask(2)].any()


def test_detections_of_nothing(engine):
    supervision = pytest.importorskip("supervision")
    result = engine.segment(np.zeros((48, 64, 3), np.uint8), [NONE, RED])
    assert len(result.to_detections()) == 1
    assert len(supervision.Detections.empty()) == 0


def test_a_data_frame_for_pandas(result):
    pandas = pytest.importorskip("pandas")
    table = result.to_dataframe()
    assert isinstance(table, pandas.DataFrame) and len(table) == 3 + 1 + 3
    row = table[(table.label == RED) & (table.frame_index == 2)].iloc[0]
    assert row.area == result[RED].mask(2).sum() and row.time_s == pytest.approx(0.2)
    assert tuple(row[["x0", "y0", "x1", "y1"]]) == result[RED].box_xyxy(2)
    assert not table[table.label == NONE].found.any()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # inside pycocotools
def test_a_coco_dataset(result):
    document = json.loads(json.dumps(result.to_coco()))
    assert [image["frame_index"] for image in document["images"]] == [0, 2, 4]
    assert [category["name"] for category in document["categories"]] == [RED, NONE, BLUE]
    first = document["annotations"][0]
    encoded = first["segmentation"] | {"counts": first["segmentation"]["counts"].encode()}
    np.testing.assert_array_equal(coco.decode(encoded), result[RED].mask(0))
    assert first["area"] == result[RED].mask(0).sum()
    x, y, width, height = first["bbox"]
    assert (x, y, x + width, y + height) == result[RED].box_xyxy(0)
    assert len({annotation["id"] for annotation in document["annotations"]}) == 6


@pytest.mark.parametrize(("library", "call"), [("supervision", "to_detections"), ("pandas", "to_dataframe")])
def test_a_library_that_is_not_installed_is_named(result, monkeypatch, library, call):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=library) as caught:
        getattr(result, call)(*((2,) if call == "to_detections" else ()))
    assert f"sa2va-tools[{library}]" in caught.value.hint


# ---- files ----------------------------------------------------------------------------------------


def test_every_format_is_written(result, tmp_path):
    formats = ["json", "png", "overlay", "npz", "coco", "polygons"]
    files = result.save(tmp_path / "out", formats)
    assert list(files) == [*formats[:3], "legend", *formats[3:]]
    stored = np.load(files["npz"])
    np.testing.assert_array_equal(stored["masks"][0], result.masks[0])
    assert list(stored["frame_indices"]) == [0, 2, 4] and list(stored["labels"]) == [RED, BLUE]
    documents = {kind: _read_json(files[kind]) for kind in ("coco", "polygons", "json")}
    assert len(documents["coco"]["annotations"]) == 6
    assert documents["polygons"]["objects"][0]["label"] == RED
    assert [each["label"] for each in documents["json"]["objects"]] == [RED, BLUE, NONE]


def _read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_a_result_without_masks_says_so_in_its_files(engine, tmp_path):
    result = engine.segment(np.zeros((48, 64, 3), np.uint8), NONE)
    for files in (result.save(tmp_path / "saved"), engine.export(result.handle, tmp_path / "exported")):
        assert list(files) == ["json"]
        (missing,) = _read_json(files["json"])["objects"]
        assert (missing["label"], missing["found"], missing["frames"]) == (NONE, False, [])
        assert missing["reason"] == result.objects[0].reason
    files = result.save(tmp_path / "saved", ["coco", "npz", "polygons"])
    assert list(files) == ["json", "coco", "polygons"]
    coco = _read_json(files["coco"])
    assert coco["info"]["not_found"] == [{"label": NONE, "reason": result.objects[0].reason}]
    assert [each["name"] for each in coco["categories"]] == [NONE] and not coco["annotations"]
    assert [each["found"] for each in _read_json(files["polygons"])["objects"]] == [False]


def test_what_was_not_found_stands_after_the_masks(engine, clip, tmp_path):
    result = engine.segment(clip, [NONE, RED, "another unicorn", BLUE])
    for files in (result.save(tmp_path / "saved"), engine.export(result.handle, tmp_path / "exported")):
        objects = _read_json(files["json"])["objects"]
        labels = [(each["label"], each["found"]) for each in objects]
        assert labels == [(RED, True), (BLUE, True), (NONE, False), ("another unicorn", False)]
    alone = engine.export(result.objects[1].handle, tmp_path / "alone")
    assert [each["label"] for each in _read_json(alone["json"])["objects"]] == [RED]
