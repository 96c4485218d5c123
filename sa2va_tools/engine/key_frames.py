"""Which frames the language model sees and which condition SAM-2, by mode.

Positions count frames of the clip. Published facts: mode `sa2va` (bytedance/Sa2VA) takes the first
five frames for both; mode `sa2va-i` (kumuji/Sa2VA-i) takes uniform frames for both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import get_args

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.protocol import Mode
from sa2va_tools.errors import RequestError
from sa2va_tools.media.sampling import first_key_positions, uniform_key_positions
from sa2va_tools.model.config import Sa2vaConfig

MAX_KEY_FRAMES = 64


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Positions `seen` by the language model and `keys` that condition the masks, both increasing."""

    mode: str
    seen: tuple[int, ...]
    keys: tuple[int, ...]
    warnings: tuple[str, ...] = ()


def plan_chat(config: Sa2vaConfig, clip: Clip, key_frames: int | None) -> FramePlan:
    """Words only: uniform frames of the whole clip."""
    if not clip.is_video:
        return FramePlan("image", (0,), ())
    count = _checked(key_frames) or config.chat_frames
    return FramePlan("chat", _unique(uniform_key_positions(len(clip), count)), ())


def plan_grounding(config: Sa2vaConfig, clip: Clip, mode: Mode, key_frames: int | None) -> FramePlan:
    """Words and masks. `auto` is `sa2va-i` where the checkpoint has a second decoder."""
    if mode not in get_args(Mode):
        raise RequestError(f"mode is {mode!r}; it must be one of {', '.join(get_args(Mode))}.")
    count = _checked(key_frames) or config.key_frames
    if not clip.is_video:
        return FramePlan("image", (0,), (0,))
    second = config.capabilities.second_decoder
    chosen = mode if mode != "auto" else ("sa2va-i" if second else "sa2va")
    uniform = chosen == "sa2va-i"
    choose = uniform_key_positions if uniform else first_key_positions
    keys = _unique(choose(len(clip), count))
    seen, warnings = keys, []
    if key_frames is None and config.chat_frames > len(keys):
        seen = _unique(uniform_key_positions(len(clip), config.chat_frames))
    if uniform and not second:
        warnings.append(
            "This checkpoint has no second mask decoder: mode 'sa2va-i' uses uniform key frames and the "
            "checkpoint's own decoder."
        )
    return with_seen(FramePlan(chosen, seen, keys, tuple(warnings)), clip, seen)


def fewer_seen(plan: FramePlan, clip: Clip) -> FramePlan:
    """With half of the frames for the language model; the same where there is but one."""
    return with_seen(plan, clip, _half(plan.seen))


def fewer_keys(plan: FramePlan) -> FramePlan:
    """With half of the frames that condition the masks; the same where there is but one."""
    return replace(plan, keys=_half(plan.keys))


def _half(positions: tuple[int, ...]) -> tuple[int, ...]:
    """The first ones where these are the clip's first, else every second."""
    return positions[: (len(positions) + 1) // 2] if _is_beginning(positions) else positions[::2]


def with_seen(plan: FramePlan, clip: Clip, seen: tuple[int, ...]) -> FramePlan:
    """The plan with other frames for the language model, and the warning that belongs to them."""
    others = [said for said in plan.warnings if said != _blind_after(clip, plan.seen)]
    is_blind = plan.mode == "sa2va" and _is_beginning(seen) and len(seen) < len(clip)
    return replace(plan, seen=seen, warnings=(*others, *([_blind_after(clip, seen)] if is_blind else [])))


def _is_beginning(seen: tuple[int, ...]) -> bool:
    return seen == tuple(range(len(seen)))


def _blind_after(clip: Clip, seen: tuple[int, ...]) -> str:
    last = clip.sources(seen)[-1]
    return (
        f"The language model saw only the first {len(seen)} of {len(clip)} frames (up to frame {last}); what "
        "appears later is tracked only if it was found there. Use mode='sa2va-i', or start_s and end_s."
    )


def _unique(positions: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positions))


def _checked(key_frames: int | None) -> int | None:
    if key_frames is None:
        return None
    if not isinstance(key_frames, Integral) or not 1 <= key_frames <= MAX_KEY_FRAMES:
        raise RequestError(
            f"key_frames is {key_frames!r}; it must be a whole number from 1 to {MAX_KEY_FRAMES}.",
            hint="Leave it out to get the checkpoint's own number.",
        )
    return key_frames
