"""The limits on what is read, each with its own message. Knows nothing of formats."""

from __future__ import annotations

from sa2va_tools.errors import MediaTooLargeError
from sa2va_tools.settings import MediaLimits


def check_bytes(name: str, size: int, limits: MediaLimits) -> None:
    if size > limits.max_bytes:
        raise MediaTooLargeError(
            f"{name} is {size:,} bytes; the limit is {limits.max_bytes:,}.",
            hint="Cut or compress it, or raise SA2VA_LIMITS__MAX_BYTES.",
        )


def check_pixels(name: str, size_wh: tuple[int, int], limits: MediaLimits) -> None:
    width, height = size_wh
    if width * height > limits.max_pixels:
        raise MediaTooLargeError(
            f"{name} is {width}×{height} = {width * height:,} pixels; the limit is {limits.max_pixels:,}.",
            hint="Scale it down, or raise SA2VA_LIMITS__MAX_PIXELS.",
        )


def check_frames(name: str, count: int, limits: MediaLimits) -> None:
    if count > limits.max_frames:
        raise MediaTooLargeError(
            f"{name} has more than {limits.max_frames:,} frames, which is the limit.",
            hint="Cut it, or raise SA2VA_LIMITS__MAX_FRAMES.",
        )


def check_duration(name: str, duration_s: float, limits: MediaLimits) -> None:
    if duration_s > limits.max_duration_s:
        raise MediaTooLargeError(
            f"{name} lasts more than {limits.max_duration_s:,.1f} s, which is the limit.",
            hint="Cut it, or raise SA2VA_LIMITS__MAX_DURATION_S.",
        )
