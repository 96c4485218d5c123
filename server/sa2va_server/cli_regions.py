"""`--box 10,20,60,80` and its like → regions as the tools take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sa2va_tools.errors import RequestError

_HINT = "Use --box x0,y0,x1,y1, --point x,y, --mask mask:…, or --polygon x,y,x,y,x,y; numbers only."


@dataclass(frozen=True, slots=True)
class Pointing:
    """What the user pointed at. Every box, polygon and mask is one object; all points are one."""

    boxes: Sequence[str] = ()
    points: Sequence[str] = ()
    masks: Sequence[str] = ()
    polygons: Sequence[str] = ()
    as_fractions: bool = False

    def regions(self) -> list[dict[str, Any]]:
        """RequestError when nothing is pointed at, or not with numbers."""
        unit = "fraction" if self.as_fractions else "pixel"
        found: list[dict[str, Any]] = [{"mask": handle} for handle in self.masks]
        found += [{"box_xyxy": _numbers("--box", text, 4), "unit": unit} for text in self.boxes]
        if self.points:
            points_xy = [_numbers("--point", text, 2) for text in self.points]
            found.append({"points_xy": points_xy, "unit": unit})
        found += [{"polygon_xy": _corners(text), "unit": unit} for text in self.polygons]
        if not found:
            raise RequestError("Nothing is pointed at.", hint=_HINT)
        return found


def _corners(text: str) -> list[tuple[float, float]]:
    numbers = _numbers("--polygon", text, None)
    if len(numbers) < 6 or len(numbers) % 2:
        raise RequestError(
            f"--polygon needs at least three corners, two numbers each; got {len(numbers)} numbers.",
            hint=_HINT,
        )
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _numbers(option: str, text: str, count: int | None) -> list[float]:
    try:
        numbers = [float(part) for part in text.replace(";", ",").replace(" ", ",").split(",") if part]
    except ValueError as error:
        raise RequestError(f"{option} {text!r} holds something that is no number.", hint=_HINT) from error
    if count is not None and len(numbers) != count:
        raise RequestError(f"{option} needs {count} numbers, got {len(numbers)}: {text!r}.", hint=_HINT)
    return numbers
