"""Video files to measure with, and expressions for what is in them: shapes that the nano knows."""

from __future__ import annotations

from pathlib import Path

from sa2va_server.cli.demo_scene import write_demo_clip

_THINGS = (
    ("large", "red", "circle"),
    ("small", "yellow", "star"),
    ("large", "green", "square"),
    ("small", "blue", "triangle"),
)
EXPRESSIONS = (
    *(f"the {colour} {shape}" for _, colour, shape in _THINGS),
    *(f"the {shape}" for _, _, shape in _THINGS),
    *(f"the {size} {colour} {shape}" for size, colour, shape in _THINGS),
    *(f"the {size} {shape}" for size, _, shape in _THINGS),
)
"""Sixteen: four things in four wordings each. The nano finds all of them."""
SIZE_WH = (320, 240)
HD_WH = (1280, 720)
FPS = 12


def write_shapes_clip(folder: Path, frames: int, size_wh: tuple[int, int] = SIZE_WH) -> Path:
    """An H.264 file with 12 frames a second."""
    return write_demo_clip(folder / f"shapes-{frames}.mp4", frames=frames, size_wh=size_wh)
