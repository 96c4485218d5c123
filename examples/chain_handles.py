"""Handles chain: what one call finds, the next one describes, follows, draws and saves.

Needs the clip of `sa2va demo`; run it in the same folder.
"""

from __future__ import annotations

from pathlib import Path

from sa2va_tools import Engine, Region

CLIP = "sa2va-demo/clip.mp4"

with Engine.load("nano") as engine:
    print("described:", engine.describe(CLIP, "How many objects are there?").text)

    found = engine.segment(CLIP, "the red circle").objects[0]
    print("found:", found.found, found.handle or found.reason)

    region = Region(mask=found.handle) if found.handle else Region(box_xyxy=(320, 220, 470, 360))
    print("at that place:", engine.caption_region(CLIP, region).captions[0].text)

    followed = engine.track(CLIP, region, frame_index=0)
    track = followed.objects[0].track
    print("followed through", 0 if track is None else len(track.visible), "frames")

    picture = engine.view(followed.handle)
    Path("sa2va-demo/followed.jpg").write_bytes(picture.image)
    print("drawn:", picture.size_wh, [(number, label) for number, _, label in picture.legend])
