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
    """`move` one to one; `split` one upstream tensor along its rows; `stack` several upstream tensors into
    the rows of one; `copy` one upstream tensor to several places.

    A split's rows come in `groups`, and of each group the native tensors take `shares` of equal blocks.
    """

    kind: Literal["move", "split", "stack", "copy"]
    upstream: tuple[str, ...]
    native: tuple[str, ...]
    groups: int = 1
    shares: tuple[int, ...] = ()

    def cut(self, tensor: Tensor) -> list[Tensor]:
        """The native tensors of a split."""
        blocks = tensor.view(self.groups, sum(self.shares), -1, *tensor.shape[1:])
        return [part.reshape(-1, *tensor.shape[1:]) for part in blocks.split(self.shares, dim=1)]

    def joined(self, tensors: Sequence[Tensor]) -> Tensor:
        """The upstream tensor of a split: undoes `cut`."""
        rest = tensors[0].shape[1:]
        parts = [
            tensor.view(self.groups, share, -1, *rest)
            for tensor, share in zip(tensors, self.shares, strict=True)
        ]
        return cat(parts, 1).reshape(-1, *rest)


def renamed(upstream: str, native: str) -> Rule:
    return Rule("move", (upstream,), (native,))


def split(upstream: str, *native: str, groups: int = 1, shares: tuple[int, ...] = ()) -> Rule:
    return Rule("split", (upstream,), native, groups, shares or (1,) * len(native))


def stacked(upstream: Sequence[str], native: str) -> Rule:
    return Rule("stack", tuple(upstream), (native,))


def copied(upstream: str, *native: str) -> Rule:
    return Rule("copy", (upstream,), native)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one upstream tensor goes: native names, and how."""

    rule: Rule
    native: tuple[str, ...]
    part: int = 0

    @property
    def parts(self) -> int:
        """How many upstream tensors make the native one."""
        return len(self.rule.upstream)

    def shapes(self, upstream: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """The native tensors' shapes for an upstream one of shape `upstream` (`stack`: its block of rows)."""
        if self.rule.kind != "split" or not upstream:
            return dict.fromkeys(self.native, upstream)
        block, left = divmod(upstream[0], self.rule.groups * sum(self.rule.shares))
        if left:
            return dict.fromkeys(self.native, upstream)  # cannot be cut, and fits none
        return {
            name: (self.rule.groups * share * block, *upstream[1:])
            for name, share in zip(self.native, self.rule.shares, strict=True)
        }

    def pieces(self, tensor: Tensor) -> dict[str, Tensor]:
        """The native tensors made of `tensor` alone (`stack` gives one row block)."""
        if self.rule.kind == "split":
            return dict(zip(self.native, self.rule.cut(tensor), strict=True))
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
                return Placement(rule, names, part)
        return None

    def upstream_names(self, native: str) -> list[str]:
        """What checkpoints call the tensors that make `native`; its own name where no rule knows."""
        for rule in self.rules:
            for name in rule.native:
                match = re.fullmatch(_pattern(name), native)
                if match:
                    return [_filled(name, match) for name in rule.upstream]
        return [native]

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
        return {names[0]: rule.joined(tensors)}
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
