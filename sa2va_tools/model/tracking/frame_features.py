"""A clip's frames as SAM-2 features: decoded and resized ahead, encoded in batches, cached.

During propagation this is the only way from frames to features: each frame is encoded once, whatever the
number of objects, and not at all while it is cached.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va_tools.model.device.cache import count_tensor_bytes
from sa2va_tools.model.device.memory_policy import MemoryPolicy
from sa2va_tools.model.device.prefetch import prefetch
from sa2va_tools.model.output import FrameSource
from sa2va_tools.model.preprocessing.tiles import sam2_lookup_table, sam2_pixels, sam2_square
from sa2va_tools.model.sam2.modules import FrameFeatures, Sam2
from sa2va_tools.run import Run

CACHE_KIND = "features"
_STRETCH_BYTES = 128 * 2**20
_STRETCH_FRAMES = 64
"""Going backwards, frames are decoded forwards in stretches of at most this size (42 frames of 1024 px).
Longer ones decode fewer frames twice; two are held at a time."""
_CACHE_SHARE = 0.5
"""The share of the cache that one clip may take. Of a longer clip, the frames that are read first are cached:
if all were, reading the clip again would evict each frame just before it is needed."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame's features, and its own height and width."""

    position: int
    features: FrameFeatures
    size_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Square:
    """A frame resized to SAM-2's input."""

    position: int
    pixels: NDArray[np.uint8]
    size_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SingleFrame:
    """A `FrameSource` of one picture."""

    picture: NDArray[np.uint8]
    key: Hashable | None = None

    def __len__(self) -> int:
        return 1

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self.picture for _ in positions)

    def cache_key(self, position: int) -> Hashable | None:
        return self.key


@dataclass
class FeatureStream:
    """Reads one clip."""

    sam2: Sam2
    source: FrameSource
    policy: MemoryPolicy
    run: Run

    def __post_init__(self) -> None:
        self._cache = self.policy.cache
        self._cache_room = 0
        """How many more frames of this clip may be cached."""
        if self._cache.budget:
            cached = sum(map(self._is_cached, range(len(self.source))))
            self._cache_room = int(_CACHE_SHARE * self._cache.budget / self._frame_bytes) - cached

    def read(self, positions: Sequence[int]) -> Iterator[EncodedFrame]:
        """Features of frames at increasing or decreasing positions, in that order. Ends early where the clip
        breaks off."""
        remaining = list(positions)
        if len(remaining) > 1 and remaining[0] > remaining[-1]:
            yield from self._read_backward(remaining)
            return
        while remaining:
            remaining = yield from self._read_forward(remaining)

    def _read_forward(self, positions: list[int]) -> Generator[EncodedFrame, None, list[int]]:
        """Returns the remaining positions if a cached frame was dropped in the meantime, so that it and all
        that follow are looked up again."""
        missing = [position for position in positions if not self._is_cached(position)]
        is_missing = set(missing)
        with prefetch(self._squares(missing), ahead=2 * self.policy.sizes.frames) as squares:
            batch: list[_Square] = []
            for number, position in enumerate(positions):
                if position in is_missing:
                    square = next(squares, None)
                    if square is None:
                        break
                    batch.append(square)
                    if len(batch) < self.policy.sizes.frames and position != missing[-1]:
                        continue
                yield from self._encode(batch)
                batch = []
                if position in is_missing:
                    continue
                if not self._is_cached(position):
                    return positions[number:]
                yield from self._recall(position)
            yield from self._encode(batch)
        return []

    def _read_backward(self, positions: list[int]) -> Iterator[EncodedFrame]:
        """In stretches; each is decoded forwards while the one before it is worked on."""
        length = max(1, min(_STRETCH_FRAMES, _STRETCH_BYTES // (3 * self._side**2)))
        stretches = (positions[start : start + length] for start in range(0, len(positions), length))
        decoded = ((stretch, self._decode_missing(stretch)) for stretch in stretches)
        with prefetch(decoded, ahead=1) as ready:
            for stretch, squares in ready:
                yield from self._read_stretch(stretch, squares)

    def _decode_missing(self, positions: list[int]) -> dict[int, _Square | None]:
        """Those of the decreasing positions that are not cached; None for a frame that cannot be decoded."""
        missing = [position for position in reversed(positions) if not self._is_cached(position)]
        squares = list(self._squares(missing))
        if len(squares) < len(missing):
            squares += self._decode_behind_break(missing[len(squares) + 1 :])
        return dict.fromkeys(missing) | {square.position: square for square in squares}

    def _decode_behind_break(self, positions: list[int]) -> list[_Square]:
        """The longest end of `positions` that decodes: a backward walk starts there."""
        decoded: list[_Square] = []
        first = 0
        end = len(positions)
        while first < end:
            middle = (first + end) // 2
            squares = list(self._squares(positions[middle:]))
            if len(squares) == len(positions) - middle:
                decoded = squares
                end = middle
            else:
                first = middle + 1
        return decoded

    def _read_stretch(
        self, positions: list[int], squares: dict[int, _Square | None]
    ) -> Iterator[EncodedFrame]:
        remaining = positions
        while remaining:
            size = self.policy.sizes.frames
            part = remaining[:size]
            if any(position not in squares and not self._is_cached(position) for position in part):
                unknown = [position for position in remaining if position not in squares]
                squares |= self._decode_missing(unknown)
            remaining = remaining[size:]
            batch = {position: squares.pop(position) for position in part if position in squares}
            encoded = {frame.position: frame for frame in self._encode(list(filter(None, batch.values())))}
            for position in part:
                if position in encoded:
                    yield encoded[position]
                elif position not in batch:
                    yield from self._recall(position)

    def _squares(self, positions: Sequence[int]) -> Generator[_Square, None, None]:
        for position, picture in zip(positions, self.source.frames(positions), strict=False):
            yield _Square(position, sam2_square(picture, self._side), picture.shape[:2])

    def _encode(self, squares: list[_Square]) -> list[EncodedFrame]:
        if not squares:
            return []
        batches = self.policy.in_batches(
            "frames", len(squares), lambda part: self._encode_batch(squares[part])
        )
        self._cache.count_misses(CACHE_KIND, len(squares))
        return [frame for batch in batches for frame in batch]

    @torch.inference_mode()
    def _encode_batch(self, squares: list[_Square]) -> list[EncodedFrame]:
        self.run.raise_if_cancelled()
        pixels = pixels_to_device([square.pixels for square in squares], self.sam2.no_object_pointer)
        features = self.sam2.encode(pixels)
        self.run.stats.encoder_passes += len(squares)
        frames = []
        for number, square in enumerate(squares):
            own = features.select_frames(slice(number, number + 1))
            frames.append(self._cache_frame(EncodedFrame(square.position, own, square.size_hw)))
        return frames

    def _cache_frame(self, frame: EncodedFrame) -> EncodedFrame:
        """Cache the frame if there is room for it; returned with storage of its own in that case."""
        key = self.source.cache_key(frame.position)
        if key is None or self._cache_room <= 0 or not self.policy.may_cache:
            return frame
        frame = replace(frame, features=frame.features.clone())
        self._cache.put(CACHE_KIND, key, frame, count_tensor_bytes(frame.features))
        self._cache_room -= 1
        return frame

    def _is_cached(self, position: int) -> bool:
        return (CACHE_KIND, self.source.cache_key(position)) in self._cache

    def _recall(self, position: int) -> Iterator[EncodedFrame]:
        """From the cache; from the clip if the frame was evicted meanwhile, unless it breaks off there."""
        cached: EncodedFrame | None = self._cache.get(CACHE_KIND, self.source.cache_key(position))
        if cached is None:
            yield from self._encode(list(self._squares([position])))
        else:
            # Another range of the same media may have counted its frames differently.
            yield replace(cached, position=position)

    @property
    def _side(self) -> int:
        return self.sam2.config.image_size

    @property
    def _frame_bytes(self) -> int:
        """Size of one frame's features: the coarsest map, and the two finer ones for each decoder."""
        config = self.sam2.config
        fine = (4 * config.top_side) ** 2 * config.hidden_dim // 8
        middle = (2 * config.top_side) ** 2 * config.hidden_dim // 4
        decoders = 1 + int(config.separate_language_mask_decoder)
        values = decoders * (fine + middle) + config.top_side**2 * config.hidden_dim
        return values * self.sam2.no_object_pointer.element_size()


def encode_picture(
    sam2: Sam2, picture: NDArray[np.uint8], key: Hashable | None, policy: MemoryPolicy, run: Run
) -> FrameFeatures:
    """Features of one picture, from the cache if `key` is there."""
    stream = FeatureStream(sam2, SingleFrame(picture, key), policy, run)
    return next(stream.read([0])).features


def pixels_to_device(squares: list[NDArray[np.uint8]], like: Tensor) -> Tensor:
    """Frames at SAM-2's size as its encoder takes them, (B, 3, S, S), with device and dtype of `like`."""
    if like.device.type == "cpu":
        return torch.from_numpy(sam2_pixels(squares, squares[0].shape[0])).to(like.dtype)
    # Bytes are uploaded and normalised there by a lookup: floats would take ten times as long.
    levels = torch.from_numpy(sam2_lookup_table()).to(like.device, like.dtype)
    uploaded = torch.from_numpy(np.stack(squares)).to(like.device)
    return torch.stack([levels[:, channel][uploaded[..., channel].long()] for channel in range(3)], 1)
