"""Media whose decoding breaks: the frames up to there, a warning, and `complete` false."""

from __future__ import annotations

import pytest

from sa2va_server.cli.demo_scene import write_demo_clip
from sa2va_tools import Settings, load_engine
from sa2va_tools.engine import clip as clips
from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import MediaUnreadableError
from sa2va_tools.media import media as media_module


@pytest.mark.parametrize("prompted", ["words", "box"])
def test_a_video_that_breaks_off_while_it_is_decoded_gives_the_frames_before(
    clip, tmp_path, monkeypatch, prompted
):
    """As behind what opening it looks at: decoding fails at the ninth frame and goes no further."""

    whole = clips.iter_frames

    def breaking(media, frame_indices, **others):
        for index, picture in whole(media, frame_indices, **others):
            if index >= 8:
                raise MediaUnreadableError("Frame 8 cannot be decoded.")
            yield index, picture

    monkeypatch.setattr(clips, "iter_frames", breaking)
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        if prompted == "words":
            result = engine.segment(clip, ["the red square"])
        else:
            result = engine.track(clip, Region(box_xyxy=(10, 10, 60, 60)), frame_index=4)
    track = result.objects[0].track
    assert track.frame_indices == tuple(range(8)) and len(track.rles) == len(result.objects[0].times_s) == 8
    assert result.provenance.frames == 8 and not result.provenance.complete
    assert any(
        f"8 of its {result.media.frame_count} frames got masks" in warning for warning in result.warnings
    )


def test_tracking_backwards_stops_at_the_damage(clip, tmp_path, monkeypatch):
    """Frames 8 to 11 do not decode, for whoever begins before they are passed."""
    whole = clips.iter_frames

    def holed(media, frame_indices, **others):
        for index, picture in whole(media, frame_indices, **others):
            if 8 <= index < 12:
                raise MediaUnreadableError(f"Frame {index} cannot be decoded.")
            yield index, picture

    monkeypatch.setattr(clips, "iter_frames", holed)
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        result = engine.track(clip, Region(box_xyxy=(30, 10, 60, 40)), frame_index=15)
    assert result.objects[0].track.frame_indices == (*range(8), *range(12, 16))
    assert not result.provenance.complete and any("12 of its 16 frames" in said for said in result.warnings)


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A video whose second half is gone, farther than what opening it decodes."""
    monkeypatch.setattr(media_module, "_VERIFY_BUDGET_PX", 160 * 120 * 3)
    path = write_demo_clip(tmp_path / "a.mp4", frames=40, size_wh=(160, 120))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with load_engine(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        handle = engine.find_media(path).handle
        yield engine, handle


def test_words_about_a_damaged_video_are_about_its_readable_part(damaged):
    engine, handle = damaged
    described = engine.describe(handle)
    assert 5 < described.provenance.llm_frames[-1] < 30 and not described.provenance.complete
    assert any("of its 40 frames could be read" in said for said in described.warnings)
    for mode in ("sa2va", "sa2va-i"):
        result = engine.segment(handle, "the red circle", mode=mode)
        made = result.provenance
        assert 5 < made.frames < 30 and max(made.llm_frames) < made.frames and not made.complete
        assert any(f"{made.frames} of its 40 frames got masks" in said for said in result.warnings)
    shown = engine.view(handle)
    assert 5 < shown.frames[-1] < made.frames
    with pytest.raises(MediaUnreadableError):
        engine.view(handle, frame_index=39)
