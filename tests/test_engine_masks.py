"""Mask options on the embedded nano model: threshold, smooth edges, gate; and what is recorded of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from agreement import SCORE, assert_same_masks, assert_same_object
from PIL import Image

from sa2va_tools import Region, Run, Settings, load_engine
from sa2va_tools.engine.results import Provenance
from sa2va_tools.errors import RequestError
from sa2va_tools.masks import rle
from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.testing import FakeEngine

SIZE = (320, 240)
FRAMES = 6
RED = "the red circle"


def _frame(index: int) -> np.ndarray:
    """A red disc that moves right over grey."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    frame = np.full((SIZE[1], SIZE[0], 3), 130, np.uint8)
    frame[np.hypot(x - 100 - 8 * index, y - 110) < 50] = (220, 40, 40)
    return frame


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    with VideoWriter(folder / "clip.mp4", SIZE, 10, threads=1) as writer:
        for index in range(FRAMES):
            writer.write(_frame(index))
    Image.fromarray(_frame(0)).save(folder / "still.png")
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with load_engine("nano", settings=Settings(store_dir=tmp_path_factory.mktemp("store"))) as made:
        yield made


def _masks(result) -> np.ndarray:
    track = result.objects[0].track
    return np.stack([track.mask(index) for index in track.frame_indices])


@pytest.fixture(scope="module")
def usual(engine, media):
    return {mode: engine.segment(media / "clip.mp4", RED, mode=mode) for mode in ("sa2va", "sa2va-i")}


@pytest.mark.parametrize("mode", ["sa2va", "sa2va-i"])
def test_a_stricter_threshold_gives_a_part_of_the_mask_in_every_frame(engine, media, usual, mode):
    """Were it to reach the memory or the key frames' prompts, tracked masks would not nest."""
    results = [
        engine.segment(media / "clip.mp4", RED, mode=mode, threshold=threshold)
        for threshold in (0.2, 0.5, 0.8)
    ]
    assert_same_masks(results[1].objects[0].track, usual[mode].objects[0].track)
    by_threshold = [_masks(result) for result in results]
    loose, same, strict = by_threshold
    assert (loose & same == same).all() and (same & strict == strict).all()
    areas = [masks.sum((1, 2)) for masks in by_threshold]
    assert strict.any((1, 2)).all() and (areas[0] > areas[1]).all() and (areas[1] > areas[2]).all()


@pytest.mark.parametrize("mode", ["sa2va", "sa2va-i"])
def test_smoothing_changes_edges_only_and_no_scores_of_objects(engine, media, usual, mode):
    smooth = engine.segment(media / "clip.mp4", RED, mode=mode, smooth=True)
    before, after = _masks(usual[mode]), _masks(smooth)
    changed = (before != after).sum((1, 2)) / before.sum((1, 2))
    assert (changed > 0).any() and (changed < 0.1).all()
    tracks = usual[mode].objects[0].track, smooth.objects[0].track
    assert tracks[0].object_scores == pytest.approx(tracks[1].object_scores, abs=SCORE)
    assert all(0.5 < score <= 1 for score in tracks[1].mask_scores)


def test_options_that_differ_from_the_defaults_are_in_the_provenance_and_the_record(engine, media, usual):
    options = {"threshold": 0.7, "smooth": True, "gate_by_object_score": False}
    result = engine.segment(media / "still.png", RED, **options)
    made = result.provenance
    assert {name: getattr(made, name) for name in options} == options
    store = engine.library.store
    for handle in (result.handle, result.objects[0].handle):
        kept = (store.get_mask if handle.startswith("mask:") else store.get_answer)(handle).provenance
        assert options.items() <= kept.items()
    assert not options.keys() & store.get_answer(usual["sa2va"].handle).provenance.keys()
    assert not options.keys() & usual["sa2va"].provenance.to_json().keys()


def test_default_options_are_not_written():
    made = Provenance(
        checkpoint="nano",
        revision="x",
        family="y",
        mode="image",
        llm_frames=(0,),
        prompt_frames=(0,),
        frames=1,
        size_wh=(8, 8),
        device="cpu",
        dtype="float32",
        version="0",
    )
    assert (made.gate_by_object_score, made.threshold, made.smooth) == (True, 0.5, False)
    assert "threshold" not in made.to_json() and made.to_json()["complete"] is True


def test_a_grounded_answer_and_a_track_take_them_too(engine, media):
    clip = media / "clip.mp4"
    box = Region(box_xyxy=(50, 60, 150, 160))
    loose, strict = (engine.track(clip, box, threshold=threshold) for threshold in (0.2, 0.8))
    assert (_masks(loose)[1:].sum((1, 2)) > _masks(strict)[1:].sum((1, 2))).all()
    assert engine.track(clip, box, smooth=True).provenance.smooth
    assert engine.ground(media / "still.png", threshold=0.8, smooth=True).provenance.threshold == 0.8


@pytest.mark.parametrize("threshold", [0, 1, 2.5, float("nan")])
@pytest.mark.parametrize("kind", ["local", "fake"])
def test_thresholds_that_are_none_are_refused_before_the_model_is_asked(media, tmp_path, kind, threshold):
    still = media / "still.png"
    missing = Settings(store_dir=tmp_path, model=str(Path("no") / "such" / "checkpoint"))
    with FakeEngine(tmp_path) if kind == "fake" else load_engine(settings=missing) as engine:
        for call in (
            lambda: engine.segment(still, RED, threshold=threshold),
            lambda: engine.ground(still, threshold=threshold),
            lambda: engine.track(still, Region(box_xyxy=(1, 1, 9, 9)), threshold=threshold),
        ):
            with pytest.raises(RequestError, match="between 0 and 1"):
                call()


@pytest.mark.parametrize("threshold", [0.0001, 0.5, 0.9999])
def test_a_tracked_region_stays_as_it_was_given(engine, media, threshold):
    clip = media / "clip.mp4"
    width, height = engine.find_media(clip).size_wh
    exact = np.zeros((height, width), bool)
    exact[41:77, 33:90] = True
    exact[50:60, 50:51] = False
    region = Region(rle=rle.encode(exact))
    tracked = engine.track(clip, region, frame_index=5, threshold=threshold)
    still = engine.track(media / "still.png", region, threshold=threshold)
    assert np.array_equal(tracked.objects[0].track.mask(5), exact)
    assert np.array_equal(still.objects[0].track.mask(0), exact)
    assert tracked.objects[0].track.mask_scores[5] == 1.0


def test_a_region_too_small_to_be_tracked_is_returned_as_given_with_a_warning(engine, media):
    width, height = engine.find_media(media / "clip.mp4").size_wh
    dot = np.zeros((height, width), bool)
    dot[20, 30] = True
    result = engine.track(media / "clip.mp4", Region(rle=rle.encode(dot)), frame_index=2)
    (item,) = result.objects
    assert item.found and item.track.visible == (2,) and item.track.areas[2] == 1
    assert any("Region 1 is smaller than the model can see" in said for said in result.warnings)


@pytest.mark.parametrize("threshold", [0.001, 0.5, 0.999])
def test_a_given_region_is_sure_of_its_pixels_whatever_the_threshold(engine, media, threshold):
    region = Region(polygon_xy=((60, 60), (150, 60), (150, 160), (60, 160)))
    (given,) = engine.track(media, region, frame_index=0, threshold=threshold).objects
    assert given.track.mask_scores[0] == 1.0


def test_a_handle_does_not_tell_what_was_kept_when_it_was_made(media, tmp_path):
    asked = [RED, "the blue star"]
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path)) as engine:
        alone = engine.segment(media, asked, gate_by_object_score=False)
        with engine.host.use(Run()) as session:
            session.runtime.cache.clear()
        engine.describe(media)
        again = engine.segment(media, asked, gate_by_object_score=False)
        (single, *_) = engine.segment(media, asked[0], gate_by_object_score=False).objects
    for ours, theirs in zip((*again.objects, single), (*alone.objects, alone.objects[0]), strict=True):
        assert_same_object(ours, theirs)
    same_masks = [each.handle for each in again.objects] == [each.handle for each in alone.objects]
    assert (again.handle == alone.handle) == same_masks


@pytest.mark.parametrize("wrong", [{"mode": "sa2va_i"}, {"mode": None}, {"llm_frames": 2.5}, {"stride": "2"}])
def test_arguments_of_other_kinds_are_refused_in_our_words(engine, media, wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        engine.segment(media, RED, **wrong)
