"""`track_region`: follow what is pointed at in one frame through a video."""

from __future__ import annotations

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.progress import CancelToken, ProgressCallback
from sa2va_tools.tools.arguments import (
    FinishArguments,
    RangeArguments,
    RegionArguments,
    place_asked_for,
    wishes_of,
)
from sa2va_tools.tools.base import Tool, ToolOutput
from sa2va_tools.tools.outputs import MasksResult
from sa2va_tools.tools.segment import masks_output


class TrackArguments(FinishArguments, RegionArguments, RangeArguments):
    pass


def _run(
    engine: Engine, arguments: TrackArguments, on_progress: ProgressCallback, cancel: CancelToken
) -> ToolOutput:
    media, frame = place_asked_for(engine, arguments, cancel)
    result = engine.track(
        media,
        arguments.regions,
        frame_index=frame,
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
