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
    ],
)
def test_a_wrong_variable_is_named_with_a_hint(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=rf"The setting {name} is wrong: .*{message}") as caught:
        Settings.read(device="cpu")
    assert caught.value.hint == "Correct or unset that variable."


def test_arguments_override_the_environment(monkeypatch):
    monkeypatch.setenv("SA2VA_MODEL", "other")
    monkeypatch.setenv("SA2VA_MAX_NEW_TOKENS", "2")
    settings = Settings.read(model="nano")
    assert (settings.model, settings.max_new_tokens) == ("nano", 2)


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("/data", ["/data"]),
        (os.pathsep.join(["/data/my clips", "~/photos"]), ["/data/my clips", "~/photos"]),
        (f"/data{os.pathsep}", ["/data"]),
        ('["/data", "relative"]', ["/data", "relative"]),
        ("", []),
    ],
)
def test_folders_are_separated_as_in_path_or_are_a_json_list(monkeypatch, text, folders):
    monkeypatch.setenv("SA2VA_ROOTS", text)
    assert Settings.read().roots == tuple(map(Path, folders))
