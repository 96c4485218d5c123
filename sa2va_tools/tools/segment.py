"""`segment_by_text`: masks, or tracks on video, of what expressions refer to."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from sa2va_tools.engine.protocol import Engine
from sa2va_tools.engine.results import SegmentResult
from sa2va_tools.errors import RequestError
from sa2va_tools.progress import CancelToken, ProgressCallback
from sa2va_tools.tools.arguments import After, GroundingArguments, Media, Texts, wishes_of
from sa2va_tools.tools.base import Tool, ToolOutput
from sa2va_tools.tools.outputs import MasksResult
from sa2va_tools.tools.reporting import (
    in_words,
    list_masks,
    masks_words,
    media_out,
    media_words,
    provenance_out,
)

MAX_EXPRESSIONS = 16
MAX_EXPRESSION_LENGTH = 1000
_EXAMPLE = 'Name one thing per expression, e.g. ["the red car", "the person on the left"].'


class SegmentArguments(GroundingArguments):
    media: Media
    expressions: Texts = Field(
        description=(
            f'What to find: a phrase, or up to {MAX_EXPRESSIONS}: ["the red car", "the dog on the left"].'
        )
    )
    after: After = None


def checked_expressions(given: Sequence[str]) -> list[str]:
    """The expressions, stripped. RequestError on none, an empty one, too many or a repetition."""
    expressions = [item.strip() for item in given]
    if not expressions:
        raise RequestError("The list of expressions is empty.", hint=_EXAMPLE)
    if len(expressions) > MAX_EXPRESSIONS:
        raise RequestError(
            f"{len(expressions)} expressions are too many; at most {MAX_EXPRESSIONS} go into one call.",
            hint="Split them over several calls: later calls on the same media are cheaper.",
        )
    seen: dict[str, int] = {}
    for number, expression in enumerate(expressions, start=1):
        if not expression:
            which = "The expression" if len(expressions) == 1 else f"Expression {number}"
            raise RequestError(f"{which} is empty.", hint=_EXAMPLE)
        if len(expression) > MAX_EXPRESSION_LENGTH:
            raise RequestError(
                f"Expression {number} has {len(expression)} characters; at most {MAX_EXPRESSION_LENGTH}.",
                hint=_EXAMPLE,
            )
        first = seen.setdefault(expression.casefold(), number)
        if first != number:
            raise RequestError(
                f"Expressions {first} and {number} are the same: {expression!r}.",
                hint="Give each expression once; one expression can match several things only as one mask.",
            )
    return expressions


def masks_output(result: SegmentResult, verb: str) -> ToolOutput:
    """A SegmentResult as structured content and words; `verb` begins the summary."""
    listing = list_masks(result.objects, result.media, result.warnings)
    found = sum(item.found for item in result.objects)
    summary = (
        f"{verb} {found} of {len(result.objects)} in {media_words(result.media)}, all in {result.handle}: "
        f"{masks_words(listing.masks)}."
    )
    looked_at = result.provenance.frames
    if 0 < looked_at < result.media.frame_count:
        summary += f" Only {looked_at} of {result.media.frame_count} frames were looked at."
    structured = MasksResult(
        summary=summary,
        handle=result.handle,
        media=media_out(result.media),
        masks=listing.masks,
        truncated=listing.truncated,
        provenance=provenance_out(result.provenance),
        warnings=listing.warnings,
    )
    return ToolOutput(structured, in_words(summary, listing.warnings))


def _run(
    engine: Engine, arguments: SegmentArguments, on_progress: ProgressCallback, cancel: CancelToken
) -> ToolOutput:
    result = engine.segment(
        arguments.media,
        checked_expressions(arguments.expressions),
        mode=arguments.mode,
        start_s=arguments.start_s,
        end_s=arguments.end_s,
        stride=arguments.stride,
        key_frames=arguments.key_frames,
        after=arguments.after,
        on_progress=on_progress,
        cancel=cancel,
        **wishes_of(arguments),
    )
    return masks_output(result, "Found")


TOOL = Tool(
    name="segment_by_text",
    title="Find and mask by words",
    description=(
        "Find things in an image or video by words. Returns per expression: found or the reason why not, "
        "a mask: handle, confidence, box, area and, on video, the frames and seconds in which it is seen "
        "(it is tracked through every frame). Then call view with the handles to check the masks, "
        "or pass a handle to caption_region or track_region. Not found is an answer: rephrase, or call "
        "describe to learn what is there."
    ),
    arguments=SegmentArguments,
    result=MasksResult,
    run=_run,
)
