"""`track_region`: follow what is pointed at in one frame through a video."""

from __future__ import annotations

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.progress import CancelToken, ProgressCallback
from sa2va_tools.tools.arguments import (
    FinishArguments,
    FrameArguments,
    OptionalMedia,
    RangeArguments,
    Regions,
    frame_asked_for,
    wishes_of,
)
from sa2va_tools.tools.base import Tool, ToolOutput
from sa2va_tools.tools.caption import media_for
from sa2va_tools.tools.outputs import MasksResult
from sa2va_tools.tools.segment import masks_output


class TrackArguments(FinishArguments, FrameArguments, RangeArguments):
    regions: Regions
    media: OptionalMedia = None


def _run(
    engine: Engine, arguments: TrackArguments, on_progress: ProgressCallback, cancel: CancelToken
) -> ToolOutput:
    media = media_for(engine, arguments.media, arguments.regions)
    if arguments.time_s is not None:
        media = engine.media_of(media, cancel=cancel).handle  # so that it is read once
    result = engine.track(
        media,
        arguments.regions,
        frame_index=frame_asked_for(engine, media, arguments, cancel),
        start_s=arguments.start_s,
        end_s=arguments.end_s,
        stride=arguments.stride,
        on_progress=on_progress,
        cancel=cancel,
        **wishes_of(arguments),
    )
    return masks_output(result, "Tracked")


TOOL = Tool(
    name="track_region",
    title="Track a region",
    description=(
        "Follow something that you point at in one frame (box, points, polygon, RLE or a mask: handle) "
        "through a video, forwards and backwards from that frame (default: where a mask is largest, else "
        "the first). Use it when words cannot tell the object "
        "apart, or to correct a track from a frame where its mask is right. Returns, per region, a new "
        "mask: handle with confidence, box and the frames and seconds in which it is seen; check it with "
        "view."
    ),
    arguments=TrackArguments,
    result=MasksResult,
    run=_run,
)
