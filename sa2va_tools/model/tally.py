"""What one piece of work came to: kept by whoever does it, read by whoever reports it."""

from __future__ import annotations

from dataclasses import dataclass, field

_SAW = "the language model saw"


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
        self.relief = [step for step in self.relief if not step.startswith(_SAW)]
        self.relieved(f"{_SAW} {key_frames} key frame(s)")
