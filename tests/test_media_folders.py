"""A folder of frames is a video: order, what counts as a frame, and folders that are refused."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import pytest
from media_makers import make_folder, number_of, numbered_frame
from PIL import Image

from sa2va_tools.errors import CancelledError, MediaTooLargeError, MediaUnreadableError
from sa2va_tools.media import media as media_module
from sa2va_tools.media.decode import iter_frames, read_frames
from sa2va_tools.media.folders import probe_folder
from sa2va_tools.media.media import open_media
from sa2va_tools.run import Run
from sa2va_tools.settings import MediaLimits


def test_frames_are_in_natural_order_at_24_per_second(tmp_path):
    folder = make_folder(tmp_path / "clip", ["frame1.png", "frame2.png", "frame10.JPG", "frame11.webp"])
    media = open_media(folder)
    assert (media.kind, media.container, media.name) == ("video", "frames", "clip")
    assert (media.frame_count, media.size_wh, media.fps) == (4, (64, 48), Fraction(24))
    assert media.duration_s == pytest.approx(4 / 24) and media.timestamps_s[1] == pytest.approx(1 / 24)
    assert "24 frames per second" in media.warnings[0]
    assert [number_of(rgb) for _, rgb in iter_frames(media)] == [0, 1, 2, 3]
    assert [number_of(rgb) for rgb in read_frames(media, [3, 1, 3])] == [3, 1, 3]


def test_other_entries_are_skipped(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png", ".2.png"])
    (folder / "notes.txt").write_text("x")
    (folder / "masks.png").mkdir()
    (folder / "sound.gif").write_bytes(b"x")
    assert open_media(folder).frame_count == 1


def test_hash_covers_names_and_contents(tmp_path):
    one = make_folder(tmp_path / "a", ["1.png", "2.png"])
    same = make_folder(tmp_path / "b", ["1.png", "2.png"])
    renamed = make_folder(tmp_path / "c", ["1.png", "3.png"])
    hashes = [open_media(folder).content_hash for folder in (one, same, renamed)]
    assert hashes[0] == hashes[1] != hashes[2]
    Image.fromarray(numbered_frame(9)).save(same / "2.png")
    assert open_media(same).content_hash != hashes[0]


def test_mixed_sizes_are_refused(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png", "2.png"])
    Image.new("RGB", (32, 32)).save(folder / "10.png")
    Image.new("RGB", (16, 16)).save(folder / "11.png")
    with pytest.raises(MediaUnreadableError, match=r"1\.png is 64×48 and 10\.png is 32×32"):
        open_media(folder)


def test_sizes_are_compared_after_orientation(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png"])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(folder / "2.jpg", exif=exif)
    assert open_media(folder).size_wh == (64, 48)


def test_folders_without_frames(tmp_path):
    (tmp_path / "clip").mkdir()
    with pytest.raises(MediaUnreadableError, match="contains no frames \\(it is empty"):
        open_media(tmp_path / "clip")
    (tmp_path / "clip" / "a.txt").touch()
    with pytest.raises(MediaUnreadableError, match="1 other"):
        open_media(tmp_path / "clip")


def open_and_get_hint(folder) -> str:
    with pytest.raises(MediaUnreadableError) as raised:
        open_media(folder)
    return raised.value.hint


def test_folder_of_media_files_suggests_them(tmp_path):
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    make_folder(folder / "frames", ["1.png"])
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp4").touch()
    (folder / "away").symlink_to(outside)
    for name in ("b10.mp4", "b2.MOV", ".hidden.mp4", "notes.txt", "more/c.mkv"):
        (folder / name).touch()
    assert open_and_get_hint(folder) == "Pass one of: b2.MOV, b10.mp4, frames/, more/c.mkv (inside clips)."
    for number in range(20, 30):
        (folder / f"b{number}.gif").touch()
    hint = open_and_get_hint(folder)
    assert "b27.gif and 4 more" in hint and "b28.gif" not in hint


def test_images_of_mixed_sizes_are_suggested(tmp_path):
    folder = make_folder(tmp_path / "photos", ["1.png", "2.png"])
    Image.new("RGB", (32, 32)).save(folder / "cat.jpg")
    assert "Pass one of: 1.png, 2.png, cat.jpg (inside photos)." in open_and_get_hint(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png"])
    folder.chmod(0)
    try:
        with pytest.raises(MediaUnreadableError, match="permission"):
            open_media(folder)
    finally:
        folder.chmod(0o700)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:90])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_folder_is_used_up_to_its_first_broken_frame(tmp_path, count):
    names = ["1.png", "2.png", "3.png", "4.png"]
    folder = make_folder(tmp_path / "clip", names)
    for name in names[count:]:
        cut(folder / name)
    media = open_media(folder)
    assert media.frame_count == len(media.files) == count and not media.complete
    assert media.timestamps_s == pytest.approx([index / 24 for index in range(count)])
    assert media.duration_s == pytest.approx(count / 24)
    assert media.files == tuple(folder / name for name in names[:count])
    assert [number_of(rgb) for _, rgb in iter_frames(media)] == list(range(count))
    damage, rate = media.warnings
    assert damage.startswith(f"clip breaks off at frame {count}; the ") and "24 frames per second" in rate
    assert (
        "the frame before it is used" if count == 1 else f"the {count} frames before it are used"
    ) in damage
    assert f"{names[count]} is cut off: " in damage


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff\xe0"])
def test_frame_without_a_picture_ends_the_video_on_any_budget(tmp_path, monkeypatch, data):
    folder = make_folder(tmp_path / "clip", ["1.png", "2.png", "3.png", "4.png"])
    (folder / "3.png").write_bytes(data)
    for budget_px in (10**9, 64 * 48):
        monkeypatch.setattr(media_module, "_VERIFY_BUDGET_PX", budget_px)
        media = open_media(folder)
        assert media.frame_count == 2 and not media.complete and "3.png" in media.warnings[0]


def test_repaired_folder_is_complete_and_has_another_hash(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    whole = (folder / "3.png").read_bytes()
    cut(folder / "3.png")
    broken = open_media(folder)
    (folder / "3.png").write_bytes(whole)
    repaired = open_media(folder)
    assert repaired.complete and repaired.frame_count == 3 and len(repaired.warnings) == 1
    assert repaired.content_hash != broken.content_hash


def test_broken_first_frame_is_refused(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png", "2.png"])
    cut(folder / "1.png")
    with pytest.raises(MediaUnreadableError, match=r"1\.png is cut off"):
        open_media(folder)


def test_too_large_or_mixed_frames_are_errors(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png", "2.png"])
    Image.new("RGB", (100, 100)).save(folder / "3.png")
    with pytest.raises(MediaTooLargeError, match=r"3\.png is 100×100"):
        open_media(folder, MediaLimits(max_pixels=64 * 48))
    with pytest.raises(MediaUnreadableError, match="differ in size"):
        open_media(folder)


def test_cancelling(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png", "2.png"])
    run = Run()
    run.cancel()
    with pytest.raises(CancelledError):
        probe_folder(folder, MediaLimits(), run, 10**9)


def test_broken_frame_beyond_the_budget_is_an_error_when_read(tmp_path, monkeypatch):
    monkeypatch.setattr(media_module, "_VERIFY_BUDGET_PX", 64 * 48)
    folder = make_folder(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    cut(folder / "2.png")
    media = open_media(folder)
    assert media.complete and len(read_frames(media, [0, 2])) == 2
    with pytest.raises(MediaUnreadableError, match=r"2\.png"):
        read_frames(media, [1])


def test_links_to_frames_are_followed(tmp_path):
    other = make_folder(tmp_path / "other", ["a.png"])
    folder = make_folder(tmp_path / "clip", ["1.png"])
    (folder / "2.png").symlink_to(folder / "1.png")
    (folder / "3.png").symlink_to(other / "a.png")
    assert open_media(folder).frame_count == 3


@pytest.mark.parametrize("target", ["nowhere.png", "2.png"], ids=["to nothing", "to itself"])
def test_a_link_that_leads_nowhere_does_not_move_the_numbers_of_later_frames(tmp_path, target):
    folder = make_folder(tmp_path / "clip", ["1.png", "3.png"])
    (folder / "2.png").symlink_to(folder / target)
    with pytest.raises(MediaUnreadableError, match=r"clip/2\.png is a link that leads to no file"):
        open_media(folder)


def test_limits_count_the_whole_folder(tmp_path):
    folder = make_folder(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    size = sum(file.stat().st_size for file in folder.iterdir())
    for limits in (
        MediaLimits(max_frames=2),
        MediaLimits(max_bytes=size - 1),
        MediaLimits(max_pixels=3000),
        MediaLimits(max_duration_s=0.1),
    ):
        with pytest.raises(MediaTooLargeError):
            open_media(folder, limits)
    assert open_media(folder, MediaLimits(max_frames=3, max_bytes=size)).frame_count == 3
