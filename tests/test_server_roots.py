"""Which folders a server may read."""

from pathlib import Path

import pytest

from sa2va_server.roots import open_restricted_engine, resolve_roots
from sa2va_tools.errors import AccessDeniedError, RequestError
from sa2va_tools.settings import Settings
from sa2va_tools.testing import synthetic_clip


def test_roots_are_real_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "media").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "media")
    roots = resolve_roots([Path("~/media"), tmp_path / "link"])
    assert roots == ((tmp_path / "media").resolve(),) * 2


def test_a_missing_root_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"no folder at .*missing") as caught:
        resolve_roots([tmp_path, tmp_path / "missing"])
    assert "--root" in caught.value.hint


def test_an_engine_reads_nothing_outside_its_roots(tmp_path):
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        synthetic_clip(tmp_path / name / "clip.mp4", frames=2)
    settings = Settings.read(store_dir=tmp_path / "store")
    with open_restricted_engine(settings, resolve_roots([tmp_path / "inside"])) as engine:
        assert engine.find_media(tmp_path / "inside" / "clip.mp4").frame_count == 2
        with pytest.raises(AccessDeniedError):
            engine.find_media(tmp_path / "outside" / "clip.mp4")
    with open_restricted_engine(settings, ()) as engine, pytest.raises(AccessDeniedError):
        engine.find_media(tmp_path / "inside" / "clip.mp4")
