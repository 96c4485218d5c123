"""The local engine on the embedded nano model: every call, its results and its refusals."""

from __future__ import annotations

import json
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from agreement import assert_same_object
from PIL import Image
from pycocotools import mask as coco

from sa2va_tools import Region, Run, Settings, load_engine
from sa2va_tools.engine.local import LocalEngine
from sa2va_tools.errors import (
    AccessDeniedError,
    CancelledError,
    CheckpointNotFoundError,
    MediaUnreadableError,
    RequestError,
    UnknownHandleError,
)
from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.media.source import AccessPolicy

FPS = Fraction(10)
SIZE = (160, 128)
SIDE = 40


def _frame(index: int) -> np.ndarray:
    """A red square that moves right over grey, above a still blue one."""
    frame = np.full((SIZE[1], SIZE[0], 3), 130, np.uint8)
    frame[20 : 20 + SIDE, 10 + 3 * index : 10 + 3 * index + SIDE] = (220, 40, 40)
    frame[80:116, 100:136] = (45, 80, 220)
    return frame


def _write_clip(path: Path, frames: int) -> Path:
    with VideoWriter(path, SIZE, FPS, threads=1) as writer:
        for index in range(frames):
            writer.write(_frame(index % 24))
    return path


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    _write_clip(folder / "clip.mp4", 20)
    _write_clip(folder / "long.mp4", 600)
    Image.fromarray(_frame(0)).save(folder / "still.png")
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    with load_engine("nano", settings=Settings(store_dir=store, max_new_tokens=80)) as made:
        yield made


@pytest.fixture(scope="module")
def segmented(engine, media):
    return engine.segment(media / "clip.mp4", ["the red square", "the blue square"])


@pytest.fixture(scope="module")
def tracked(engine, media):
    box = Region(box_xyxy=(38, 18, 84, 62))
    return engine.track(media / "clip.mp4", box, frame_index=10)


def _truth(index: int) -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[20 : 20 + SIDE, 10 + 3 * index : 10 + 3 * index + SIDE] = True
    return mask


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


# ---- what comes back ------------------------------------------------------------------------------


def test_segment_finds_what_the_words_refer_to_in_every_frame(segmented):
    red = segmented.objects[0]
    assert red.found, red.reason
    assert red.track.frame_indices == tuple(range(20))
    overlaps = [_iou(red.track.mask(index), _truth(index)) for index in range(20)]
    assert np.mean(overlaps) > 0.5
    assert 0 < red.score <= 1


def test_each_expression_is_an_object_of_its_own_with_its_own_handle(segmented):
    red, blue = segmented.objects
    assert (red.label, blue.label) == ("the red square", "the blue square")
    assert red.handle != blue.handle
    assert len(segmented.answers) == 2


def test_provenance_says_what_was_done(segmented):
    made = segmented.provenance
    assert (made.checkpoint, made.family, made.mode) == ("nano", "internvl+qwen2", "sa2va")
    assert made.frames == 20
    assert made.size_wh == SIZE
    assert made.prompt_frames == (0,)
    assert set(made.llm_frames) <= set(range(20))
    assert len(made.revision) == 12
    assert {"look", "answer", "propagate"} <= set(made.timings_s)
    assert any("toy world" in warning for warning in segmented.warnings)


def test_words_that_the_toy_model_was_not_trained_on_are_named(engine, media):
    still = media / "still.png"
    warnings = engine.segment(still, "the shiny red dragon").warnings
    assert any('"shiny", "dragon"' in warning for warning in warnings)
    known = engine.segment(still, "the red circle").warnings
    assert not any("not trained on" in warning for warning in known)
    asked = engine.describe(still, "Is there a Red circle and a zebra?").warnings
    (unknown,) = [warning for warning in asked if "not trained on" in warning]
    assert '"zebra"' in unknown and '"red"' not in unknown.lower()


def test_rle_is_what_pycocotools_reads_at_the_videos_size(segmented):
    track = segmented.objects[0].track
    rle = track.at(3)
    assert rle["size"] == [SIZE[1], SIZE[0]]
    assert int(coco.area({"size": rle["size"], "counts": rle["counts"].encode()})) == track.area(3)


def test_what_is_not_there_is_an_answer_with_a_reason(engine, media):
    result = engine.segment(media / "still.png", "the yellow star")
    (star,) = result.objects
    assert not star.found
    assert star.reason
    assert star.handle is None
    assert star.score == 0


def test_a_range_and_a_stride_keep_the_sources_frame_numbers_and_seconds(engine, media):
    result = engine.segment(media / "clip.mp4", "red square", start_s=0.5, end_s=1.5, stride=2)
    (red,) = result.objects
    assert result.provenance.frames == 6
    if red.found:
        assert red.track.frame_indices == (5, 7, 9, 11, 13, 15)
        assert red.times_s == pytest.approx((0.5, 0.7, 0.9, 1.1, 1.3, 1.5))
    assert set(result.provenance.llm_frames) <= {5, 7, 9, 11, 13, 15}


def test_mode_sa2va_i_without_a_second_decoder_works_with_a_warning(engine, media):
    result = engine.segment(media / "clip.mp4", "red square", mode="sa2va-i", llm_frames=3)
    assert result.provenance.mode == "sa2va-i"
    assert result.provenance.llm_frames == (0, 9, 19)
    assert any("second mask decoder" in warning for warning in result.warnings)


def test_published_frame_choice_warns_about_frames_that_the_language_model_did_not_see(engine, media):
    result = engine.segment(media / "clip.mp4", "red square", llm_frames=2)
    assert result.provenance.llm_frames == (0, 1)
    assert any("only the first 2 of 20 frames" in warning for warning in result.warnings)


def test_describe_sees_uniform_frames_and_makes_no_masks(engine, media):
    result = engine.describe(media / "clip.mp4", llm_frames=5)
    assert result.provenance.llm_frames == (0, 4, 9, 14, 19)
    assert result.objects == ()
    assert result.text
    assert "<|im_end|>" not in result.text


def test_ground_links_phrases_to_masks(engine, media):
    result = engine.ground(media / "still.png")
    assert result.objects, result.raw_text
    for item in result.objects:
        if item.phrase_span is not None:
            assert result.text[slice(*item.phrase_span)] == item.label
    assert "[SEG]" not in result.text
    assert "<p>" not in result.text


def test_track_goes_both_ways_from_a_box(tracked):
    (red,) = tracked.objects
    assert red.found, red.reason
    assert red.track.frame_indices == tuple(range(20))
    assert _iou(red.track.mask(10), _truth(10)) > 0.6
    assert red.track.visible[0] < 10 < red.track.visible[-1]
    assert tracked.provenance.mode == "track"


def test_a_prompted_frame_that_the_stride_skips_is_tracked_all_the_same(engine, media):
    result = engine.track(media / "clip.mp4", Region(points_xy=[(50, 40)]), frame_index=5, stride=4)
    assert result.provenance.frames == 6


def test_captions_answer_each_region_by_itself(engine, media, tracked):
    regions = [
        Region(mask=tracked.objects[0].handle),
        Region(box_xyxy=(0.62, 0.62, 0.86, 0.92), unit="fraction"),
        Region(polygon_xy=[(100, 80), (136, 80), (136, 116), (100, 116)]),
    ]
    result = engine.caption_region(media / "clip.mp4", regions)
    assert result.frame_index == tracked.objects[0].track.largest_frame
    assert len(result.captions) == 3
    assert all(caption.text for caption in result.captions)
    assert result.captions[0].region.handle == tracked.objects[0].handle
    polygon = result.captions[2].region.track.mask(result.frame_index)
    assert polygon[85:110, 105:130].all()
    assert not polygon[:70].any()


def test_a_tiny_region_is_shown_larger_with_a_warning(engine, media):
    result = engine.caption_region(
        media / "still.png", Region(polygon_xy=[(22, 34), (26, 34), (26, 38), (22, 38)])
    )
    assert any("shown a crop" in warning for warning in result.warnings)
    assert result.captions[0].text


# ---- handles, pictures, files ---------------------------------------------------------------------


def test_handles_outlive_the_engine(engine, media, tracked):
    settings = Settings(store_dir=engine.host.settings.store_dir)
    with load_engine("nano", settings=settings) as again:
        seen = again.view(tracked.handle)
        assert seen.legend[0][1] == tracked.objects[0].handle
        assert again.find_media(tracked.objects[0].handle).handle == tracked.media.handle


def test_equal_calls_with_equal_pixels_have_equal_handles(engine, media, tracked):
    repeated = engine.track(media / "clip.mp4", Region(box_xyxy=(38, 18, 84, 62)), frame_index=10)
    assert_same_object(repeated.objects[0], tracked.objects[0])
    same_masks = repeated.objects[0].handle == tracked.objects[0].handle
    assert (repeated.handle == tracked.handle) == same_masks


def test_view_is_one_small_picture_with_a_legend(engine, tracked):
    sheet = engine.view(tracked.handle, max_side=800, max_bytes=100_000)
    assert len(sheet.image) <= 100_000
    assert max(sheet.size_wh) <= 800
    assert sheet.legend == ((1, tracked.objects[0].handle, tracked.objects[0].label),)
    assert 1 < len(sheet.frames) <= 9
    single = engine.view(tracked.objects[0].handle, frame_index=7)
    assert single.frames == (7,)
    plain = engine.view(tracked.media.handle)
    assert plain.legend == ()


def test_export_writes_files_that_others_read(engine, tracked, tmp_path):
    files = engine.export(tracked.handle, tmp_path / "out")
    written = json.loads(Path(files["json"]).read_text(encoding="utf-8"))
    first = written["objects"][0]["frames"][0]
    assert first["rle"]["size"] == [SIZE[1], SIZE[0]]
    assert len(written["objects"][0]["frames"]) == 20
    with av.open(files["overlay"]) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert sum(1 for _ in container.decode(stream)) == 20
    assert len(list(Path(files["png"]).glob("frame_*.png"))) == 20


def test_export_of_an_image_is_a_picture(engine, media, tmp_path):
    result = engine.track(media / "still.png", Region(box_xyxy=(8, 18, 52, 62)))
    files = engine.export(result.handle, tmp_path / "out")
    with Image.open(files["overlay"]) as overlay:
        assert overlay.width == SIZE[0]


# ---- progress and cancelling ----------------------------------------------------------------------


def test_progress_names_the_stages_and_counts_the_frames(engine, media):
    heard = []
    engine.segment(media / "clip.mp4", "red square", run=Run(heard.append))
    stages = list(dict.fromkeys(report.stage for report in heard))
    assert stages[:3] == ["open", "look", "answer"]
    counts = [report.done for report in heard if report.stage == "propagate"]
    assert counts in ([], list(range(1, 21)))


def test_cancelling_a_long_job_stops_it_and_the_next_call_works(engine, media):
    frames = []

    def stop_at_the_third(report):
        if report.stage == "propagate":
            frames.append(report.done)
            if report.done == 3:
                run.cancel()

    run = Run(stop_at_the_third)
    box = Region(box_xyxy=(8, 18, 52, 62))
    with pytest.raises(CancelledError):
        engine.track(media / "long.mp4", box, run=run)
    assert frames == [1, 2, 3]
    assert engine.track(media / "clip.mp4", box, end_s=0.2).objects


def test_a_job_that_waits_for_its_turn_can_be_cancelled(engine, media):
    outcome, entered = [], threading.Event()
    run = Run(lambda _: entered.set())

    def wait():
        try:
            engine.describe(media / "still.png", run=run)
        except CancelledError as error:
            outcome.append(error)

    with engine.host.use(Run()):
        thread = threading.Thread(target=wait)
        thread.start()
        assert entered.wait(60)
        run.cancel()
        thread.join(60)
    assert len(outcome) == 1


# ---- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("expressions", ["", "   ", [], ["ok", " "], "a" * 3000, "the [SEG] cat", ["x"] * 65])
def test_bad_expressions_are_refused_before_the_model_is_asked(engine, media, expressions):
    with pytest.raises(RequestError) as caught:
        engine.segment(media / "still.png", expressions)
    assert caught.value.hint


@pytest.mark.parametrize(
    "region",
    [
        Region(box_xyxy=(50, 50, 20, 20)),
        Region(box_xyxy=(0, 0, 4000, 20)),
        Region(points_xy=[(-5, 10)]),
        Region(points_xy=[(1.5, 0.2)], unit="fraction"),
        Region(box_xyxy=(0.1, 0.2, 0.4, 0.5)),
        Region(points_xy=[(0.5, 0.5)]),
        Region(rle={"size": (10, 10), "counts": "1"}),
    ],
)
def test_regions_outside_the_picture_are_refused(engine, media, region):
    with pytest.raises(RequestError) as caught:
        engine.track(media / "clip.mp4", region)
    assert caught.value.hint


def test_frames_outside_the_clip_or_the_range_are_refused(engine, media):
    box = Region(box_xyxy=(8, 18, 52, 62))
    with pytest.raises(RequestError, match="20 frame"):
        engine.track(media / "clip.mp4", box, frame_index=20)
    with pytest.raises(RequestError, match="outside the selected range"):
        engine.track(media / "clip.mp4", box, frame_index=15, end_s=1.0)
    with pytest.raises(RequestError, match="llm_frames"):
        engine.segment(media / "clip.mp4", "red square", llm_frames=0)


def test_a_second_beyond_the_video_is_refused(engine, media):
    assert engine.find_frame(media / "clip.mp4", 0.95) == 9
    with pytest.raises(RequestError, match=r"lasts 2\.000 s"):
        engine.find_frame(media / "clip.mp4", 99)


def test_masks_are_drawn_when_the_media_is_given_by_its_path(engine, media, tracked):
    seen = engine.view([str(media / "clip.mp4"), tracked.objects[0].handle], frame_index=10)
    assert [handle for _, handle, _ in seen.legend] == [tracked.objects[0].handle]


@pytest.mark.parametrize("handle", ["mask:doesnotex", "media:", "answer:XYZ"])
def test_a_mistyped_handle_is_not_taken_for_a_file(engine, handle):
    with pytest.raises(UnknownHandleError, match=r"not a handle"):
        engine.describe(handle)


def test_unknown_and_foreign_handles_are_refused(engine, media, tracked):
    with pytest.raises(UnknownHandleError):
        engine.view("mask:aaaaaaaaaa")
    with pytest.raises(RequestError, match=r"belongs to media:.* not to"):
        engine.caption_region(media / "still.png", Region(mask=tracked.objects[0].handle))


def test_a_handle_does_not_reach_around_the_allowed_roots(engine, tracked, tmp_path):
    settings = Settings(store_dir=engine.host.settings.store_dir)
    fenced = LocalEngine.from_settings("nano", settings=settings, access=AccessPolicy((tmp_path,)))
    for call in (lambda: fenced.view(tracked.handle), lambda: fenced.describe(tracked.media.handle)):
        with pytest.raises(AccessDeniedError):
            call()


def test_corrupt_media_leave_nothing_in_the_store(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and then nothing" * 20)
    with load_engine("nano", settings=Settings(store_dir=tmp_path / "store")) as engine:
        with pytest.raises(MediaUnreadableError):
            engine.describe(tmp_path / "broken.mp4")
        assert engine.library.store.handles() == ()


def test_a_model_that_is_not_there_is_an_error_of_the_first_call(tmp_path, media):
    engine = load_engine(tmp_path / "none", settings=Settings(store_dir=tmp_path / "store"))
    with pytest.raises(CheckpointNotFoundError):
        engine.describe(media / "still.png")
