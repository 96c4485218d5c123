"""Scenes of the world of shapes: what training and the exam rely on."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sa2va_tools.nano.world.rendering import render, sample_clip, unit_outline
from sa2va_tools.nano.world.sampling import SceneRecipe, sample_scene
from sa2va_tools.nano.world.scenes import (
    COLOURS,
    GROWING,
    HELD_OUT,
    HELD_OUT_COLOUR,
    PALETTE,
    SHAPES,
    SIDE,
    colour_distance,
    find_untrained_labels,
)


def scenes(recipe: SceneRecipe, count: int = 150):
    return [sample_scene(random.Random(seed), recipe) for seed in range(count)]


def pairs(scene):
    return {(o.colour, o.shape) for o in scene}


def test_training_scenes_contain_no_held_out_pair():
    for recipe in (
        SceneRecipe(),
        SceneRecipe(video=True),
        SceneRecipe(object_counts=(9,), unnamed_share=0.4),
    ):
        assert not any(pairs(scene) & HELD_OUT for scene in scenes(recipe))


def test_random_colours_stay_away_from_held_out_pairs():
    drawn = [o for scene in scenes(SceneRecipe(unnamed_share=1.0)) for o in scene]
    assert len(drawn) > 100
    assert all(colour_distance(o.rgb, HELD_OUT_COLOUR[o.shape]) >= 75 for o in drawn)


def test_exam_scenes_contain_a_held_out_pair():
    assert all(pairs(scene) & HELD_OUT for scene in scenes(SceneRecipe(split="test")))


def test_every_shape_is_held_out_with_another_colour():
    assert {shape for _, shape in HELD_OUT} == set(range(len(SHAPES)))
    assert len({colour for colour, _ in HELD_OUT}) == len(HELD_OUT)


def test_all_other_pairs_are_trained():
    seen = set().union(*(pairs(scene) for scene in scenes(SceneRecipe(object_counts=(4,)), 400)))
    assert seen == {(c, s) for c in range(len(COLOURS)) for s in range(len(SHAPES))} - HELD_OUT


def test_versions_of_a_colour_are_far_from_other_colours():
    for colour, versions in enumerate(PALETTE):
        for rgb in versions:
            others = [colour_distance(rgb, other) for other in range(len(PALETTE)) if other != colour]
            assert min(others) > 40


def test_the_own_looks_of_an_object_are_never_excluded():
    drawn = [o for scene in scenes(SceneRecipe(unnamed_share=0.5)) for o in scene]
    assert all(find_untrained_labels(o)[0] != o.shape for o in drawn)
    assert all(o.colour is None or find_untrained_labels(o)[1] != o.colour for o in drawn)


def test_the_same_seed_gives_the_same_pixels():
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


def test_objects_are_mostly_visible_on_the_first_frame():
    for seed in range(60):
        clip = sample_clip(random.Random(seed), SceneRecipe(video=True), (0.0, 1.0))
        for index in range(len(clip.objects)):
            assert clip.mask_hw(index).sum() >= 0.6 * clip.areas_tn[0, index]


@pytest.mark.parametrize(("motion", "axis", "sign"), [(0, 0, -1), (1, 0, 1), (2, 1, -1), (3, 1, 1)])
def test_objects_move_in_the_direction_of_their_label(motion, axis, sign):
    drawn = [o for scene in scenes(SceneRecipe(video=True), 80) for o in scene if o.motion == motion]
    assert drawn
    for obj in drawn:
        step = np.subtract(obj.centre_at(1.0), obj.centre_at(0.0))
        assert sign * step[axis] >= 20 and step[1 - axis] == 0


def test_only_growing_objects_grow():
    for scene in scenes(SceneRecipe(video=True), 40):
        for obj in scene:
            assert (obj.scale_at(1.0) > 1.4) == (obj.motion == GROWING)


def test_an_object_that_has_left_has_no_pixels_and_no_box():
    recipe = SceneRecipe(video=True, leave_share=1.0, object_counts=(1,))
    gone = 0
    for seed in range(40):
        rng = random.Random(seed)
        clip = render(sample_scene(rng, recipe), (0.0, 1.0), rng)
        if clip.objects[0].motion < 4:
            assert not clip.mask_hw(0, 1).any() and not clip.boxes_tn4[1, 0].any()
            gone += 1
    assert gone > 10


def test_an_object_that_returns_ends_where_it_started():
    recipe = SceneRecipe(video=True, return_share=1.0, leave_share=0.0)
    back = [o for scene in scenes(recipe, 30) for o in scene if o.returns]
    assert back and all(o.centre_at(1.0) == o.start_xy != o.centre_at(0.5) for o in back)


def test_frames_are_square_rgb_bytes():
    clip = sample_clip(random.Random(1), SceneRecipe())
    assert clip.frames_thwc.shape == (1, SIDE, SIDE, 3) and clip.frames_thwc.dtype == np.uint8


def test_scenes_have_up_to_five_objects_and_few_of_unclear_size():
    drawn = scenes(SceneRecipe(), 400)
    assert {len(scene) for scene in drawn} == {1, 2, 3, 4, 5}
    sizes = [o for scene in drawn for o in scene]
    unclear = [o for o in sizes if not o.has_clear_size]
    assert 0 < len(unclear) < len(sizes) / 8
    assert all(12 < o.radius < 16 for o in unclear)


def hidden_share(scene):
    """The largest share of an object that others hide at some moment."""
    clip = render(scene, np.linspace(0, 1, 12).tolist(), random.Random(0))
    visible = np.stack([clip.masks_thw(i).sum((1, 2)) for i in range(len(scene))], 1)
    hidden = 1 - visible / np.maximum(clip.areas_tn, 1)
    return hidden[clip.areas_tn > 0].max()


def test_in_crossing_scenes_objects_hide_each_other():
    usual, crossing = (
        [hidden_share(scene) for scene in scenes(SceneRecipe(video=True, crossing_share=share), 60)]
        for share in (0.0, 1.0)
    )
    assert np.mean(np.array(crossing) > 0.4) > np.mean(np.array(usual) > 0.4) + 0.3


def test_an_object_that_leaves_and_turns_back_is_visible_again():
    recipe = SceneRecipe(video=True, leave_share=1.0, return_share=1.0)
    returning = [o for scene in scenes(recipe) for o in scene if o.turns_back]
    assert len(returning) > 50
    for obj in returning:
        clip = render((obj,), (0.0, 0.5, 1.0), random.Random(0))
        assert clip.areas_tn[0, 0] > 0 and clip.areas_tn[1, 0] == 0 and clip.areas_tn[2, 0] > 0


def test_a_shape_is_drawn_in_different_styles():
    assert not np.allclose(unit_outline("star", 0.0), unit_outline("star", 1.0))
    assert np.allclose(unit_outline("square", 0.0), unit_outline("square", 1.0))
