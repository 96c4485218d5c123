"""Tables that translate upstream's parameter names into this package's, both ways.

A rule pairs patterns of names: `{i}` and `{j}` stand for numbers, `{p}` for weight or bias, `{rest}` for
anything. Values never change: tensors are moved, split, stacked or copied, so saving undoes loading exactly.
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
    """`move` renames one tensor; `split` cuts one upstream tensor along its rows; `stack` joins several
    upstream tensors into the rows of one; `copy` puts one upstream tensor in several places.

    The rows of a split come in `groups`; in each group the native tensors take `shares` of equal blocks.
    """

    kind: Literal["move", "split", "stack", "copy"]
    upstream: tuple[str, ...]
    native: tuple[str, ...]
    groups: int = 1
    shares: tuple[int, ...] = ()

    def split_rows(self, tensor: Tensor) -> list[Tensor]:
        """The native tensors of a split."""
        blocks = tensor.view(self.groups, sum(self.shares), -1, *tensor.shape[1:])
        return [part.reshape(-1, *tensor.shape[1:]) for part in blocks.split(self.shares, dim=1)]

    def join_rows(self, tensors: Sequence[Tensor]) -> Tensor:
        """The upstream tensor of a split; undoes `split_rows`."""
        rest = tensors[0].shape[1:]
        parts = [
            tensor.view(self.groups, share, -1, *rest)
            for tensor, share in zip(tensors, self.shares, strict=True)
        ]
        return cat(parts, 1).reshape(-1, *rest)


def move(upstream: str, native: str) -> Rule:
    """One upstream tensor is one native tensor."""
    return Rule("move", (upstream,), (native,))


def split(upstream: str, *native: str, groups: int = 1, shares: tuple[int, ...] = ()) -> Rule:
    """The rows of one upstream tensor are several native tensors; without `shares`, of equal size."""
    return Rule("split", (upstream,), native, groups, shares or (1,) * len(native))


def stack(upstream: Sequence[str], native: str) -> Rule:
    """Several upstream tensors are the rows of one native tensor."""
    return Rule("stack", tuple(upstream), (native,))


def copy(upstream: str, *native: str) -> Rule:
    """One upstream tensor is needed in several places."""
    return Rule("copy", (upstream,), native)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one upstream tensor goes: the native names, and how."""

    rule: Rule
    native: tuple[str, ...]
    part: int = 0
    """Of a stack: which of its upstream tensors this one is."""

    @property
    def parts(self) -> int:
        """How many upstream tensors make up the native one."""
        return len(self.rule.upstream)

    def shapes(self, upstream: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Shapes of the native tensors if the upstream one has shape `upstream`; for a stack, the shape of
        its block of rows. A tensor that cannot be split keeps its own shape, which matches nothing."""
        if self.rule.kind != "split" or not upstream:
            return dict.fromkeys(self.native, upstream)
        block, remainder = divmod(upstream[0], self.rule.groups * sum(self.rule.shares))
        if remainder:
            return dict.fromkeys(self.native, upstream)
        return {
            name: (self.rule.groups * share * block, *upstream[1:])
            for name, share in zip(self.native, self.rule.shares, strict=True)
        }

    def pieces(self, tensor: Tensor) -> dict[str, Tensor]:
        """The native tensors made from `tensor`; for a stack, its block of rows."""
        if self.rule.kind == "split":
            return dict(zip(self.native, self.rule.split_rows(tensor), strict=True))
        return dict.fromkeys(self.native, tensor)


class KeyMap:
    """A list of rules; the first one that matches a name applies."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._forward = [
            (re.compile(_make_pattern(name)), rule, part)
            for rule in self.rules
            for part, name in enumerate(rule.upstream)
        ]
        self._backward = [(re.compile(_make_pattern(rule.native[0])), rule) for rule in self.rules]

    def place(self, upstream: str) -> Placement | None:
        """Where an upstream tensor goes; None if no rule matches its name."""
        for pattern, rule, part in self._forward:
            if match := pattern.fullmatch(upstream):
                names = tuple(_fill_placeholders(name, match) for name in rule.native)
                return Placement(rule, names, part)
        return None

    def upstream_names(self, native: str) -> list[str]:
        """What checkpoints call the tensors that make up `native`; that name itself if no rule matches."""
        for rule in self.rules:
            for name in rule.native:
                if match := re.fullmatch(_make_pattern(name), native):
                    return [_fill_placeholders(name, match) for name in rule.upstream]
        return [native]

    def to_upstream(self, native: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A native state dict under upstream's names; the inverse of loading."""
        tensors: dict[str, Tensor] = {}
        for name in native:
            for pattern, rule in self._backward:
                if match := pattern.fullmatch(name):
                    tensors |= _make_upstream_tensors(rule, match, native)
                    break
        return tensors


def _make_upstream_tensors(
    rule: Rule, match: re.Match[str], native: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    tensors = [native[_fill_placeholders(name, match)] for name in rule.native]
    names = [_fill_placeholders(name, match) for name in rule.upstream]
    if rule.kind == "split":
        return {names[0]: rule.join_rows(tensors)}
    if rule.kind == "stack":
        return dict(zip(names, tensors[0].chunk(len(names), dim=0), strict=True))
    return {names[0]: tensors[0]}


def _make_pattern(name: str) -> str:
    """A regular expression with a group for each placeholder."""
    escaped = re.escape(name)
    for key, expression in _PLACEHOLDERS.items():
        escaped = escaped.replace(rf"\{{{key}\}}", f"(?P<{key}>{expression})", 1)
    return escaped


def _fill_placeholders(name: str, match: re.Match[str]) -> str:
    for key, value in match.groupdict().items():
        name = name.replace(f"{{{key}}}", value)
    return name
