"""Stored results as what the tool that made them answered with."""

from __future__ import annotations

from sa2va_tools.engine.requests import asks_for_masks
from sa2va_tools.engine.results import AnswerResult, CaptionResult, SegmentResult
from sa2va_tools.tools.base import ToolOutput
from sa2va_tools.tools.regions import caption_output
from sa2va_tools.tools.words import describe_output, ground_output, masks_output


def stored_output(result: AnswerResult | SegmentResult | CaptionResult) -> ToolOutput:
    """Structured content and words, as when the result was made."""
    match result:
        case CaptionResult():
            return caption_output(result)
        case SegmentResult():
            return masks_output(result, "Found" if result.answers else "Tracked")
        case AnswerResult() if result.objects or asks_for_masks(result.question):
            return ground_output(result)
        case _:
            return describe_output(result)
