"""Small files of every format that the media tests read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

STEP = 8
"""Grey levels between one frame and the next, wide enough to survive lossy coding."""


def numbered_frame(index: int, size_wh: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Grey of 20 + STEP·(index mod 28), with a red corner at the top left."""
    width, height = size_wh
    rgb = np.full((height, width, 3), 20 + STEP * (index % 28), np.uint8)
    rgb[: height // 3, : width // 3] = (220, 20, 20)
    return rgb


def number_of(rgb: np.ndarray) -> int:
    """The index (mod 28) of a frame made by `numbered_frame`, read from its middle."""
    height, width = rgb.shape[:2]
    middle = rgb[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4]
    return round((float(middle.mean()) - 20) / STEP)


def make_video(
    path: Path,
    count: int = 12,
    *,
    codec: str = "libx264",
    size_wh: tuple[int, int] = (64, 48),
    rate: Fraction = Fraction(10),
    times_ms: Sequence[int] | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    sar: Fraction | None = None,
    pix_fmt: str = "yuv420p",
    audio: bool = False,
    file_format: str | None = None,
    transfer: int | None = None,
    alpha: int | None = None,
) -> Path:
    """Numbered frames. `rotation` is (degrees counter-clockwise, hflip, vflip); `transfer` the transfer
    characteristics by ITU-T H.273; `alpha` that of all pixels, 0 … 255."""
    with av.open(str(path), "w", format=file_format, container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size_wh, pix_fmt
        stream.options = options or {}
        tick = Fraction(1, 1000) if times_ms else 1 / rate
        stream.codec_context.time_base = tick
        if sar:
            stream.codec_context.sample_aspect_ratio = sar
        if transfer:
            stream.codec_context.color_trc = transfer
        if rotation:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        for index in range(count):
            rgb = numbered_frame(index, size_wh)
            if alpha is not None:
                rgb = np.dstack([rgb, np.full_like(rgb[:, :, 0], alpha)])
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24" if alpha is None else "rgba")
            frame.pts = times_ms[index] if times_ms else index
            frame.time_base = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _write_silence(container, sound)
    if codec == "libsvtav1":
        keep_priority()
    return path


def keep_priority() -> None:
    """SVT-AV1, run by root, gives the calling thread real-time priority, and later tests would starve
    others: this takes it back."""
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def make_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        _write_silence(container, container.add_stream("aac", rate=8000, layout="mono"))
    return path


def _write_silence(container: object, stream: object) -> None:
    for index in range(8):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, index * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def remux(source: Path, target: Path, *, earlier_by: int = 0, muxer: dict[str, str] | None = None) -> Path:
    """The same packets in a new file, their timestamps moved towards (and below) zero."""
    with av.open(str(source)) as old, av.open(str(target), "w", container_options=muxer or {}) as new:
        given = old.streams.video[0]
        made = new.add_stream_from_template(given)
        for packet in old.demux(given):
            if packet.dts is None:
                continue
            packet.pts, packet.dts, packet.stream = packet.pts - earlier_by, packet.dts - earlier_by, made
            new.mux(packet)
    return target


def make_gif(path: Path, delays_ms: Sequence[int], **options: object) -> Path:
    frames = [Image.fromarray(numbered_frame(index)) for index in range(len(delays_ms))]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=list(delays_ms), loop=0, **options)
    return path


def make_folder(path: Path, names: Sequence[str], size_wh: tuple[int, int] = (64, 48)) -> Path:
    path.mkdir()
    for index, name in enumerate(names):
        Image.fromarray(numbered_frame(index, size_wh)).save(path / name)
    return path
