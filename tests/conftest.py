"""Shared by all tests: one thread per process, unless something else is set, since tests run side by side;
and the command line over a fake engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    from sa2va_tools.testing import synthetic_clip

    return synthetic_clip(tmp_path_factory.mktemp("media") / "clip.mp4")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command line in an empty folder, over a fake engine with its own store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SA2VA_STORE_DIR", str(tmp_path / "store"))
    monkeypatch.delenv("SA2VA_MODEL", raising=False)

    from typer.testing import CliRunner

    from sa2va_server.cli.app import app
    from sa2va_tools.testing import FakeEngine

    def run(*words, opener=lambda settings: FakeEngine(settings.store_dir)):
        return CliRunner().invoke(app, [str(word) for word in words], obj=opener)

    return run


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Three pictures of one size in the working folder."""
    from PIL import Image, ImageDraw

    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 10):
        picture = Image.new("RGB", (320, 240), (70, 76, 86))
        x = 60 + 5 * number
        ImageDraw.Draw(picture).ellipse((x - 48, 32, x + 48, 128), fill=(220, 40, 40))
        picture.save(f"pic{number}.png")
    return [Path(f"pic{number}.png") for number in (1, 2, 10)]
