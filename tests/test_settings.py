"""A wrong value in the environment is reported with the name of its variable."""

import os
from pathlib import Path

import pytest

from sa2va_tools import Settings
from sa2va_tools.errors import RequestError


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SA2VA_CACHE_BYTES", "abc", "valid integer"),
        ("SA2VA_LIMITS__MAX_BYTES", "0", "greater than 0"),
        ("SA2VA_ROOTS", '["/data"', "JSON"),
        ("SA2VA_ROOTS", '["/data", ""]', "empty"),
        ("SA2VA_LIMITS", "many", "JSON"),
        ("SA2VA_DTYPE", "half", "float16"),
    ],
)
def test_a_wrong_variable_is_named_with_a_hint(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=rf"The setting {name} is wrong: .*{message}") as caught:
        Settings.read(device="cpu")
    assert caught.value.hint == "Correct or unset that variable."


def test_a_wrong_device_is_told_in_words(monkeypatch):
    monkeypatch.setenv("SA2VA_DEVICE", "gpu")
    with pytest.raises(RequestError, match="SA2VA_DEVICE is wrong: expected auto, cpu, mps, cuda, cuda:1"):
        Settings.read()


def test_arguments_override_the_environment(monkeypatch):
    monkeypatch.setenv("SA2VA_MODEL", "other")
    monkeypatch.setenv("SA2VA_MAX_NEW_TOKENS", "2")
    settings = Settings.read(model="nano")
    assert (settings.model, settings.max_new_tokens) == ("nano", 2)


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("/data", ["/data"]),
        (os.pathsep.join(["/data/my clips", "/photos"]), ["/data/my clips", "/photos"]),
        (f"/data{os.pathsep}", ["/data"]),
        ('["/data", "relative"]', ["/data", "relative"]),
        ("", []),
    ],
)
def test_folders_are_separated_as_in_path_or_are_a_json_list(monkeypatch, text, folders):
    monkeypatch.setenv("SA2VA_ROOTS", text)
    assert Settings.read().roots == tuple(map(Path, folders))


@pytest.mark.parametrize("name", ["STORE_DIR", "MODEL", "ROOTS", "SAM2_DECODER", "DEVICE", "CACHE_BYTES"])
def test_an_empty_variable_is_not_set(monkeypatch, name):
    default = Settings.read()
    monkeypatch.setenv(f"SA2VA_{name}", "")
    assert Settings.read() == default


@pytest.mark.parametrize(("name", "value"), [("STORE_DIR", " "), ("ROOTS", '["", "/data"]'), ("MODEL", "\t")])
def test_a_blank_path_in_the_environment_is_an_error(monkeypatch, name, value):
    monkeypatch.setenv(f"SA2VA_{name}", value)
    with pytest.raises(RequestError, match=f"SA2VA_{name} is wrong: it is empty"):
        Settings.read()


@pytest.mark.parametrize("values", [{"store_dir": ""}, {"model": " "}, {"roots": ["/a", ""]}])
def test_a_blank_path_as_an_argument_is_an_error(values):
    with pytest.raises(RequestError, match="is empty"):
        Settings.read(**values)


def test_a_tilde_is_the_home_folder_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SA2VA_STORE_DIR", "~/store")
    monkeypatch.setenv("SA2VA_ROOTS", '["~/a", "/b"]')
    settings = Settings.read(model="~/model", sam2_decoder="~/sam2.pt")
    assert settings.store_dir == tmp_path / "store" and settings.roots == (tmp_path / "a", Path("/b"))
    assert (settings.model, settings.sam2_decoder) == (str(tmp_path / "model"), str(tmp_path / "sam2.pt"))
    assert Settings.read(store_dir=Path("~/x")).store_dir == tmp_path / "x"
    assert Settings.read(roots=[Path()]).roots == (Path(),)  # the working folder, said on purpose
