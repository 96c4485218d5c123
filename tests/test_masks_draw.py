"""Outlines and numbers are legible on any background; sheets keep their size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sa2va_tools.errors import RequestError
from sa2va_tools.masks.draw import draw_masks
from sa2va_tools.masks.palette import PALETTE, draw_badge, draw_text_strip, pick_color
from sa2va_tools.masks.sheet import draw_contact_sheet, draw_legend

HEIGHT = 180
WIDTH = 320


def _backgrounds() -> dict[str, np.ndarray]:
    noise = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    plain = {
        name: np.full_like(noise, value) for name, value in (("black", 0), ("white", 255), ("grey", 128))
    }
    own = {f"color {n}": np.full_like(noise, pick_color(n)) for n in range(1, len(PALETTE) + 1)}
    return {"noise": noise, **plain, **own}


def _disc(center_x: int = 100, radius: int = 50) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.circle(pixels, (center_x, 90), radius, 1, -1)
    return pixels.astype(bool)


def _luma(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("name", _backgrounds())
def test_the_outline_has_a_dark_and_a_light_line_on_any_background(name):
    background = _backgrounds()[name]
    number = int(name.split()[1]) if name.startswith("color") else 1
    drawn = draw_masks(background, [(number, _disc())], badges=False)
    mask = _disc().astype(np.uint8)
    kernel = np.ones((5, 5), dtype=np.uint8)
    border = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    luma = _luma(drawn)[border]
    assert (luma < 10).mean() > 0.2
    assert (luma > 170).mean() > 0.1
    # All around, something within two pixels stands out from what was there.
    differs = (np.abs(_luma(drawn) - _luma(background)) > 60).astype(np.uint8)
    assert cv2.dilate(differs, kernel)[border].all()


def test_only_the_mask_and_its_border_change_and_the_frame_is_a_copy():
    background = _backgrounds()["noise"]
    before = background.copy()
    drawn = draw_masks(background, [(1, _disc())], badges=False)
    assert np.array_equal(background, before)
    far = cv2.dilate(_disc().astype(np.uint8), np.ones((9, 9), dtype=np.uint8)) == 0
    assert np.array_equal(drawn[far], before[far])
    assert (drawn[_disc()] != before[_disc()]).any(axis=-1).mean() > 0.95


def test_holes_stay_clear():
    mask_hw = _disc() & ~_disc(radius=25)
    background = _backgrounds()["grey"]
    drawn = draw_masks(background, [(1, mask_hw)])
    assert np.array_equal(drawn[80:100, 90:110], background[80:100, 90:110])


def test_the_fill_is_the_objects_color_mixed_in():
    drawn = draw_masks(_backgrounds()["black"], [(2, _disc())], opacity=0.5, badges=False)
    assert np.allclose(drawn[90, 100], np.array(pick_color(2)) / 2, atol=1)


def test_an_empty_mask_leaves_no_trace_and_a_wrong_shape_is_named():
    background = _backgrounds()["noise"]
    nothing = np.zeros((HEIGHT, WIDTH), dtype=bool)
    assert np.array_equal(draw_masks(background, [(1, nothing)]), background)
    with pytest.raises(ValueError, match="mask 3"):
        draw_masks(background, [(3, nothing[1:])])


def _badge_boxes(drawn: np.ndarray, number: int) -> np.ndarray:
    """Where pixels have the pure colour, which only badges have."""
    return np.argwhere((drawn == pick_color(number)).all(axis=-1))


def test_a_badge_is_inside_a_big_mask_and_next_to_a_small_one():
    background = _backgrounds()["black"]
    inside = _badge_boxes(draw_masks(background, [(1, _disc())]), 1)
    assert len(inside) > 50
    assert _disc()[inside[:, 0], inside[:, 1]].all()
    small = _disc(radius=4)
    outside = _badge_boxes(draw_masks(background, [(1, small)]), 1)
    assert len(outside) > 50
    assert not small[outside[:, 0], outside[:, 1]].any()


def test_badges_of_equal_masks_do_not_hide_each_other():
    drawn = draw_masks(_backgrounds()["black"], [(number, _disc()) for number in (1, 2, 3)])
    assert all(len(_badge_boxes(drawn, number)) > 50 for number in (1, 2, 3))


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (16, 16)])
def test_tiny_and_narrow_frames_can_be_drawn(shape):
    frame = np.zeros((*shape, 3), dtype=np.uint8)
    assert draw_masks(frame, [(12, np.ones(shape, dtype=bool))]).shape == frame.shape
    sheet, scale = draw_contact_sheet([frame], ["frame 0"], 640, objects=[[(1, np.ones(shape, dtype=bool))]])
    assert max(sheet.shape[:2]) <= 640
    assert scale >= 1


def test_the_palette_has_distinct_colors_and_repeats():
    assert len(set(PALETTE)) == len(PALETTE) >= 12
    assert pick_color(1) == pick_color(1 + len(PALETTE)) != pick_color(2)


def test_numbers_of_badges_differ():
    drawn = []
    for number in (1, 1 + len(PALETTE), 10 + len(PALETTE)):
        canvas = np.zeros((20, 60, 3), dtype=np.uint8)
        draw_badge(canvas, number, (2, 1), 18)
        drawn.append(canvas)
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])


def test_a_sheet_shows_all_frames_within_its_bounds():
    frames = [np.full((720, 1280, 3), 20 * index, dtype=np.uint8) for index in range(9)]
    sheet, scale = draw_contact_sheet(frames, [f"frame {index}" for index in range(9)], 1280)
    assert max(sheet.shape[:2]) <= 1280
    tile_w = int(1280 * scale)
    tile_h = int(720 * scale)
    centers = [
        sheet[(i // 3) * (tile_h + 24) + tile_h // 2, (i % 3) * (tile_w + 4) + tile_w // 2, 0]
        for i in range(9)
    ]
    assert centers == [20 * index for index in range(9)]


def test_small_frames_are_enlarged_until_they_are_readable():
    frame = np.zeros((128, 128, 3), dtype=np.uint8)
    sheet, scale = draw_contact_sheet([frame], ["frame 0 · 0.00 s"], 1280)
    assert scale == 2.5
    assert sheet.shape[1] == 320
    _, scale = draw_contact_sheet([np.zeros((480, 640, 3), dtype=np.uint8)], [""], 1280)
    assert scale == 1.0
    _, scale = draw_contact_sheet([frame] * 9, ["x"] * 9, 640)
    assert 1.4 < scale < 2.0


def test_masks_are_drawn_after_the_frame_is_resized():
    frame = np.zeros((128, 128, 3), dtype=np.uint8)
    mask_hw = np.zeros((128, 128), dtype=bool)
    mask_hw[32:96, 32:96] = True
    sheet, scale = draw_contact_sheet([frame], [""], 1280, objects=[[(1, mask_hw)]])
    filled = (sheet.sum(axis=-1) > 0).mean()
    assert scale == 2.5
    assert filled == pytest.approx(0.25, abs=0.03)
    thin = np.zeros((720, 1280), dtype=bool)
    thin[300, 200:400] = True
    large = np.zeros((720, 1280, 3), dtype=np.uint8)
    small, _ = draw_contact_sheet([large], [""], 200, objects=[[(1, thin)]])
    assert small.any()


def test_a_caption_changes_only_its_strip():
    frame = np.zeros((128, 128, 3), dtype=np.uint8)
    plain, _ = draw_contact_sheet([frame, frame], ["a", "a"], 1280)
    other, _ = draw_contact_sheet([frame, frame], ["a", "frame 12 · 0.48 s"], 1280)
    assert not np.array_equal(plain, other)
    assert np.array_equal(plain[:320], other[:320])


@pytest.mark.parametrize(
    "text", ["", "ünïcode", "猫が走る", "🙂" * 40, "\ud800", "a\nb\x00c\t", "مرحبا", "w" * 5000]
)
def test_any_label_can_be_written(text):
    assert draw_text_strip(text, (200, 20)).shape == (20, 200, 3)
    assert draw_text_strip(text, (3, 2)).shape == (2, 3, 3)
    assert draw_legend([(1, text), (120, text)], 300).shape[1] == 300


def test_long_labels_are_cut():
    strip = draw_text_strip("w" * 500, (100, 20))
    assert not strip[:, -3:].any()


def test_unequal_frames_and_lack_of_room_are_reported():
    small = np.zeros((10, 10, 3), dtype=np.uint8)
    large = np.zeros((20, 10, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="equal shapes"):
        draw_contact_sheet([small, large], ["", ""], 100)
    with pytest.raises(ValueError, match="at least one"):
        draw_contact_sheet([], [], 100)
    with pytest.raises(ValueError, match="one per frame"):
        draw_contact_sheet([small], [], 100)
    with pytest.raises(RequestError, match="too few for 400 frame"):
        draw_contact_sheet([small] * 400, ["x"] * 400, 60)


def test_equal_masks_over_the_whole_frame_still_show_both_numbers():
    frame = np.full((120, 160, 3), 128, np.uint8)
    whole = np.ones((120, 160), bool)
    one = draw_masks(frame, [(1, whole), (2, whole)])
    swapped = draw_masks(frame, [(2, whole)])
    badges = (one != draw_masks(frame, [(1, whole), (2, whole)], badges=False)).any(axis=2)
    single = (swapped != draw_masks(frame, [(2, whole)], badges=False)).any(axis=2)
    assert badges.sum() > 1.5 * single.sum()
