"""The outcomes as tables in Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from clients.running import Outcome
from clients.verdicts import describe_problems

COLUMNS = ("list", "segment", "view", "caption", "nulls", "error")
LONG_COLUMNS = ("long call", "short call", "same again")


def format_table(outcomes: Sequence[Outcome], versions: Mapping[str, str]) -> str:
    """One row per client and variant: what of each step reached the model."""
    rows: list[Sequence[str]] = [("client", "version", *COLUMNS, "end")]
    for outcome in outcomes:
        words = [outcome.verdicts[name].words for name in COLUMNS]
        problems = describe_problems(outcome.recording.offered_tools())
        if problems:
            words[0] += f" ({len(problems)} problems: {problems[0]})"
        rows.append((outcome.title, versions[outcome.client.name], *words, outcome.last_error or "ok"))
    return _format_rows(rows)


def format_long_table(outcomes: Sequence[Outcome], versions: Mapping[str, str]) -> str:
    """One row per client and variant: after how long each call was answered, and with what."""
    rows: list[Sequence[str]] = [("client", "version", *LONG_COLUMNS, "end")]
    for outcome in outcomes:
        words = [_describe_wait(outcome, step) for step in LONG_COLUMNS]
        rows.append((outcome.title, versions[outcome.client.name], *words, outcome.last_error or "ok"))
    return _format_rows(rows)


def _describe_wait(outcome: Outcome, step: str) -> str:
    exchanges = outcome.recording.exchanges
    for exchange, following in itertools.pairwise(exchanges):
        if exchange.step == step:
            read = outcome.recording.read_after(step) or []
            text = " ".join(part.content for message in read for part in message.parts if part.kind == "text")
            return f"{following.seconds - exchange.seconds:.1f} s: {' '.join(text.split())[:100]}"
    return "no answer"


def _format_rows(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)
