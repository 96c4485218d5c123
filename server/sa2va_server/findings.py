"""What one check of `sa2va doctor` came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`warn` works, but not for everything; `fail` does not."""

    name: str
    state: State
    detail: str
    remedy: str = ""
