"""Which frames the language model sees and on which frames masks begin, by mode.

Positions count frames of the clip. Published facts: mode `sa2va` (bytedance/Sa2VA) takes the first five
frames for both; mode `sa2va-i` (kumuji/Sa2VA-i) takes uniformly spread frames for both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sa2va_tools.engine.clip import Clip
from sa2va_tools.engine.options import DescribeOptions, SegmentOptions
from sa2va_tools.media.sampling import first_positions, uniform_positions
from sa2va_tools.model.config import Sa2vaConfig


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Increasing positions of the frames that the language model sees, and of those on which masks begin."""

    mode: str
    llm_positions: tuple[int, ...]
    prompt_positions: tuple[int, ...]
    warnings: tuple[str, ...] = ()

    def with_llm_positions(self, positions: tuple[int, ...], clip: Clip) -> FramePlan:
        """Show other frames to the language model."""
        others = [text for text in self.warnings if text != _late_object_warning(clip, self.llm_positions)]
        sees_only_the_first = _is_beginning(positions) and len(positions) < len(clip)
        if self.mode == "sa2va" and sees_only_the_first:
            others.append(_late_object_warning(clip, positions))
        return replace(self, llm_positions=positions, warnings=tuple(others))


def plan_description(config: Sa2vaConfig, clip: Clip, options: DescribeOptions) -> FramePlan:
    """Words only: frames spread over the whole clip."""
    if not clip.is_video:
        return FramePlan("image", (0,), ())
    count = options.llm_frames or config.llm_frames
    return FramePlan("chat", _unique(uniform_positions(len(clip), count)), ())


def plan_masks(config: Sa2vaConfig, clip: Clip, options: SegmentOptions) -> FramePlan:
    """Words and masks. Mode `auto` is `sa2va-i` if the checkpoint has a second decoder."""
    if not clip.is_video:
        return FramePlan("image", (0,), (0,))
    has_second = config.capabilities.second_decoder
    mode = options.mode if options.mode != "auto" else ("sa2va-i" if has_second else "sa2va")
    pick = uniform_positions if mode == "sa2va-i" else first_positions
    prompt_positions = _unique(pick(len(clip), options.llm_frames or config.prompt_frames))
    llm_positions = prompt_positions
    if options.llm_frames is None and config.llm_frames > len(prompt_positions):
        llm_positions = _unique(uniform_positions(len(clip), config.llm_frames))
    warnings = []
    if mode == "sa2va-i" and not has_second:
        warnings.append(
            "This checkpoint has no second mask decoder, so mode 'sa2va-i' only spreads the frames; the one "
            "decoder makes all masks."
        )
    plan = FramePlan(mode, llm_positions, prompt_positions, tuple(warnings))
    return plan.with_llm_positions(llm_positions, clip)


def _is_beginning(positions: tuple[int, ...]) -> bool:
    return positions == tuple(range(len(positions)))


def _late_object_warning(clip: Clip, positions: tuple[int, ...]) -> str:
    last = clip.source_frames(positions)[-1]
    return (
        f"The language model saw only the first {len(positions)} of {len(clip)} frames (up to frame {last}). "
        f"Objects that appear after frame {last} may not be found. Use mode='sa2va-i', or start_s and end_s."
    )


def _unique(positions: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positions))
