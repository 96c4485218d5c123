"""Names that reach media: under which roots, at which of several places."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from sa2va_tools.engine import library as library_module
from sa2va_tools.engine.library import Library
from sa2va_tools.engine.viewing import draw_view
from sa2va_tools.errors import AccessDeniedError, MediaNotFoundError, RequestError
from sa2va_tools.media.media import open_media
from sa2va_tools.media.sampling import select_frames
from sa2va_tools.media.source import AccessPolicy
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits
from sa2va_tools.store.store import Store
from sa2va_tools.testing import synthetic_clip

RUN = Run()


@pytest.fixture
def folders(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "first" / "a.png")
    shutil.copy(tmp_path / "first" / "a.png", tmp_path / "second" / "b.png")
    return tmp_path


def _library(folders, *roots):
    access = AccessPolicy(tuple(folders / root for root in roots))
    return Library(Store(folders / "store"), access, MediaLimits())


def test_equal_files_in_two_places_have_one_handle_that_both_readers_can_use(folders):
    first, second = _library(folders, "first"), _library(folders, "second")
    handle = first.open(folders / "first" / "a.png", RUN).ref.handle
    assert second.open(folders / "second" / "b.png", RUN).ref.handle == handle
    assert first.open(handle, RUN).media.path == folders / "first" / "a.png"
    assert second.open(handle, RUN).media.path == folders / "second" / "b.png"


def test_a_handle_of_a_file_outside_says_the_same_whether_or_not_it_is_still_there(folders):
    handle = _library(folders, "first").open(folders / "first" / "a.png", RUN).ref.handle
    stranger = _library(folders, "second")
    with pytest.raises(AccessDeniedError) as there:
        stranger.open(handle, RUN)
    (folders / "first" / "a.png").unlink()
    with pytest.raises(AccessDeniedError) as gone:
        stranger.open(handle, RUN)
    assert str(there.value) == str(gone.value)
    assert "a.png" not in str(gone.value)


def test_a_file_that_moved_is_found_again_by_its_new_path(folders):
    library = _library(folders, "first")
    handle = library.open(folders / "first" / "a.png", RUN).ref.handle
    (folders / "first" / "a.png").rename(folders / "first" / "moved.png")
    with pytest.raises(MediaNotFoundError, match="no longer there"):
        library.open(handle, RUN)
    assert library.open(folders / "first" / "moved.png", RUN).ref.handle == handle
    assert library.open(handle, RUN).media.path.name == "moved.png"


def test_a_path_is_read_once_while_its_file_stays_as_it_is(folders, monkeypatch):
    opened, real = [], library_module.open_media

    def count_call(path, *others, **how):
        opened.append(path.name)
        return real(path, *others, **how)

    monkeypatch.setattr(library_module, "open_media", count_call)
    library, path = _library(folders, "first"), folders / "first" / "a.png"
    first = library.open(path, RUN)
    assert library.open(path, RUN).ref == first.ref and opened == ["a.png"]
    Image.fromarray(np.full((20, 30, 3), 91, np.uint8)).save(path)
    assert library.open(path, RUN).ref.handle != first.ref.handle and opened == ["a.png"] * 2


def test_other_bytes_of_the_same_size_and_time_are_told_apart(folders):
    library, path = _library(folders, "first"), folders / "first" / "a.bmp"
    Image.new("RGB", (30, 20), (220, 30, 30)).save(path)
    handle, before = library.open(path, RUN).ref.handle, path.stat()
    Image.new("RGB", (30, 20), (30, 30, 220)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    with pytest.raises(MediaNotFoundError, match="has changed"):
        library.open(handle, RUN)
    assert library.open(path, RUN).ref.handle != handle


def test_a_file_that_was_only_touched_keeps_its_handle(folders):
    library, path = _library(folders, "first"), folders / "first" / "a.png"
    opened = library.open(path, RUN)
    path.touch()
    assert not library.has_changed(opened)
    assert library.open(opened.ref.handle, RUN).media == opened.media


@pytest.mark.parametrize("size_wh", [(4000, 1), (1, 4000), (3, 2)])
def test_very_long_and_very_small_pictures_can_be_viewed(folders, size_wh):
    Image.new("RGB", size_wh, (200, 10, 10)).save(folders / "first" / "odd.png")
    opened = _library(folders, "first").open(folders / "first" / "odd.png", RUN)
    seen = draw_view(opened, [], frame_index=None, max_frames=1, max_side=640, max_bytes=100_000, run=RUN)
    assert max(seen.size_wh) <= 640


def test_a_range_between_two_frames_is_the_frame_on_the_screen(tmp_path):
    clip = open_media(synthetic_clip(tmp_path / "clip.mp4", frames=5))
    assert select_frames(clip, start_s=0.13, end_s=0.18) == (1,)
    assert select_frames(clip, start_s=0.45) == (4,)


@pytest.mark.parametrize("wrong", [{"stride": 1.5}, {"stride": "2"}, {"start_s": "1"}, {"end_s": [2]}])
def test_a_range_of_other_kinds_is_refused_in_our_words(tmp_path, wrong):
    clip = open_media(synthetic_clip(tmp_path / "clip.mp4", frames=5))
    with pytest.raises(RequestError, match=next(iter(wrong))):
        select_frames(clip, **wrong)
    assert select_frames(clip, stride=np.int64(2), start_s=np.float32(0.1)) == (1, 3)


def _folder_with_a_link(folders, target):
    clip = folders / "first" / "clip"
    clip.mkdir()
    shutil.copy(folders / "first" / "a.png", clip / "0.png")
    (clip / "1.png").symlink_to(target)
    return clip


def test_links_between_frames_keep_to_the_roots(folders):
    clip = _folder_with_a_link(folders, folders / "second" / "b.png")
    everything = Library(Store(folders / "store"), AccessPolicy(None), MediaLimits())
    handle = everything.open(clip, RUN).ref.handle
    assert everything.open(handle, RUN).media.frame_count == 2
    assert _library(folders, "first", "second").open(clip, RUN).media.frame_count == 2
    narrow = _library(folders, "first")
    for name in (clip, handle):  # the store may have been filled by somebody with wider access
        with pytest.raises(AccessDeniedError, match=r"clip/1\.png is a link that leads out"):
            narrow.open(name, RUN)


def test_links_out_of_the_roots_do_not_tell_what_is_there(folders):
    said = []
    for name in ("b.png", "none.png", "../store"):
        clip = _folder_with_a_link(folders, folders / "second" / name)
        with pytest.raises(AccessDeniedError) as caught:
            _library(folders, "first").open(clip, RUN)
        said.append(str(caught.value))
        shutil.rmtree(clip)
    assert len(set(said)) == 1


def test_a_link_that_leads_back_to_itself_is_told(folders):
    (folders / "first" / "x.png").symlink_to(folders / "first" / "y.png")
    (folders / "first" / "y.png").symlink_to(folders / "first" / "x.png")
    with pytest.raises(MediaNotFoundError, match="leads back to itself"):
        _library(folders, "first").open("x.png", RUN)


def test_names_that_cannot_be_shown_are_marked(folders):
    name = os.fsdecode(b"bad\xff\nname\x1b[31m.png")
    shutil.copy(folders / "first" / "a.png", folders / "first" / name)
    opened = _library(folders, "first").open(folders / "first" / name, RUN)
    assert opened.ref.name == "bad\ufffd\ufffdname\ufffd[31m.png" and opened.media.path.name == name
    with pytest.raises(MediaNotFoundError) as caught:
        _library(folders, "first").open(folders / "first" / f"{name}x", RUN)
    assert str(caught.value).isprintable()
