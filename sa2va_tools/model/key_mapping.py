"""Tables that translate upstream's parameter names into this package's, both ways.

A rule pairs name patterns; `{i}` and `{j}` stand for numbers, `{p}` for weight or bias, `{rest}` for
anything. Tensors are moved, cut, stacked or copied, never computed with, so loading and saving are
exact inverses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, cat

_PLACEHOLDERS = {
    "i": r"\d+",
    "j": r"\d+",
    "p": r"weight|bias",
    "rest": r".+",
    "attn": r"\w*attn\w*",
    "word": r"\w+",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`move` one to one; `split` one upstream tensor into equal parts along rows; `stack` several
    upstream tensors into the rows of one; `copy` one upstream tensor to several places."""

    kind: Literal["move", "split", "stack", "copy"]
    upstream: tuple[str, ...]
    native: tuple[str, ...]


def renamed(upstream: str, native: str) -> Rule:
    return Rule("move", (upstream,), (native,))


def split(upstream: str, *native: str) -> Rule:
    return Rule("split", (upstream,), native)


def stacked(upstream: Sequence[str], native: str) -> Rule:
    return Rule("stack", tuple(upstream), (native,))


def copied(upstream: str, *native: str) -> Rule:
    return Rule("copy", (upstream,), native)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one upstream tensor goes: native names, and how."""

    kind: Literal["move", "split", "stack", "copy"]
    native: tuple[str, ...]
    part: int = 0
    parts: int = 1

    def pieces(self, tensor: Tensor) -> dict[str, Tensor]:
        """The native tensors made of `tensor` alone (`stack` gives one row block)."""
        if self.kind == "split":
            return dict(zip(self.native, tensor.chunk(len(self.native), dim=0), strict=True))
        return dict.fromkeys(self.native, tensor)


class KeyMap:
    """A list of rules, tried in order."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._forward = [
            (re.compile(_pattern(name)), rule, part)
            for rule in self.rules
            for part, name in enumerate(rule.upstream)
        ]
        self._backward = [(re.compile(_pattern(rule.native[0])), rule) for rule in self.rules]

    def place(self, upstream: str) -> Placement | None:
        """Where an upstream key belongs; None for a key that no rule knows."""
        for pattern, rule, part in self._forward:
            match = pattern.fullmatch(upstream)
            if match:
                names = tuple(_filled(name, match) for name in rule.native)
                return Placement(rule.kind, names, part, len(rule.upstream))
        return None

    def to_upstream(self, native: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A native state dict under upstream's names: the inverse of loading."""
        made: dict[str, Tensor] = {}
        for name in native:
            for pattern, rule in self._backward:
                match = pattern.fullmatch(name)
                if match:
                    made |= _upstream_tensors(rule, match, native)
                    break
        return made


def _upstream_tensors(rule: Rule, match: re.Match[str], native: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = [native[_filled(name, match)] for name in rule.native]
    names = [_filled(name, match) for name in rule.upstream]
    if rule.kind == "split":
        return {names[0]: cat(tensors)}
    if rule.kind == "stack":
        return dict(zip(names, tensors[0].chunk(len(names), dim=0), strict=True))
    return {names[0]: tensors[0]}


def _pattern(name: str) -> str:
    escaped = re.escape(name)
    for key, expression in _PLACEHOLDERS.items():
        escaped = escaped.replace(rf"\{{{key}\}}", f"(?P<{key}>{expression})", 1)
    return escaped


def _filled(name: str, match: re.Match[str]) -> str:
    for key, value in match.groupdict().items():
        name = name.replace(f"{{{key}}}", value)
    return name
