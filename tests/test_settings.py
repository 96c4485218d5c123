"""What the environment says wrongly is named by its variable, whoever reads it."""

import pytest

from sa2va_tools import Settings
from sa2va_tools.errors import RequestError


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SA2VA_CACHE_BYTES", "abc", "valid integer"),
        ("SA2VA_LIMITS__MAX_BYTES", "0", "greater than 0"),
        ("SA2VA_ROOTS", "/data", "JSON"),
        ("SA2VA_LIMITS", "many", "JSON"),
    ],
)
def test_a_wrong_variable_is_named_with_what_to_do(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=rf"The setting {name} is wrong: .*{said}") as caught:
        Settings.read(device="cpu")
    assert caught.value.hint == "Correct or unset that variable."


def test_what_is_given_stands_over_the_environment(monkeypatch):
    monkeypatch.setenv("SA2VA_MODEL", "other")
    monkeypatch.setenv("SA2VA_THREADS", "2")
    settings = Settings.read(model="nano")
    assert (settings.model, settings.threads) == ("nano", 2)
