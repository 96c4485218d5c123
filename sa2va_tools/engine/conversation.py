"""Conversations: an answer stores the turns that led to it, so that a later call can continue it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.frame_plan import FramePlan
from sa2va_tools.engine.library import Library, OpenedMedia
from sa2va_tools.errors import RequestError
from sa2va_tools.model.output import ModelAnswer
from sa2va_tools.model.text.prompts import Turn
from sa2va_tools.wording import argument, call

MAX_TURNS = 32


@dataclass(frozen=True, slots=True)
class Conversation:
    """Questions and raw answers so far, and the source frames that the language model saw."""

    turns: tuple[Turn, ...] = ()
    llm_frames: tuple[int, ...] = ()

    def apply_to(self, plan: FramePlan, clip: Clip) -> FramePlan:
        """`plan` with the frames that the conversation is about. RequestError if the clip lacks them."""
        if not self.turns:
            return plan
        positions = clip.find_positions(self.llm_frames)
        if len(positions) < len(self.llm_frames):
            raise RequestError(
                f"The conversation is about frames {', '.join(map(str, self.llm_frames))}, but the current "
                "range does not include all of them.",
                hint=f"Leave out {argument('start_s')}, {argument('end_s')} and {argument('stride')}, or "
                "repeat those of the first turn.",
            )
        return plan.with_llm_positions(positions, clip)

    def extend(self, questions: Sequence[str], answers: Sequence[ModelAnswer]) -> tuple[tuple[str, str], ...]:
        """All turns including these new ones, for the record of the answer."""
        new = [(question, answer.text) for question, answer in zip(questions, answers, strict=True)]
        return (*((turn.question, turn.answer) for turn in self.turns), *new)


def load_conversation(library: Library, after: str | None, opened: OpenedMedia) -> Conversation:
    """The conversation that ends with the answer `after`; an empty one for None.

    Raises UnknownHandleError, and RequestError for an answer about other media, one that cannot be
    continued (a caption, a track), or a conversation that has become too long.
    """
    if after is None:
        return Conversation()
    record = library.store.get_answer(after)
    if record.media_handle != opened.ref.handle:
        raise RequestError(
            f"{after} is about {record.media_handle}, not about {opened.ref.handle} ({opened.ref.name}).",
            hint=f"Continue it with the same image or video, or leave out {argument('after')}.",
        )
    turns = tuple(Turn(question, answer) for question, answer in record.turns)
    if not turns:
        raise RequestError(
            f"{after} ({record.kind}) cannot be continued.",
            hint=f"Continue the answer of {call('describe')}, {call('segment')} or {call('ground')}.",
        )
    if len(turns) >= MAX_TURNS:
        raise RequestError(
            f"The conversation up to {after} has {len(turns)} turns; at most {MAX_TURNS} are allowed.",
            hint=f"Start a new one: leave out {argument('after')}.",
        )
    return Conversation(turns, tuple(record.provenance["llm_frames"]))
