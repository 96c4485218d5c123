"""Objects of one result that are the same thing, asked for or named twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.masks.duplicates import find_duplicates


def mark_duplicates(objects: Sequence[MaskObject]) -> tuple[MaskObject, ...]:
    """The objects with `duplicate_of`. It follows from the masks and is not stored."""
    firsts = find_duplicates([item.track for item in objects])
    return tuple(
        replace(item, duplicate_of=None if first is None else objects[first].handle)
        for item, first in zip(objects, firsts, strict=True)
    )
