"""A clip's frames as SAM-2 features: decoded and resized ahead, encoded in batches, remembered.

The only way from frames to features in a propagation: each frame is encoded once, whatever the number of
objects, and not at all while the cache holds it.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va_tools.model.cache import ByteCache, tensor_bytes
from sa2va_tools.model.grounding import FrameFeatures, Sam2Grounding
from sa2va_tools.model.out_of_memory import attempt, in_parts
from sa2va_tools.model.output import FrameSource
from sa2va_tools.model.prefetch import prefetched
from sa2va_tools.model.preprocess import grounding_levels, grounding_pixels, grounding_square
from sa2va_tools.model.tally import Tally
from sa2va_tools.progress import CancelToken

KIND = "features"
DROPPED = "what was kept of other frames was dropped"
MOVED = "what was kept of other frames was moved into host memory"
_STRETCH_BYTES, _STRETCH_FRAMES = 128 * 2**20, 64
"""What may be held of a stretch that is read forwards to be tracked backwards, beside the next one: frames at
SAM-2's own size (42 of 1024 px). The longer the stretch, the fewer frames of a video are decoded twice."""
_CACHE_SHARE = 0.5
"""Of the cache's budget, what one clip may take. Of a longer one the frames that are read first are kept: if
all were, reading it once more would push out each frame just before it is wanted."""


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame's features, and its own height and width."""

    position: int
    features: FrameFeatures
    size_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Square:
    position: int
    pixels: NDArray[np.uint8]
    size_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class OnePicture:
    """A clip of one frame."""

    picture: NDArray[np.uint8]
    key: Hashable | None = None

    def __len__(self) -> int:
        return 1

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self.picture for _ in positions)

    def key_of(self, position: int) -> Hashable | None:
        return self.key


class FeatureStream:
    """Reads one clip."""

    def __init__(
        self,
        grounding: Sam2Grounding,
        source: FrameSource,
        *,
        batch: int = 1,
        cache: ByteCache | None = None,
        tally: Tally | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """`batch` frames go through the image encoder together; fewer where they do not fit into memory,
        which `tally` is told."""
        self.tally = tally or Tally()
        self.grounding, self.source, self.batch = grounding, source, batch
        self.cache, self.cancel = cache or ByteCache(0), cancel or CancelToken()
        self._room = self._frames_to_keep() if self.cache.capacity else 0

    def _frames_to_keep(self) -> int:
        """Frames that may join those that are kept of this clip."""
        kept = sum(self._is_kept(position) for position in range(len(self.source)))
        return int(_CACHE_SHARE * self.cache.capacity / self._frame_bytes) - kept

    def read(self, positions: Sequence[int]) -> Iterator[SeenFrame]:
        """Features of frames at increasing or at decreasing positions, in that order; fewer where the clip
        breaks off."""
        left = list(positions)
        if len(left) > 1 and left[0] > left[-1]:
            yield from self._backward(left)
            return
        while left:
            left = yield from self._forward(left)

    def _forward(self, positions: list[int]) -> Generator[SeenFrame, None, list[int]]:
        """Returns what is left where a frame that was kept is gone in the meantime: it and what follows have
        to be looked for anew."""
        lacking = [position for position in positions if not self._is_kept(position)]
        absent = set(lacking)
        with prefetched(self._squares(lacking), ahead=2 * self.batch) as squares:
            waiting: list[_Square] = []
            for number, position in enumerate(positions):
                if position in absent:
                    square = next(squares, None)
                    if square is None:
                        break
                    waiting.append(square)
                    if len(waiting) < self.batch and position != lacking[-1]:
                        continue
                yield from self._encode(waiting)
                waiting = []
                if position in absent:
                    continue
                if not self._is_kept(position):
                    return positions[number:]
                yield from self._recall(position)
            yield from self._encode(waiting)
        return []

    def _backward(self, positions: list[int]) -> Iterator[SeenFrame]:
        """In stretches, each read forwards while the one before it is worked on."""
        most = max(1, min(_STRETCH_FRAMES, _STRETCH_BYTES // (3 * self._side**2)))
        stretches = (positions[start : start + most] for start in range(0, len(positions), most))
        read = ((stretch, self._lacking(stretch)) for stretch in stretches)
        with prefetched(read, ahead=1) as ready:
            for stretch, held in ready:
                yield from self._stretch(stretch, held)

    def _lacking(self, positions: list[int]) -> dict[int, _Square | None]:
        """Of decreasing positions those that are not kept; None where the clip has broken off before."""
        lacking = [position for position in reversed(positions) if not self._is_kept(position)]
        squares = list(self._squares(lacking))
        if len(squares) < len(lacking):
            squares += self._behind(lacking[len(squares) + 1 :])
        return dict.fromkeys(lacking) | {square.position: square for square in squares}

    def _behind(self, positions: list[int]) -> list[_Square]:
        """Of what lies behind a break, as much of the end as decodes: a walk backwards comes from there."""
        whole: list[_Square] = []
        first, end = 0, len(positions)
        while first < end:
            middle = (first + end) // 2
            squares = list(self._squares(positions[middle:]))
            if len(squares) == len(positions) - middle:
                whole, end = squares, middle
            else:
                first = middle + 1
        return whole

    def _stretch(self, positions: list[int], held: dict[int, _Square | None]) -> Iterator[SeenFrame]:
        left = positions
        while left:
            part, left = left[: self.batch], left[self.batch :]
            if any(position not in held and not self._is_kept(position) for position in part):
                held |= self._lacking([position for position in part + left if position not in held])
            read = {position: held.pop(position) for position in part if position in held}
            made = {seen.position: seen for seen in self._encode(list(filter(None, read.values())))}
            for position in part:
                if position in made:
                    yield made[position]
                elif position not in read:  # it was kept, and may be gone by now
                    yield from self._recall(position)

    def _squares(self, positions: Sequence[int]) -> Iterator[_Square]:
        for position, picture in zip(positions, self.source.frames(positions), strict=False):
            yield _Square(position, grounding_square(picture, self._side), picture.shape[:2])

    def _encode(self, squares: list[_Square]) -> Iterator[SeenFrame]:
        """One batch through the image encoder."""
        if not squares:
            return
        features = self._features([square.pixels for square in squares])
        self.cache.missed(KIND, len(squares))
        for square, own in zip(squares, features, strict=True):
            seen = SeenFrame(square.position, own, square.size_hw)
            self._keep(seen)
            yield seen

    def _features(self, squares: list[NDArray[np.uint8]]) -> list[FrameFeatures]:
        """As many at once as fit into memory, now and from now on."""
        made, self.batch = in_parts(
            len(squares),
            self.batch,
            lambda part: self._encoded(squares[part]),
            give_up=self.give_up_kept,
            on_fewer=lambda count: self.tally.relieved(f"the image encoder took {count} frame(s) at once"),
        )
        return [features for part in made for features in part]

    def give_up_kept(self) -> bool:
        """Let go of what is kept on the device, and keep nothing more of this clip there. False where nothing
        is."""
        if not self.cache.bytes:
            return False
        self.cache.retreat()
        self.cache = self.cache.spare_alone()
        self.tally.relieved(MOVED if self.cache.spare else DROPPED)
        return True

    def _encoded(self, squares: list[NDArray[np.uint8]]) -> list[FrameFeatures]:
        self.cancel.raise_if_cancelled()
        features = self.grounding.encode(pixels_at(self.grounding.no_object_pointer, squares))
        self.tally.encoder_passes += len(squares)
        return [features.frames(slice(number, number + 1)) for number in range(len(squares))]

    # ---- memory of frames ---------------------------------------------------------------------

    def _is_kept(self, position: int) -> bool:
        key = self.source.key_of(position)
        return key is not None and (KIND, key) in self.cache

    def _keep(self, seen: SeenFrame) -> None:
        key = self.source.key_of(seen.position)
        if key is None or not self.cache.capacity or self._room <= 0:
            return
        copied = attempt(seen.features.copied)  # keeping is a favour: no reason to fail
        if copied is not None:
            own = SeenFrame(seen.position, copied, seen.size_hw)
            self.cache.put(KIND, key, own, tensor_bytes(copied))
            self._room -= 1

    def _recall(self, position: int) -> Iterator[SeenFrame]:
        """From the cache; from the clip where something else has pushed it out in the meantime, unless that
        breaks off there."""
        kept: SeenFrame | None = self.cache.get(KIND, self.source.key_of(position))
        if kept is None:
            yield from self._encode(list(self._squares([position])))
        else:
            # Another range of the same media may have counted its frames otherwise.
            yield SeenFrame(position, kept.features, kept.size_hw)

    @property
    def _side(self) -> int:
        return self.grounding.config.image_size

    @property
    def _frame_bytes(self) -> int:
        """Of one frame's features: the coarsest map, and the two finer ones as each decoder takes them."""
        config, width = self.grounding.config, self.grounding.no_object_pointer.element_size()
        skips = (4 * config.top_side) ** 2 * config.hidden_dim // 8 + (
            2 * config.top_side
        ) ** 2 * config.hidden_dim // 4
        decoders = 1 + int(config.separate_language_mask_decoder)
        return width * (decoders * skips + config.top_side**2 * config.hidden_dim)


def pixels_at(home: Tensor, squares: list[NDArray[np.uint8]]) -> Tensor:
    """Frames at SAM-2's size as its encoder takes them, (B, 3, S, S), where `home` is and in its dtype."""
    if home.device.type == "cpu":
        return torch.from_numpy(grounding_pixels(squares, squares[0].shape[0])).to(home.dtype)
    # A byte a value travels and is looked up there: the device would wait ten times as long for floats.
    levels = torch.from_numpy(grounding_levels()).to(home.device, home.dtype)
    sent = torch.from_numpy(np.stack(squares)).to(home.device)
    return torch.stack([levels[:, channel][sent[..., channel].long()] for channel in range(3)], 1)
