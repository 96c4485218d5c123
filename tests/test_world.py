"""The shape world: what its scenes promise to training and to the exam."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sa2va_tools.training.rendering import render, sample_clip, unit_outline
from sa2va_tools.training.world import (
    COLOUR_KEPT_FROM,
    COLOURS,
    HELD_OUT,
    PALETTE,
    SHAPES,
    SIDE,
    SceneRecipe,
    held_out_looks,
    paint_distance,
    sample_scene,
)


def scenes(recipe: SceneRecipe, count: int = 150):
    return [sample_scene(random.Random(seed), recipe) for seed in range(count)]


def pairs(scene):
    return {(o.colour, o.shape) for o in scene}


def test_training_scenes_never_hold_a_held_out_pair():
    for recipe in (
        SceneRecipe(),
        SceneRecipe(video=True),
        SceneRecipe(object_counts=(9,), unnamed_share=0.4),
    ):
        assert not any(pairs(scene) & HELD_OUT for scene in scenes(recipe))


def test_nameless_paints_do_not_come_close_to_a_held_out_pair():
    drawn = [o for scene in scenes(SceneRecipe(unnamed_share=1.0)) for o in scene]
    kept = [o for o in drawn if o.shape in COLOUR_KEPT_FROM]
    assert len(kept) > 100
    assert all(paint_distance(o.rgb, COLOUR_KEPT_FROM[o.shape]) >= 75 for o in kept)


def test_exam_scenes_always_hold_a_held_out_pair():
    assert all(pairs(scene) & HELD_OUT for scene in scenes(SceneRecipe(split="test")))


def test_every_shape_is_held_out_with_its_own_colour():
    assert {shape for _, shape in HELD_OUT} == set(range(len(SHAPES)))
    assert len({colour for colour, _ in HELD_OUT}) == len(HELD_OUT)


def test_all_other_pairs_are_trained():
    seen = set().union(*(pairs(scene) for scene in scenes(SceneRecipe(object_counts=(4,)), 400)))
    assert seen == {(c, s) for c in range(len(COLOURS)) for s in range(len(SHAPES))} - HELD_OUT


def test_paints_are_nearest_to_their_own_name():
    for colour, paints in enumerate(PALETTE):
        for paint in paints:
            others = [paint_distance(paint, other) for other in range(len(PALETTE)) if other != colour]
            assert min(others) > 40


def test_no_object_is_told_that_its_own_looks_are_kept():
    drawn = [o for scene in scenes(SceneRecipe(unnamed_share=0.5)) for o in scene]
    assert all(held_out_looks(o)[0] != o.shape for o in drawn)
    assert all(o.colour is None or held_out_looks(o)[1] != o.colour for o in drawn)


def test_the_same_seed_draws_the_same_pixels():
    one, two = (sample_clip(random.Random(5), SceneRecipe(video=True), (0.0, 0.5, 1.0)) for _ in range(2))
    assert np.array_equal(one.frames_thwc, two.frames_thwc)
    assert np.array_equal(one.ids_thw, two.ids_thw)


def test_masks_boxes_and_pixels_agree():
    clip = sample_clip(random.Random(11), SceneRecipe(object_counts=(3,)))
    for index in range(len(clip.objects)):
        rows, columns = np.nonzero(clip.mask_hw(index))
        x0, y0, x1, y1 = clip.boxes_tn4[0, index]
        assert x0 <= columns.min() and columns.max() < x1 and y0 <= rows.min() and rows.max() < y1
        inside = clip.frames_thwc[0][clip.mask_hw(index)].astype(float)
        assert np.linalg.norm(np.median(inside, 0) - clip.objects[index].rgb) < 60


def test_objects_are_well_visible_on_the_first_frame():
    for seed in range(60):
        clip = sample_clip(random.Random(seed), SceneRecipe(video=True), (0.0, 1.0))
        for index in range(len(clip.objects)):
            assert clip.mask_hw(index).sum() >= 0.6 * clip.areas_tn[0, index]


@pytest.mark.parametrize(("motion", "axis", "sign"), [(0, 0, -1), (1, 0, 1), (2, 1, -1), (3, 1, 1)])
def test_objects_move_as_they_are_said_to(motion, axis, sign):
    drawn = [o for scene in scenes(SceneRecipe(video=True), 80) for o in scene if o.motion == motion]
    assert drawn
    for thing in drawn:
        step = np.subtract(thing.centre_at(1.0), thing.centre_at(0.0))
        assert sign * step[axis] >= 20 and step[1 - axis] == 0


def test_growing_objects_grow_and_others_do_not():
    for scene in scenes(SceneRecipe(video=True), 40):
        for thing in scene:
            assert (thing.scale_at(1.0) > 1.4) == (thing.motion == 5)


def test_an_object_that_left_has_no_pixels_and_no_box():
    recipe = SceneRecipe(video=True, leave_share=1.0, object_counts=(1,))
    gone = 0
    for seed in range(40):
        rng = random.Random(seed)
        clip = render(sample_scene(rng, recipe), (0.0, 1.0), rng)
        if clip.objects[0].motion < 4:
            assert not clip.mask_hw(0, 1).any() and not clip.boxes_tn4[1, 0].any()
            gone += 1
    assert gone > 10


def test_an_object_that_returns_ends_where_it_began():
    recipe = SceneRecipe(video=True, return_share=1.0, leave_share=0.0)
    back = [o for scene in scenes(recipe, 30) for o in scene if o.returns]
    assert back and all(o.centre_at(1.0) == o.start_xy != o.centre_at(0.5) for o in back)


def test_frames_are_square_rgb_bytes():
    clip = sample_clip(random.Random(1), SceneRecipe())
    assert clip.frames_thwc.shape == (1, SIDE, SIDE, 3) and clip.frames_thwc.dtype == np.uint8


def test_scenes_hold_up_to_five_objects_of_clear_and_unclear_sizes():
    drawn = scenes(SceneRecipe(), 400)
    assert {len(scene) for scene in drawn} == {1, 2, 3, 4, 5}
    sizes = [o for scene in drawn for o in scene]
    unclear = [o for o in sizes if not o.size_is_clear]
    assert 0 < len(unclear) < len(sizes) / 8
    assert all(12 < o.radius < 16 for o in unclear)


def covered_share(scene):
    """The largest part of an object that others hide at some moment after the first."""
    clip = render(scene, np.linspace(0, 1, 12).tolist(), random.Random(0))
    visible = np.stack([(clip.ids_thw == i + 1).sum((1, 2)) for i in range(len(scene))], 1)
    hidden = 1 - visible / np.maximum(clip.areas_tn, 1)
    return hidden[clip.areas_tn > 0].max()


def test_crossing_scenes_cross():
    usual, crossing = (
        [covered_share(scene) for scene in scenes(SceneRecipe(video=True, crossing_share=share), 60)]
        for share in (0.0, 1.0)
    )
    assert np.mean(np.array(crossing) > 0.4) > np.mean(np.array(usual) > 0.4) + 0.3


def test_what_leaves_and_turns_back_is_seen_again():
    recipe = SceneRecipe(video=True, leave_share=1.0, return_share=1.0)
    returning = [o for scene in scenes(recipe) for o in scene if o.turns_back]
    assert len(returning) > 50
    for thing in returning:
        clip = render((thing,), (0.0, 0.5, 1.0), random.Random(0))
        assert clip.areas_tn[0, 0] > 0 and clip.areas_tn[1, 0] == 0 and clip.areas_tn[2, 0] > 0


def test_painters_draw_a_shape_in_different_ways():
    assert not np.allclose(unit_outline("star", 0.0), unit_outline("star", 1.0))
    assert np.allclose(unit_outline("square", 0.0), unit_outline("square", 1.0))
