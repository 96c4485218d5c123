"""Removing results: exactly what was asked for, and nothing that someone else uses at the same time."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from sa2va_tools import atomic
from sa2va_tools.errors import AccessDeniedError, RequestError, StoreError, UnknownHandleError
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.store import removal
from sa2va_tools.store.inventory import list_files
from sa2va_tools.testing import FakeEngine, synthetic_clip


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path / "store") as made:
        yield made


@pytest.fixture
def other(tmp_path):
    return synthetic_clip(tmp_path / "other.mp4", frames=4)


def stored(engine):
    return set(engine.library.store.handles())


def age(engine, *handles, days):
    for file in list_files(engine.library.store.root):
        if file.handle in handles:
            then = time.time() - days * 24 * 3600
            os.utime(file.path, (then, then))


def test_an_answer_goes_with_its_masks_and_media(engine, clip, other):
    first, second = engine.segment(clip, ["a box", "a ball"]), engine.segment(other, "a box")
    before = stored(engine)
    planned = engine.remove_results(first.handle, dry_run=True)
    assert stored(engine) == before
    assert engine.remove_results(first.handle) == planned
    assert planned.answers == (first.handle,) and planned.media == (first.media.handle,)
    assert set(planned.masks) == {item.handle for item in first.objects} and planned.size_bytes > 0
    assert stored(engine) == {second.handle, second.objects[0].handle, second.media.handle}
    with pytest.raises(UnknownHandleError):
        engine.load_result(first.handle)


def test_what_another_answer_has_as_well_stays(engine, clip):
    first = engine.segment(clip, "a box")
    extended = engine.extend(first.handle, "a ball")
    assert engine.remove_results(first.handle).masks == ()
    assert len(engine.load_result(extended.handle).objects) == 2
    assert set(engine.remove_results(extended.handle).masks) == {item.handle for item in extended.objects}
    assert stored(engine) == set()


def test_a_mask_alone_is_refused_if_it_belongs_to_an_answer(engine, clip):
    result = engine.segment(clip, "a box")
    with pytest.raises(RequestError, match=f"is a part of {result.handle}") as caught:
        engine.remove_results(result.objects[0].handle)
    assert result.handle in caught.value.hint and result.handle in stored(engine)
    assert engine.remove_results([result.handle, result.objects[0].handle]).masks


def test_a_media_handle_stands_for_everything_about_it(engine, clip, other):
    results = [engine.segment(clip, "a box"), engine.describe(clip), engine.track(clip, (1, 2, 30, 40))]
    kept = engine.describe(other)
    alone = engine.segment(clip, "a mask without its answer")
    next(file for file in list_files(engine.library.store.root) if file.handle == alone.handle).path.unlink()
    removed = engine.remove_results(results[0].media.handle)
    assert set(removed.answers) == {result.handle for result in results}
    assert stored(engine) == {kept.handle, kept.media.handle}


def test_age_chooses_answers_and_what_belongs_to_none(engine, clip, other):
    old, new = engine.segment(clip, "a box"), engine.segment(other, "a box")
    unused = engine.find_media(np.zeros((4, 4, 3), np.uint8)).handle
    age(engine, old.handle, old.media.handle, old.objects[0].handle, unused, days=31)
    removed = engine.remove_results(older_than_s=30 * 24 * 3600)
    assert removed.answers == (old.handle,) and set(removed.media) == {old.media.handle, unused}
    assert stored(engine) == {new.handle, new.objects[0].handle, new.media.handle}


def test_a_result_that_is_made_again_is_new_again(engine, clip):
    first = engine.segment(clip, "a box")
    age(engine, *stored(engine), days=31)
    engine.segment(clip, "a box")
    assert engine.remove_results(older_than_s=3600).answers == ()
    assert first.handle in stored(engine)


def test_everything_includes_bytes_and_leftovers_but_no_file_of_the_user(engine, clip, tmp_path):
    engine.segment(clip.read_bytes(), "a box")
    folder = engine.library.store.root / "v3" / "mask"
    dead, alive = (folder / f"{atomic.TEMPORARY_PREFIX}{name}" for name in ("dead", "alive"))
    for path in (dead, alive):
        path.write_bytes(b"half a mask")
    (folder / "notes.txt").write_text("mine", "utf-8")
    engine.remove_results(everything=True)
    left = {path.name for path in engine.library.store.root.rglob("*") if path.is_file()}
    assert left == {"notes.txt", dead.name, alive.name} and clip.is_file()
    assert {path.name for path in removal.list_leftovers(engine.library.store.root, time.time_ns() + 1)} == {
        dead.name,
        alive.name,
    }


def test_bytes_of_a_removed_video_are_removed_and_of_others_kept(engine, clip, other):
    first, second = engine.describe(clip.read_bytes()), engine.describe(other.read_bytes())
    engine.remove_results(first.handle)
    (left,) = (engine.library.store.root / "uploads").iterdir()
    assert left.read_bytes() == other.read_bytes() and engine.describe(second.media.handle)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Say what to remove"),
        ({"handles": []}, "Say what to remove"),
        ({"everything": True, "older_than_s": 1}, "only one of them"),
        ({"older_than_s": -1}, "0 or more"),
        ({"older_than_s": float("nan")}, "finite"),
        ({"handles": "answer:abcdefgh23"}, "not in the store"),
        ({"handles": "the red car"}, "not a handle"),
    ],
)
def test_what_cannot_be_removed_is_said_before_anything_is(engine, clip, arguments, message):
    result = engine.segment(clip, "a box")
    if arguments.get("handles"):
        arguments = {"handles": [result.handle, arguments["handles"]]}
    with pytest.raises(RequestError, match=message) as caught:
        engine.remove_results(**arguments)
    assert caught.value.hint and result.handle in stored(engine)


@pytest.mark.parametrize("kind", ["answer", "mask", "media"])
def test_an_unknown_handle_is_answered_with_known_ones_of_its_kind(engine, clip, kind):
    result = engine.segment(clip, ["red square"])
    known = {"answer": result.handle, "mask": result.objects[0].handle, "media": result.media.handle}
    with pytest.raises(UnknownHandleError) as caught:
        engine.remove_results(f"{kind}:abcdefgh23")
    assert caught.value.hint.endswith(f"newest first: {known[kind]}.")


def test_a_damaged_answer_can_be_removed_and_hides_nothing_else(engine, clip, other):
    broken, good = engine.segment(clip, "a box"), engine.segment(other, "a box")
    file = next(each for each in list_files(engine.library.store.root) if each.handle == broken.handle)
    file.path.write_bytes(b"damaged")
    assert [each.handle for each in engine.list_results()] == [good.handle]
    assert engine.remove_results(broken.handle).answers == (broken.handle,)
    assert good.handle in stored(engine)


def test_an_engine_with_roots_sees_and_removes_only_what_it_may_read(engine, clip, other, tmp_path):
    hidden, shown = engine.segment(clip, "a box"), engine.segment(other, "a box")
    pixels = engine.describe(np.zeros((40, 40, 3), np.uint8))
    limited = FakeEngine(tmp_path / "store", access=AccessPolicy((tmp_path,)))
    assert [each.handle for each in limited.list_results()] == [shown.handle]
    for call in (limited.load_result, limited.remove_results):
        with pytest.raises(AccessDeniedError):
            call(hidden.handle)
    assert limited.remove_results(everything=True).answers == (shown.handle,)
    assert {hidden.handle, hidden.objects[0].handle, pixels.handle} <= stored(engine)


# ---- at the same time -----------------------------------------------------------------------------


def test_a_mask_that_is_used_again_while_it_is_being_removed_survives(engine, clip, monkeypatch):
    """Another process answers with the same mask after the removal was planned."""
    first = engine.segment(clip, "a box")
    real = removal.remove_planned

    def plan_then_wait(store, plan):
        again.append(FakeEngine(store.root).extend(first.handle, "a ball"))
        return real(store, plan)

    again = []
    monkeypatch.setattr("sa2va_tools.engine.result_removal.remove_planned", plan_then_wait)
    removed = engine.remove_results(first.handle)
    assert removed.masks == () and removed.media == ()
    assert len(engine.load_result(again[0].handle).objects) == 2


def test_a_result_that_is_stored_while_everything_is_removed_is_complete(engine, clip, monkeypatch):
    """Its masks are stored, then removed by another process, then it is stored itself."""
    real = engine.library.store.put_answer
    calls = []

    def remove_first(record):
        if not calls:
            calls.append(FakeEngine(engine.library.store.root).remove_results(everything=True))
        return real(record)

    monkeypatch.setattr(engine.library.store, "put_answer", remove_first)
    result = engine.segment(clip, ["a box", "a ball"])
    assert len(calls[0].masks) == 2
    assert engine.load_result(result.handle) == result


def test_masks_of_a_removed_result_cannot_be_extended_silently(engine, clip, monkeypatch):
    first = engine.segment(clip, "a box", threshold=0.4)
    real = engine.library.store.put_answer

    def remove_first(record):
        FakeEngine(engine.library.store.root).remove_results(everything=True)
        return real(record)

    monkeypatch.setattr(engine.library.store, "put_answer", remove_first)
    monkeypatch.setattr("sa2va_tools.testing.fake_engine.__version__", "other")
    with pytest.raises(StoreError, match="was removed from the store meanwhile"):
        engine.extend(first.handle, "a ball")


def test_writers_and_removers_at_once_leave_a_sound_store(tmp_path, clip):
    """Whatever the order, every answer that is left has all its masks and its media."""
    failures = []

    def write():
        engine = FakeEngine(tmp_path / "store")
        for turn in range(12):
            engine.segment(clip, ["a box", f"a ball {turn % 3}"], end_s=0.3)

    def remove():
        engine = FakeEngine(tmp_path / "store")
        for _ in range(12):
            engine.remove_results(everything=True)

    def guard(work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=guard, args=(work,)) for work in (write, write, remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine = FakeEngine(tmp_path / "store")
    for result in engine.list_results():
        assert len(engine.load_result(result.handle).objects) == 2


def test_a_removal_that_is_broken_off_leaves_no_mask_without_its_name(engine, clip, monkeypatch):
    """What was not removed yet is there under its own name, and can be removed later."""
    result = engine.segment(clip, ["a box", "a ball", "a cat"])
    real = removal._unlink

    def stop_at_second_mask(path):
        unlinked.append(path)
        if len(unlinked) == 3:
            raise KeyboardInterrupt
        return real(path)

    unlinked = []
    monkeypatch.setattr(removal, "_unlink", stop_at_second_mask)
    with pytest.raises(KeyboardInterrupt):
        engine.remove_results(result.handle)
    monkeypatch.undo()
    assert len([name for name in stored(engine) if name.startswith("mask:")]) == 2
    assert not list(engine.library.store.root.rglob(f"{atomic.TEMPORARY_PREFIX}*"))
    assert len(engine.remove_results(everything=True).masks) == 2 and stored(engine) == set()
