"""Paraphrases beside the published prompts, and the sentences that answers begin with. Strings only."""

from __future__ import annotations

from sa2va_tools.model.prompt import CAPTION_REGION

SEGMENT_IMAGE = (
    "Can you segment {the} in this image?",
    "Could you provide a segmentation mask for {the} in this image?",
    "Please segment {the}.",
    "Segment {the}.",
    "Please segment {the} in this image.",
    "What is {the} in this image? Please respond with segmentation mask.",
    "Where is {the} in this picture? Please respond with a segmentation mask.",
    "Where is {the}? Please respond with a segmentation mask.",
    "Find {the}.",
    "Show me {the}.",
    "Mark {the} in the image.",
    "{the}",
    "{the}",
)
SEGMENT_VIDEO = (
    "Can you segment {the} in this video?",
    "Segment {the}.",
    "Please segment {the} in this video.",
    "What is {the} in this video? Please respond with a segmentation mask.",
    "Track {the}.",
    "Track {the} in this video.",
    "Find {the}.",
    "Show me {the}.",
    "{the}",
    "{the}",
)
DESCRIBE = ("Describe the {kind}.", "What is in the {kind}?", "What do you see?", "Describe this {kind}.")
REGION = (
    CAPTION_REGION,
    "What is region{number}?",
    "Describe region{number}.",
    "Can you give me a short description of region{number}?",
)
FOUND = "Sure, it is [SEG]."
FOUND_SEVERAL = "Sure, they are "
