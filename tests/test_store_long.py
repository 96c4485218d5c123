"""Long tracks: hashed, written and exported in pieces, cancelled in between, in bounded memory."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from base64 import b32encode
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from polygon_filling import fill_polygons

from sa2va_tools.errors import CancelledError
from sa2va_tools.masks import rle
from sa2va_tools.masks.export import (
    ExportedMask,
    ExportedMasks,
    render_masks_json,
    write_masks_json,
    write_polygons,
)
from sa2va_tools.masks.polygons import Polygon
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.run import Run
from sa2va_tools.store.handles import compute_digest
from sa2va_tools.store.pieces import LazyArray, iter_json
from sa2va_tools.store.records import MaskRecord
from sa2va_tools.store.store import Store

MEDIA = "media:aaaaaaaaaa"
FRAMES = 1000
INFO = {"name": "clip.mp4", "size_wh": [120, 90], "frame_count": FRAMES, "fps": "25"}
TIMES = [number / 25 for number in range(FRAMES)]


@pytest.fixture(scope="module")
def record() -> MaskRecord:
    """Ragged masks, whose texts are long and differ much."""
    rng = np.random.default_rng(0)
    rles = tuple(rle.encode(rng.random((90, 120)) < 0.05) for _ in range(FRAMES))
    ones = (1.0,) * FRAMES
    return MaskRecord(
        media_handle=MEDIA,
        label="a cat",
        track=MaskTrack(
            size_wh=(120, 90),
            frame_indices=tuple(range(FRAMES)),
            rles=rles,
            object_scores=ones,
            mask_scores=ones,
        ),
        score=0.5,
        provenance={},
    )


class _CancelledAfter(Run):
    """Cancelled at the n-th check."""

    def __init__(self, checks: int) -> None:
        super().__init__()
        self._left = checks

    def raise_if_cancelled(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.cancel()
        super().raise_if_cancelled()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"b": [], "a": {}},
        {"b": list(range(1000)), "a": {"z": [1, {"y": 2, "x": None}], "c": "猫\ud800"}, "é": 0.1},
    ],
)
def test_pieces_are_the_json_from_which_handles_are_derived(content):
    whole = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert "".join(iter_json(content)) == whole
    lazy = {
        name: LazyArray(value.__iter__) if isinstance(value, list) else value
        for name, value in content.items()
    }
    assert "".join(iter_json(lazy)) == whole
    sha = b32encode(hashlib.sha256(whole.encode()).digest()).decode().rstrip("=").lower()
    assert compute_digest(content) == compute_digest(lazy) == sha


def test_a_long_track_is_restored(tmp_path, record):
    store = Store(tmp_path)
    handle = store.put_mask(record)
    assert Store(tmp_path).get_mask(handle) == record
    assert store.put_mask(record) == handle


def test_cancelled_writing_leaves_nothing(tmp_path, record):
    store = Store(tmp_path)
    for checks in (0, 5, 12):
        with pytest.raises(CancelledError):
            store.put_mask(record, _CancelledAfter(checks))
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    handle = store.put_mask(record)
    for checks in (0, 20, 500):
        with pytest.raises(CancelledError):
            store.get_mask(handle, _CancelledAfter(checks))
    with pytest.raises(CancelledError):
        store.put_mask(record, _CancelledAfter(40))  # it is there already, which is found by reading it
    assert (store.mask_media(handle), store.mask_label(handle)) == (MEDIA, "a cat")


def _shorten(track: MaskTrack, frames: int) -> MaskTrack:
    ones = (1.0,) * frames
    return MaskTrack(
        size_wh=track.size_wh,
        frame_indices=track.frame_indices[:frames],
        rles=track.rles[:frames],
        object_scores=ones,
        mask_scores=ones,
    )


def _most_traced(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_writing_more_frames_needs_no_more_memory(tmp_path, record):
    store = Store(tmp_path)
    short = _shorten(record.track, FRAMES // 4)
    little = _most_traced(lambda: store.put_mask(replace(record, track=short)))
    assert _most_traced(lambda: store.put_mask(record)) < 1.5 * little


def _make_combs(count: int) -> MaskTrack:
    """Masks of a single part whose outline has many corners."""
    rng = np.random.default_rng(0)
    heights = rng.integers(1, 20, (count, 600))
    rles = [rle.encode(np.arange(20)[:, None] < row) for row in heights]
    return MaskTrack(
        size_wh=(600, 20),
        frame_indices=tuple(range(count)),
        rles=rles,
        object_scores=(1.0,) * count,
        mask_scores=(1.0,) * count,
    )


def test_polygons_are_written_frame_by_frame(tmp_path):
    track = _make_combs(24)
    target = tmp_path / "polygons.json"
    objects = [ExportedMask("mask:aaaaaaaaaa", "a comb", 0.5, track)] * 2
    with pytest.raises(CancelledError):
        write_polygons(target, ExportedMasks(INFO, objects), _CancelledAfter(30))
    assert list(tmp_path.iterdir()) == []
    few = [objects[0]._replace(track=_make_combs(6))]
    little = _most_traced(lambda: write_polygons(target, ExportedMasks(INFO, few)))
    assert _most_traced(lambda: write_polygons(target, ExportedMasks(INFO, objects))) < 1.5 * little
    document = json.loads(target.read_text())
    assert [len(entry["frames"]) for entry in document["objects"]] == [24, 24]
    (part,) = document["objects"][1]["frames"][-1]["polygons"]
    assert np.array_equal(fill_polygons([Polygon(part["exterior"])], (600, 20)), track.mask(23))


def test_an_export_is_written_frame_by_frame(tmp_path, record):
    objects = [ExportedMask("mask:aaaaaaaaaa", "a cat", 0.5, record.track)] * 2
    target = tmp_path / "masks.json"
    target.write_text("old")
    with pytest.raises(CancelledError):
        write_masks_json(target, ExportedMasks(INFO, objects), TIMES, run=_CancelledAfter(100))
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    most = _most_traced(lambda: write_masks_json(target, ExportedMasks(INFO, objects), TIMES))
    assert most < 0.6 * sum(map(len, record.track.iter_counts()))
    text = target.read_text()
    assert text == render_masks_json(ExportedMasks(INFO, objects), TIMES)
    document = json.loads(text)
    assert json.dumps(document, separators=(",", ":"), ensure_ascii=False) == text
    assert [len(entry["frames"]) for entry in document["objects"]] == [FRAMES, FRAMES]
    assert document["objects"][1]["frames"][-1]["rle"] == record.track.at(FRAMES - 1)


def test_an_export_without_objects_is_an_empty_list():
    assert json.loads(render_masks_json(ExportedMasks(INFO, []), TIMES))["objects"] == []
