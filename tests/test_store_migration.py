"""A store of format 2 stays usable: its handles resolve, conversations continue, results are extended."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sa2va_tools import Settings, load_engine
from sa2va_tools.errors import MediaNotFoundError, RequestError, StoreError, UnknownHandleError
from sa2va_tools.masks import rle
from sa2va_tools.masks.track import MaskTrack
from sa2va_tools.store.handles import compute_digest
from sa2va_tools.store.records import ExtensionRecord, MaskRecord
from sa2va_tools.store.store import Store
from sa2va_tools.testing import FakeEngine, synthetic_clip

RECORDED = Path(__file__).parent / "store_v2"
DATA = json.loads((RECORDED / "records.json").read_text(encoding="utf-8"))
HANDLES = DATA["handles"]
MASKS = sorted(
    f"mask:{name.split('/')[1].removesuffix('.json.gz')}"
    for name in DATA["records"]
    if name.startswith("mask/")
)
LLM_FRAMES = (0, 1, 3, 5, 7)
NO_CIRCLE = "The model answered without pointing at anything: “There is no blue circle.”"


def _write_document(path: Path, document: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(document).encode()))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(shutil.copy(RECORDED / "clip.mp4", tmp_path / "clip.mp4"))


@pytest.fixture
def root(tmp_path: Path, clip: Path) -> Path:
    """A store as the last version with format 2 left it, but for the place of its clip."""
    for name, document in DATA["records"].items():
        if document["kind"] == "media":
            media = {**document["record"]["media"], "path": str(clip)}
            document = {**document, "record": {**document["record"], "media": media}}
        _write_document(tmp_path / "store" / "v2" / name, document)
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


@pytest.fixture
def engine(root: Path):
    with FakeEngine(root) as engine:
        yield engine


def _read_record(handle: str) -> dict:
    """The record of a handle in format 2."""
    return DATA["records"][f"{handle.replace(':', '/')}.json.gz"]["record"]


def _old_file(root: Path, handle: str) -> Path:
    return root / "v2" / f"{handle.replace(':', '/')}.json.gz"


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("handle", MASKS)
def test_old_masks_resolve(store, handle):
    mask = store.get_mask(handle)
    recorded = _read_record(handle)
    assert (mask.media_handle, mask.label) == (HANDLES["media"], recorded["label"])
    assert [each["counts"] for each in mask.track.rles] == recorded["counts"]
    assert list(mask.track.frame_indices) == recorded["frame_indices"]
    assert mask.score == recorded["score"] and mask.track.visible
    assert mask.provenance["llm_frames"] == recorded["provenance"]["key_frames"]
    assert mask.provenance["memory_fallbacks"] == []
    assert not {"key_frames", "relief"} & set(mask.provenance)
    assert store.mask_label(handle) == mask.label and store.mask_media(handle) == mask.media_handle


@pytest.mark.parametrize("name", sorted(set(HANDLES) - {"media"}))
def test_old_answers_resolve(store, name):
    answer = store.get_answer(HANDLES[name])
    recorded = _read_record(HANDLES[name])
    for field in ("media_handle", "kind", "question", "text", "raw_text"):
        assert getattr(answer, field) == recorded[field]
    for field in ("mask_handles", "labels", "warnings"):
        assert list(getattr(answer, field)) == recorded[field]
    assert [list(turn) for turn in answer.turns] == recorded["extra"].get("turns", [])
    assert answer.provenance["llm_frames"] == recorded["provenance"]["key_frames"]
    assert answer.provenance["mode"] == recorded["provenance"]["mode"]
    assert not {"key_frames", "relief"} & set(answer.provenance)
    for handle in answer.mask_handles:
        assert store.get_mask(handle).media_handle == HANDLES["media"]


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("first", None),
        ("second", None),
        ("caption", None),
        ("track", None),
        ("ground", ExtensionRecord(llm_frames=LLM_FRAMES, prompt_frames=(0,))),
        (
            "segment",
            ExtensionRecord(
                llm_frames=LLM_FRAMES,
                prompt_frames=(0,),
                answers=(("the red square", "Sure, it is."), ("the blue circle", "There is no blue circle.")),
                missing=((1, "the blue circle", NO_CIRCLE),),
            ),
        ),
        (
            "missing",
            ExtensionRecord(
                llm_frames=(0, 2, 4, 6),
                prompt_frames=(0,),
                frames=(0, 2, 4, 6),
                answers=(("the blue circle", "There is no blue circle."),),
                missing=((0, "the blue circle", NO_CIRCLE),),
            ),
        ),
    ],
)
def test_what_later_calls_need_is_typed(store, name, extension):
    answer = store.get_answer(HANDLES[name])
    assert answer.extension == extension
    assert answer.provenance.get("prompt_frames") == (None if extension is None else [0])


# ---- engines --------------------------------------------------------------------------------------


def test_an_old_conversation_continues(engine, clip):
    result = engine.describe(clip, "What moves?", after=HANDLES["second"])
    record = engine.library.store.get_answer(result.handle)
    old = engine.library.store.get_answer(HANDLES["second"]).turns
    assert len(old) == 2 and record.turns[:2] == old and len(record.turns) == 3
    assert result.provenance.llm_frames == LLM_FRAMES
    again = engine.segment(clip, "the square", after=result.handle)
    assert len(engine.library.store.get_answer(again.handle).turns) == 4
    for name in ("caption", "track"):
        with pytest.raises(RequestError, match="cannot be continued"):
            engine.describe(clip, "And?", after=HANDLES[name])


def test_an_old_result_is_extended(engine, root):
    before = _contents(root / "v2")
    result = engine.extend(HANDLES["segment"], "the moving square")
    assert [(item.label, item.found) for item in result.objects] == [
        ("the red square", True),
        ("the blue circle", False),
        ("the moving square", True),
    ]
    square, circle, _ = result.objects
    assert square.handle == engine.library.store.get_answer(HANDLES["segment"]).mask_handles[0]
    assert circle.reason == NO_CIRCLE
    with pytest.raises(RequestError, match="already contains all of these"):
        engine.extend(result.handle, ["the red square", "the blue circle"])
    assert _contents(root / "v2") == before


@pytest.mark.parametrize(
    ("name", "labels", "frames"),
    [
        ("missing", ["the blue circle"], (0, 2, 4, 6)),
        ("ground", ["a red square moving right"], tuple(range(8))),
        ("track", ["region 1 (box 0,16,20,34)"], tuple(range(8))),
        ("extended", ["the red square", "the blue circle", "a red square"], tuple(range(8))),
    ],
)
def test_every_kind_of_old_result_is_extended_on_its_own_frames(engine, name, labels, frames):
    result = engine.extend(HANDLES[name], "a star")
    assert [item.label for item in result.objects] == [*labels, "a star"]
    assert result.objects[-1].frame_indices == frames


def test_mask_options_of_an_old_result_hold_for_what_is_added(engine):
    added = engine.extend(HANDLES["tight"], "a star")
    assert (added.provenance.threshold, added.provenance.smooth) == (0.7, True)


def test_old_results_are_viewed_and_exported(engine, tmp_path):
    assert [entry[0] for entry in engine.view(HANDLES["segment"]).legend] == [1]
    engine.export(HANDLES["extended"], tmp_path / "out")
    document = json.loads((tmp_path / "out" / "masks.json").read_text(encoding="utf-8"))
    labels = [(entry["label"], entry["found"]) for entry in document["objects"]]
    assert labels == [("the red square", True), ("a red square", True), ("the blue circle", False)]


def test_the_model_continues_where_an_old_version_stopped(root):
    with load_engine(settings=Settings(device="cpu", store_dir=root)) as engine:
        result = engine.extend(HANDLES["segment"], "the moving square")
        assert [item.found for item in result.objects] == [True, False, True]
        assert result.provenance.llm_frames == LLM_FRAMES and result.provenance.prompt_frames == (0,)
        answer = engine.describe(HANDLES["media"], "What is in the video?", after=HANDLES["second"])
        assert len(engine.library.store.get_answer(answer.handle).turns) == 3


# ---- two layouts ----------------------------------------------------------------------------------


def test_handles_of_both_formats_are_listed_once_newest_first(engine, clip):
    store = engine.library.store
    old = store.handles()
    assert len(old) == len(set(old)) == len(DATA["records"])
    new = engine.describe(clip, "What is it?").handle
    listed = store.handles()
    assert set(listed) == {*old, new} and len(listed) == len(old) + 1
    assert set(store.handles("mask")) == set(MASKS)
    assert store.handles("answer")[0] == new
    assert store.handles("media") == (HANDLES["media"],)
    with pytest.raises(UnknownHandleError) as caught:
        store.get_mask("mask:aaaaaaaaaa")
    assert any(handle in caught.value.hint for handle in MASKS)


def test_media_given_again_keeps_its_handle_and_its_old_place(engine, store, root, clip, tmp_path):
    before = _contents(root / "v2")
    copy = Path(shutil.copy(clip, tmp_path / "copy.mp4"))
    assert engine.find_media(copy).handle == HANDLES["media"]
    assert store.media_paths(HANDLES["media"]) == (copy, clip)
    copy.unlink()
    assert store.get_media(HANDLES["media"]).path == clip
    clip.unlink()
    with pytest.raises(MediaNotFoundError, match="no longer there"):
        store.get_media(HANDLES["media"])
    assert _contents(root / "v2") == before


def test_new_records_are_of_the_new_format(engine, root, clip):
    before = _contents(root / "v2")
    engine.segment(clip, "the square")
    assert _contents(root / "v2") == before
    formats = {
        path.parent.name: json.loads(gzip.decompress(path.read_bytes()))["format"]
        for path in (root / "v3").rglob("*.json.gz")
    }
    records = dict.fromkeys(("answer", "mask", "media"), "sa2va-store/3")
    assert formats == records | {"call": "sa2va-call/1"}


def _mask(label: str) -> MaskRecord:
    track = MaskTrack(
        size_wh=(96, 64),
        frame_indices=(0,),
        rles=(rle.encode(np.ones((64, 96), dtype=bool)),),
        object_scores=(1.0,),
        mask_scores=(1.0,),
    )
    return MaskRecord(HANDLES["media"], label, track, 1.0)


def test_a_damaged_new_file_is_replaced_although_an_old_one_is_whole(store, root):
    """Without provenance, a mask has the same handle in both formats."""
    handle = store.put_mask(_mask("a cat"))
    (path,) = (root / "v3" / "mask").iterdir()
    whole = path.read_bytes()
    document = {**json.loads(gzip.decompress(whole)), "format": "sa2va-store/2"}
    _write_document(_old_file(root, handle), document)
    path.write_bytes(b"damaged")
    with pytest.raises(StoreError, match="cannot be used"):
        store.get_mask(handle)
    assert store.put_mask(_mask("a cat")) == handle
    assert path.read_bytes() == whole
    path.unlink()
    assert store.get_mask(handle) == _mask("a cat")


def test_another_content_never_takes_an_old_handle(store, root, monkeypatch):
    old = _read_record(MASKS[0])

    def collide(content, *_):
        return "a" * 12 + ("b" if content["label"] == old["label"] else "c") * 40

    monkeypatch.setattr("sa2va_tools.store.handles.compute_digest", collide)
    document = {"format": "sa2va-store/2", "kind": "mask", "record": old}
    _write_document(root / "v2" / "mask" / f"{'a' * 10}.json.gz", document)
    handle = store.put_mask(_mask("something else"))
    assert handle == f"mask:{'a' * 12}cccc"
    assert store.get_mask(handle).label == "something else"
    assert store.get_mask(f"mask:{'a' * 10}").label == old["label"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_a_record_that_vanishes_while_handles_are_listed_hides_no_other(store, root):
    for folder in ("v2", "v3"):
        (root / folder / "mask").mkdir(parents=True, exist_ok=True)
        (root / folder / "mask" / "aaaaaaaaaa.json.gz").symlink_to(root / "nowhere")
    assert set(store.handles("mask")) == set(MASKS)


def test_readers_and_writers_of_old_media_do_not_disturb_each_other(store, clip, tmp_path):
    media = store.get_media(HANDLES["media"])
    copy = Path(shutil.copy(clip, tmp_path / "copy.mp4"))
    shutil.rmtree(store.root / "v3")
    start = threading.Barrier(4)

    def work(path: Path) -> None:
        own = Store(store.root)
        start.wait()
        for _ in range(10):
            assert own.get_media(HANDLES["media"]).content_hash == media.content_hash
            assert own.put_media(replace(media, path=path)) == HANDLES["media"]
            assert len(own.handles()) == len(DATA["records"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, (clip, copy) * 2))


# ---- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["segment", "first", "track"])
def test_a_damaged_old_file_is_named(store, root, name):
    path = _old_file(root, HANDLES[name])
    whole = path.read_bytes()
    for content in (b"", b"garbage", whole[:-20], gzip.compress(b"{}")):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=path.name) as caught:
            store.get_answer(HANDLES[name])
        assert "Repeat the call" in caught.value.hint
    path.write_bytes(whole)
    assert store.get_answer(HANDLES[name]).media_handle == HANDLES["media"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("text", "another answer", "does not belong to its name"),
        ("extra", None, "damaged"),
        ("extra", [], "damaged"),
        ("extra", {"plan": {"keys": [0]}}, "damaged"),
        ("provenance", None, "damaged"),
    ],
)
def test_an_altered_old_file_is_refused(store, root, field, value, words):
    path = _old_file(root, HANDLES["segment"])
    record = {**_read_record(HANDLES["segment"]), field: value}
    _write_document(path, {"format": "sa2va-store/2", "kind": "answer", "record": record})
    with pytest.raises(StoreError, match=words):
        store.get_answer(HANDLES["segment"])


def test_an_old_record_without_a_field_is_refused_even_under_its_right_name(store, root):
    record = {**_read_record(HANDLES["segment"]), "provenance": {}}
    del record["extra"]
    record_id = compute_digest(record)[:10]
    document = {"format": "sa2va-store/2", "kind": "answer", "record": record}
    _write_document(root / "v2" / "answer" / f"{record_id}.json.gz", document)
    with pytest.raises(StoreError, match=f"{record_id}.*damaged"):
        store.get_answer(f"answer:{record_id}")


def test_a_damaged_old_media_file_is_replaced_by_giving_the_media_again(engine, root, clip, tmp_path):
    _old_file(root, HANDLES["media"]).write_bytes(b"damaged")
    with pytest.raises(StoreError, match="cannot be used"):
        engine.find_media(HANDLES["media"])
    assert engine.find_media(clip).handle == HANDLES["media"]
    assert engine.find_media(HANDLES["media"]).frame_count == 8
    other = synthetic_clip(tmp_path / "other.mp4", frames=4)
    assert engine.find_media(other).handle != HANDLES["media"]
