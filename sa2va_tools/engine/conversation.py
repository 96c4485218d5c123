"""Conversations: an answer remembers the turns that led to it, so that a later call can go on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.key_frames import FramePlan, with_seen
from sa2va_tools.engine.library import Library, Opened
from sa2va_tools.errors import RequestError
from sa2va_tools.model.output import ModelAnswer
from sa2va_tools.model.prompt import Turn

MAX_TURNS = 32
_TURNS = "turns"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was asked and answered so far, in the model's own words, and the source frames that it saw."""

    turns: tuple[Turn, ...] = ()
    seen: tuple[int, ...] = ()

    def plan(self, plan: FramePlan, clip: Clip) -> FramePlan:
        """`plan` with the frames that the conversation is about. RequestError where the range lacks them."""
        if not self.turns:
            return plan
        position_of = {frame: position for position, frame in enumerate(clip.frame_indices)}
        if not all(frame in position_of for frame in self.seen):
            raise RequestError(
                f"The conversation is about frames {', '.join(map(str, self.seen))}; the range that was "
                "given now lacks some of them.",
                hint="Leave out start_s, end_s and stride, or give those of the first turn.",
            )
        return with_seen(plan, clip, tuple(position_of[frame] for frame in self.seen))

    def extended(self, asked: Sequence[str], answers: Sequence[ModelAnswer]) -> dict[str, Any]:
        """What a record keeps so that the conversation can go on: its turns, these last."""
        new = [Turn(question, answer.text) for question, answer in zip(asked, answers, strict=True)]
        return {_TURNS: [[turn.question, turn.answer] for turn in (*self.turns, *new)]}


def conversation(library: Library, after: str | None, opened: Opened) -> Conversation:
    """The conversation that the answer `after` ended; an empty one for None.

    Raises UnknownHandleError, and RequestError for an answer about other media, one that was no turn of a
    conversation (a caption, a track), or a conversation that has grown too long.
    """
    if after is None:
        return Conversation()
    record = library.store.get_answer(after)
    if record.media_handle != opened.ref.handle:
        raise RequestError(
            f"{after} is about {record.media_handle}, not about {opened.ref.handle} ({opened.ref.name}).",
            hint="A conversation stays with one image or video.",
        )
    turns = tuple(Turn(question, answer) for question, answer in record.extra.get(_TURNS, ()))
    if not turns:
        raise RequestError(
            f"{after} ({record.kind}) is no turn of a conversation.",
            hint="Go on from the answer of describe, segment_by_text or ground_conversation.",
        )
    if len(turns) >= MAX_TURNS:
        raise RequestError(
            f"The conversation up to {after} has {len(turns)} turns; {MAX_TURNS} are allowed.",
            hint="Begin a new one: leave out `after`.",
        )
    return Conversation(turns, tuple(record.provenance["key_frames"]))
