"""Handles chain: describe, track, draw and save what an earlier call found.

Needs the clip that `sa2va demo` makes; run it in the same folder.
"""

from __future__ import annotations

from pathlib import Path

from sa2va_tools import Region, load_engine

CLIP = "sa2va-demo/clip.mp4"

with load_engine("nano") as engine:
    print("answer:", engine.describe(CLIP, "How many objects are there?").text)

    found = engine.segment(CLIP, "the red circle")["the red circle"]
    print("found:", found.found, found.handle or found.reason)

    region = Region(mask=found.handle) if found.handle else Region(box_xyxy=(320, 220, 470, 360))
    print("at that place:", engine.caption_region(CLIP, region).captions[0].text)

    tracked = engine.track(CLIP, region, frame_index=0)
    print("tracked through", len(tracked.frame_indices), "frames")

    picture = engine.view(tracked.handle)
    Path("sa2va-demo/tracked.jpg").write_bytes(picture.image)
    print("drawn:", picture.size_wh, [(number, label) for number, _, label in picture.legend])
