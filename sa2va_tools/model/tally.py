"""What one piece of work came to: kept by whoever does it, read by whoever reports it."""

from __future__ import annotations

from dataclasses import dataclass, field

_SAW = "the language model saw"
_BEGAN = "masks began on"


@dataclass(slots=True)
class Tally:
    """Of one job."""

    encoder_passes: int = 0
    """Frames that went through SAM-2's image encoder."""
    relief: list[str] = field(default_factory=list)
    """What was done to get along with the memory there is, in plain words."""

    def relieved(self, step: str) -> None:
        """Note a step of relief, once."""
        if step not in self.relief:
            self.relief.append(step)

    def saw(self, key_frames: int) -> None:
        """Note how few key frames the language model saw in the end."""
        self._instead(_SAW, key_frames)

    def began_on(self, key_frames: int) -> None:
        """Note how few key frames conditioned the masks in the end."""
        self._instead(_BEGAN, key_frames)

    def _instead(self, words: str, key_frames: int) -> None:
        self.relief = [step for step in self.relief if not step.startswith(words)]
        self.relieved(f"{words} {key_frames} key frame(s)")
