"""What decoding a video found: its frames, those that are damaged, changes of size; and what to say about
them. Decodes nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field

from sa2va_tools.media.orientation import UPRIGHT, Orientation
from sa2va_tools.media.picture_facts import PictureFacts
from sa2va_tools.media.probe import cut_warning, list_numbers

_MAX_LISTED = 5


@dataclass(slots=True)
class DecodedFrames:
    """What the decoder returned. Sizes are after orientation."""

    pts: list[int | None] = field(default_factory=list)
    damaged: set[int] = field(default_factory=set)
    """Indices of frames with errors."""
    faults: int = 0
    """Packets that did not decode."""
    lost_pts: list[int | None] = field(default_factory=list)
    """Their timestamps."""
    to_end: bool = False
    """Whether decoding went on to the end."""
    size_wh: tuple[int, int] = (0, 0)
    """Of the first frame."""
    orientation: Orientation = UPRIGHT
    """Of the first frame."""
    changes: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    """Frames at which the size changes, and the new size."""
    facts: PictureFacts = field(default_factory=PictureFacts)
    """Of the first frame."""

    def add(
        self, pts: int | None, orientation: Orientation, size_wh: tuple[int, int], *, damaged: bool
    ) -> None:
        """Note the next frame."""
        index = len(self.pts)
        if not index:
            self.size_wh = size_wh
            self.orientation = orientation
        self.add_change(index, size_wh)
        if damaged:
            self.damaged.add(index)
        self.pts.append(pts)

    def add_change(self, index: int, size_wh: tuple[int, int]) -> None:
        """Note the size of a frame, the last one noted so far or a later one."""
        last_index, last_wh = self.changes[-1] if self.changes else (0, self.size_wh)
        if index > last_index and size_wh != last_wh:
            self.changes.append((index, size_wh))

    def add_fault(self, pts: int | None) -> None:
        """Note a packet that did not decode."""
        self.faults += 1
        self.lost_pts.append(pts)

    def mark_lost_and_damaged(self, damaged_pts: Collection[int]) -> None:
        """Add to `damaged` the frames of damaged packets, and the frame after each lost one: it is usually
        predicted from what is lost."""
        known = sorted((stamp, index) for index, stamp in enumerate(self.pts) if stamp is not None)
        self.damaged |= {index for stamp, index in known if stamp in damaged_pts}
        for lost in self.lost_pts:
            after = bisect_right(known, (lost, len(self.pts))) if lost is not None else len(known)
            if after < len(known):
                self.damaged.add(known[after][1])


def damage_warnings(
    name: str, decoded: DecodedFrames, count: int, *, cut_off: bool, has_hole: bool
) -> list[str]:
    """About a file that is cut off, lost frames and damaged frames."""
    warnings = [cut_warning(name, count)] if cut_off else []
    lost = decoded.faults - (1 if cut_off and decoded.faults == 1 else 0)
    parts = []
    if has_hole:
        parts.append("some of its bytes were never written, and the frames in them are missing")
    if lost > 0:
        parts.append(f"{lost} of its frames cannot be decoded and {'are' if lost > 1 else 'is'} left out")
    if decoded.damaged:
        numbers = list_numbers("frame", sorted(decoded.damaged))
        follow = "" if min(decoded.damaged) == count - 1 else ", and frames that follow them too"
        parts.append(f"{numbers} may show errors{follow}")
    if parts:
        warnings.append(f"{name} is damaged: {'; '.join(parts)}.")
    return warnings


def resize_warning(name: str, decoded: DecodedFrames) -> list[str]:
    """About frames that have another size than the first."""
    if not decoded.changes:
        return []
    first = "×".join(map(str, decoded.size_wh))
    shown = [f"at frame {index} to {width}×{height}" for index, (width, height) in decoded.changes]
    more = len(shown) - _MAX_LISTED
    listed = ", ".join(shown[:_MAX_LISTED]) + (f" and {more} more times" if more > 0 else "")
    return [f"{name} changes its size, {listed}; all frames are scaled to that of the first, {first}."]
