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

from sa2va_tools.errors import CancelledError
from sa2va_tools.masks import rle
from sa2va_tools.masks.export import ExportedMask, masks_json, write_masks_json
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.store.handles import digest_of
from sa2va_tools.store.pieces import Many, json_pieces
from sa2va_tools.store.records import MaskRecord
from sa2va_tools.store.store import Store

MEDIA = "media:aaaaaaaaaa"
FRAMES = 1000
INFO = {"name": "clip.mp4", "size_wh": [120, 90], "frame_count": FRAMES, "fps": "25"}
TIMES = [number / 25 for number in range(FRAMES)]


@pytest.fixture(scope="module")
def record() -> MaskRecord:
    """Ragged masks, whose texts are long and have little in common."""
    rng = np.random.default_rng(0)
    rles = tuple(rle.encode(rng.random((90, 120)) < 0.05) for _ in range(FRAMES))
    ones = (1.0,) * FRAMES
    return MaskRecord(MEDIA, "a cat", MaskTrack((120, 90), tuple(range(FRAMES)), rles, ones, ones), 0.5, {})


class _After:
    """Stops the work at the n-th look."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise CancelledError("enough", hint="")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"b": [], "a": {}},
        {"b": list(range(1000)), "a": {"z": [1, {"y": 2, "x": None}], "c": "猫\ud800"}, "é": 0.1},
    ],
)
def test_pieces_are_the_json_that_handles_have_always_stood_for(content):
    whole = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert "".join(json_pieces(content)) == whole
    lazy = {
        name: Many(value.__iter__) if isinstance(value, list) else value for name, value in content.items()
    }
    assert "".join(json_pieces(lazy)) == whole
    sha = b32encode(hashlib.sha256(whole.encode()).digest()).decode().rstrip("=").lower()
    assert digest_of(content) == digest_of(lazy) == sha


def test_a_long_track_comes_back(tmp_path, record):
    store = Store(tmp_path)
    handle = store.put_mask(record)
    assert Store(tmp_path).get_mask(handle) == record
    assert store.put_mask(record) == handle


def test_writing_stops_when_it_is_cancelled_and_leaves_nothing(tmp_path, record):
    store = Store(tmp_path)
    for looks in (0, 5, 12):
        with pytest.raises(CancelledError):
            store.put_mask(record, _After(looks))
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    handle = store.put_mask(record)
    for looks in (0, 20, 500):
        with pytest.raises(CancelledError):
            store.get_mask(handle, _After(looks))
    with pytest.raises(CancelledError):
        store.put_mask(record, _After(40))  # it is there already, which is found by reading it
    assert (store.mask_media(handle), store.mask_label(handle)) == (MEDIA, "a cat")


def _most_traced(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_writing_needs_no_more_for_more_frames(tmp_path, record):
    track, store = record.track, Store(tmp_path)
    part = FRAMES // 4
    short = MaskTrack(
        track.size_wh, track.frame_indices[:part], track.rles[:part], (1.0,) * part, (1.0,) * part
    )
    little = _most_traced(lambda: store.put_mask(replace(record, track=short)))
    assert _most_traced(lambda: store.put_mask(record)) < 1.5 * little


def test_an_export_is_written_frame_by_frame(tmp_path, record):
    objects = [ExportedMask("mask:aaaaaaaaaa", "a cat", 0.5, record.track)] * 2
    target = tmp_path / "masks.json"
    target.write_text("old")
    with pytest.raises(CancelledError):
        write_masks_json(target, INFO, objects, TIMES, _After(100))
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    most = _most_traced(lambda: write_masks_json(target, INFO, objects, TIMES))
    assert most < 0.6 * sum(map(len, record.track.counts()))
    text = target.read_text()
    assert text == masks_json(INFO, objects, TIMES)
    document = json.loads(text)
    assert json.dumps(document, separators=(",", ":"), ensure_ascii=False) == text
    assert [len(entry["frames"]) for entry in document["objects"]] == [FRAMES, FRAMES]
    assert document["objects"][1]["frames"][-1]["rle"] == record.track.at(FRAMES - 1)


def test_nothing_to_export_is_an_empty_list():
    assert json.loads(masks_json(INFO, [], TIMES))["objects"] == []
