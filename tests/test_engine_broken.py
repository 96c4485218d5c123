"""Media whose decoding breaks: the frames up to there, a warning, and `complete` false."""

from __future__ import annotations

import pytest

from sa2va_tools import Engine, Settings
from sa2va_tools.engine import clip as clips
from sa2va_tools.engine.regions import Region
from sa2va_tools.errors import MediaUnreadableError


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
    with Engine.load(settings=Settings(device="cpu", store_dir=tmp_path / "store")) as engine:
        if prompted == "words":
            result = engine.segment(clip, ["the red square"])
        else:
            result = engine.track(clip, Region(box_xyxy=(10, 10, 60, 60)), frame_index=4)
    track = result.objects[0].track
    assert track.frame_indices == tuple(range(8)) and len(track.rles) == len(result.objects[0].times_s) == 8
    assert result.provenance.frames == 8 and not result.provenance.complete
    assert any(f"8 of {result.media.frame_count} frames got masks" in warning for warning in result.warnings)
