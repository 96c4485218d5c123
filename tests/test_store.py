"""Handles survive restarts, damage is reported in words, and concurrent writers do no harm."""

from __future__ import annotations

import gzip
import json
import os
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sa2va_tools.errors import MediaNotFoundError, RequestError, StoreError, UnknownHandleError
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.media.media import Media
from sa2va_tools.media.orientation import Orientation
from sa2va_tools.store.records import (
    AnswerRecord,
    ExtensionRecord,
    MaskRecord,
    media_from_json,
    media_to_json,
)
from sa2va_tools.store.store import Store

PROVENANCE = {"checkpoint": "nano", "llm_frames": [0, 3], "timings_s": {"propagate": 0.5}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data" / "store")


@pytest.fixture
def media(tmp_path: Path) -> Media:
    path = tmp_path / "clip ü.mp4"
    path.write_bytes(b"not really a video")
    return Media(
        path=path,
        kind="video",
        size_wh=(8, 6),
        frame_count=3,
        fps=Fraction(30000, 1001),
        timestamps_s=(0.0, 1 / 3, 0.7),
        content_hash="ab" * 32,
        container="mp4",
        rotation_deg=90,
        warnings=("odd",),
        last_frame_s=0.1,
        orientation=Orientation(True, True, False),
        pts=(0, 10, 21),
    )


def _mask(media_handle: str, label: str = "the cat", **provenance) -> MaskRecord:
    mask_hw = np.zeros((6, 8), dtype=bool)
    mask_hw[1:3, 2:5] = True
    track = MaskTrack(
        size_wh=(8, 6),
        frame_indices=(0, 2),
        rles=(rle.encode(mask_hw), rle.empty((8, 6))),
        object_scores=(0.9, 1 / 3),
        mask_scores=(0.7, 0.0),
    )
    return MaskRecord(
        media_handle=media_handle,
        label=label,
        track=track,
        score=0.63,
        provenance={**PROVENANCE, **provenance},
    )


def _answer(media_handle: str | None = None, **changes) -> AnswerRecord:
    record = AnswerRecord(
        media_handle=media_handle,
        kind="ground",
        question="what?",
        text="a cat \ud800猫",
        raw_text="<p>a cat</p>[SEG]",
        provenance=PROVENANCE,
    )
    return replace(record, **changes)


def _files(store: Store) -> list[Path]:
    return sorted(path for path in store.root.rglob("*") if path.is_file())


def test_records_survive_a_restart(store, media):
    media_handle = store.put_media(media)
    mask = _mask(media_handle)
    mask_handle = store.put_mask(mask)
    answer = _answer(
        media_handle,
        mask_handles=(mask_handle,),
        labels=("a cat",),
        warnings=("w",),
        turns=(("what is it?", "a cat"), ("what?", "<p>a cat</p>[SEG]")),
        extension=ExtensionRecord(
            llm_frames=(0, 1),
            prompt_frames=(1,),
            frames=(0, 2),
            answers=(("a cat", "It is [SEG]."),),
            missing=((1, "a dog", "no [SEG]"),),
        ),
    )
    answer_handle = store.put_answer(answer)
    again = Store(store.root)
    assert again.get_media(media_handle) == media
    assert again.get_mask(mask_handle) == mask
    assert again.get_answer(answer_handle) == answer
    assert set(again.handles()) == {media_handle, mask_handle, answer_handle}
    assert again.handles("mask") == (mask_handle,)


def test_a_record_that_lacks_a_newer_field_is_read(media):
    data = media_to_json(media)
    del data["complete"]
    assert media_from_json(data) == media


def test_a_folder_of_frames_is_restored(store, media, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    files = tuple(folder / f"{index}.png" for index in range(3))
    for file in files:
        file.write_bytes(b"x")
    handle = store.put_media(replace(media, path=folder, files=files))
    assert store.get_media(handle).files == files
    files[1].write_bytes(b"other")
    with pytest.raises(MediaNotFoundError, match="changed"):
        store.get_media(handle)


def test_handles_are_short_and_follow_the_content(store, media, tmp_path):
    handle = store.put_media(media)
    assert handle.startswith("media:")
    assert len(handle) == len("media:") + 10
    elsewhere = Store(tmp_path / "other")
    assert elsewhere.put_media(media) == handle == store.put_media(media)
    assert store.put_media(replace(media, content_hash="cd" * 32)) != handle
    mask_handle = store.put_mask(_mask(handle))
    assert store.put_mask(_mask(handle, timings_s={"propagate": 9.0})) == mask_handle
    mask = _mask(handle)
    rounded = replace(mask.track, object_scores=(0.9 + 6e-8, 1 / 3), mask_scores=(0.7 - 6e-8, 0.0))
    assert store.put_mask(replace(mask, score=0.63 + 6e-8, track=rounded)) == mask_handle
    assert store.put_mask(_mask(handle, label="the dog")) != mask_handle
    assert store.put_mask(_mask(handle, checkpoint="8b")) != mask_handle
    assert store.put_answer(_answer(text="b")) != store.put_answer(_answer(text="a"))


def test_a_record_is_immutable(store, media):
    handle = store.put_mask(_mask(store.put_media(media)))
    (path,) = (store.root / "v3" / "mask").iterdir()
    before = path.read_bytes()
    store.put_mask(_mask(store.put_media(media), timings_s={}))
    assert path.read_bytes() == before
    assert store.get_mask(handle).provenance["timings_s"] == {"propagate": 0.5}


def test_media_given_twice_changes_no_file(store, media):
    handle = store.put_media(media)
    (path,) = (store.root / "v3" / "media").iterdir()
    before = path.read_bytes()
    assert store.put_media(media) == handle
    assert path.read_bytes() == before


def test_colliding_ids_get_longer(store, media, monkeypatch):
    def alike(content, *_):
        return "a" * 12 + ("b" if content["content_hash"] == media.content_hash else "c") * 40

    monkeypatch.setattr("sa2va_tools.store.handles.compute_digest", alike)
    first = store.put_media(media)
    second = store.put_media(replace(media, content_hash="cd" * 32))
    assert first == "media:" + "a" * 10
    assert second == "media:" + "a" * 12 + "c" * 4
    assert store.put_media(replace(media, content_hash="cd" * 32)) == second
    assert store.get_media(first).content_hash == media.content_hash
    assert store.get_media(second).content_hash == "cd" * 32


def test_media_that_moved_or_changed_is_reported_until_it_is_given_again(store, media, tmp_path):
    handle = store.put_media(media)
    moved = media.path.rename(tmp_path / "new.mp4")
    with pytest.raises(MediaNotFoundError, match="no longer there") as caught:
        store.get_media(handle)
    assert "path" in caught.value.hint
    assert store.put_media(replace(media, path=moved)) == handle
    assert store.get_media(handle).path == moved
    moved.write_bytes(b"another video, longer")
    with pytest.raises(MediaNotFoundError, match="has changed"):
        store.get_media(handle)
    with pytest.raises(MediaNotFoundError, match="cannot be read"):
        store.put_media(replace(media, path=tmp_path / "absent.mp4"))


BAD_HANDLES = [
    "", "mask", "mask:", "mask:abc", "mask:../../../etc/passwd", "mask:abcdefghij/../x", "mask:ABCDEFGHIJ",
    "mask:abcdefghi0", "mask:abcdefghij\n", " mask:abcdefghij", "mask:" + "a" * 53, "file:abcdefghij",
    "mask:abcdefghij\x00", "mask:ａbcdefghij", "/etc/passwd", "mask:" + "x/" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("handle", BAD_HANDLES)
def test_malformed_handles_never_reach_the_disk(store, handle):
    with pytest.raises(UnknownHandleError, match="is not a handle; a mask handle looks like") as caught:
        store.get_mask(handle)
    assert len(caught.value.message) < 200
    assert "Masks come from segment, ground or track" in caught.value.hint
    assert not store.root.exists()


def test_an_unknown_handle_lists_known_ones(store, media):
    with pytest.raises(UnknownHandleError, match="mask:abcdefghij is not in the store") as caught:
        store.get_mask("mask:abcdefghij")
    assert "Masks come from segment, ground or track" in caught.value.hint
    assert "Known" not in caught.value.hint
    media_handle = store.put_media(media)
    known = [store.put_mask(_mask(media_handle, label=str(index))) for index in range(7)]
    with pytest.raises(UnknownHandleError) as caught:
        store.get_mask("mask:abcdefghij")
    assert sum(handle in caught.value.hint for handle in known) == 5


def test_a_handle_of_the_wrong_kind_is_named(store, media):
    handle = store.put_media(media)
    with pytest.raises(RequestError, match=f"{handle} is a media handle, but a mask handle is expected"):
        store.get_mask(handle)
    with pytest.raises(RequestError, match="an answer handle, but a media handle"):
        store.get_media("answer:abcdefghij")
    with pytest.raises(RequestError, match="but a media handle"):
        store.put_mask(_mask("mask:abcdefghij"))
    with pytest.raises(RequestError, match="but a mask handle"):
        store.put_answer(_answer(mask_handles=(handle,)))


def _document(**record) -> bytes:
    return gzip.compress(json.dumps({"format": "sa2va-store/3", "kind": "mask", "record": record}).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        gzip.compress(b""),
        gzip.compress(b"[1, 2]"),
        gzip.compress(b"\xff\xfe"),
        gzip.compress(b"null"),
        gzip.compress(b"[" * 100_000),
        gzip.compress(b'{"format": "other/9", "kind": "mask", "record": {}}'),
        gzip.compress(b'{"format": "sa2va-store/3", "kind": "answer", "record": {"provenance": {}}}'),
        _document(),
        _document(provenance={}),
        _document(provenance=[]),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_a_damaged_file_is_named_and_replaced_by_the_next_write(store, media, content):
    record = _mask(store.put_media(media))
    handle = store.put_mask(record)
    (path,) = (store.root / "v3" / "mask").iterdir()
    whole = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(StoreError, match=path.name) as caught:
        store.get_mask(handle)
    assert "Repeat the call" in caught.value.hint
    assert store.put_mask(record) == handle
    assert path.read_bytes() == whole


def test_truncated_and_altered_files_are_detected(store, media):
    handle = store.put_mask(_mask(store.put_media(media)))
    (path,) = (store.root / "v3" / "mask").iterdir()
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            store.get_mask(handle)
    document = json.loads(gzip.decompress(whole))
    document["record"]["counts"][0] = "0" + document["record"]["counts"][0]
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(StoreError, match="does not belong to its name"):
        store.get_mask(handle)


def test_a_record_with_other_fields_is_refused(store):
    from sa2va_tools.store import handles

    record = {"provenance": {}, "new_field": 1}
    record_id = handles.compute_digest(record)[:10]
    folder = store.root / "v3" / "mask"
    folder.mkdir(parents=True)
    (folder / f"{record_id}.json.gz").write_bytes(_document(**record))
    with pytest.raises(StoreError, match="fields are not the expected ones"):
        store.get_mask(f"mask:{record_id}")


def test_foreign_files_are_not_handles(store, media):
    handle = store.put_media(media)
    for name in ("notes.txt", "x.json.gz", ".partial-1", ".hidden.json.gz"):
        (store.root / "v3" / "media" / name).write_bytes(b"")
    assert store.handles() == (handle,)


def test_values_that_are_not_json_are_refused_and_nothing_is_written(store, media):
    media_handle = store.put_media(media)
    before = _files(store)
    with pytest.raises(ValueError, match="JSON"):
        store.put_mask(_mask(media_handle, speed=float("nan")))
    with pytest.raises(TypeError):
        store.put_mask(_mask(media_handle, array=np.zeros(3)))
    assert _files(store) == before


def test_keys_and_tuples_are_stored_as_json(store):
    handle = store.put_answer(_answer(provenance={10: (1, 2), 9: {"a": (3,)}}))
    assert store.get_answer(handle).provenance == {"10": [1, 2], "9": {"a": [3]}}


def test_a_file_in_the_place_of_a_folder_is_reported(store, media):
    store.put_media(media)
    (store.root / "v3" / "mask").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot read"):
        store.handles()
    with pytest.raises(StoreError, match="cannot read"):
        store.get_mask("mask:abcdefghij")


def test_a_store_that_cannot_be_created_is_reported(tmp_path, media):
    (tmp_path / "file").write_text("in the way")
    blocked = Store(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="cannot be created") as caught:
        blocked.put_media(media)
    assert "SA2VA_STORE_DIR" in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_store_belongs_to_its_owner_alone(store, media):
    store.put_media(media)
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions that bind")
def test_a_read_only_store_is_reported(store, media):
    handle = store.put_media(media)
    folder = store.root / "v3" / "media"
    folder.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="Cannot write"):
            store.put_media(replace(media, content_hash="cd" * 32))
        assert store.get_media(handle) == media
    finally:
        folder.chmod(0o700)


def test_a_full_disk_leaves_the_old_record(store, media, tmp_path, monkeypatch):
    handle = store.put_media(media)
    before = {path: path.read_bytes() for path in _files(store)}
    moved = media.path.rename(tmp_path / "new.mp4")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left") as caught:
            store.put_media(replace(media, path=moved))
    assert "free space" in caught.value.hint and "store_dir" in caught.value.hint
    assert {path: path.read_bytes() for path in _files(store)} == before
    assert store.put_media(replace(media, path=moved)) == handle


def test_concurrent_writers_and_readers_see_whole_records(store, media):
    other = media.path.with_name("copy.mp4")
    other.write_bytes(media.path.read_bytes())
    handle = store.put_media(media)
    start = threading.Barrier(4)

    def work(path: Path) -> None:
        own = Store(store.root)
        start.wait()
        for index in range(15):
            assert own.put_media(replace(media, path=path)) == handle
            assert own.get_media(handle).path in (media.path, other)
            mask_handle = own.put_mask(_mask(handle, label=str(index)))
            assert own.get_mask(mask_handle).label == str(index)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, (media.path, other) * 2))
    assert len(store.handles("mask")) == 15
    assert not [path for path in _files(store) if path.name.startswith(".partial-")]
