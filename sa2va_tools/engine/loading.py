"""Open an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sa2va_tools.checks import check_path, type_error
from sa2va_tools.engine.local import LocalEngine
from sa2va_tools.engine.protocol import Engine
from sa2va_tools.settings import Settings


def load_engine(
    model: str | Path | None = None, *, settings: Settings | None = None, **changes: Any
) -> Engine:
    """The engine of this process. Weights are loaded by the first call that needs them.

    `model` is `"nano"`, a hub id that was pulled, or a checkpoint's folder; None takes the settings' one. Any
    other setting can be given by name, e.g. `load_engine("nano", device="cpu", store_dir="results")`. Raises
    RequestError for a setting that is wrong, TypeError for a model or settings of another type.
    """
    if settings is not None and not isinstance(settings, Settings):
        raise type_error("settings", settings, "a sa2va_tools.Settings")
    if model is not None:
        model = str(check_path("model", model))
    if settings is None:
        settings = Settings.read(**changes)
    elif changes:
        settings = Settings.read(**{**settings.model_dump(), **changes})
    return LocalEngine.from_settings(model, settings=settings)
