"""Every setting, typed. The environment (`SA2VA_*`) is read here and nowhere else, once, by
`Settings.read()`; code below the entry points receives the parts it needs as arguments."""

from __future__ import annotations

import json
import os
import re
from os import PathLike, fspath
from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from sa2va_tools.errors import RequestError
from sa2va_tools.explained import ExplainedModel
from sa2va_tools.wording import argument

DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:\d+)?(,cuda:\d+)*)$"


class MediaLimits(BaseModel, metaclass=ExplainedModel):
    """Caps on what is read; crossing one raises MediaTooLargeError before the memory is spent. RequestError
    for a cap that is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(4 * 2**30, gt=0, description="Size of one file, or of a folder's frames together.")
    max_pixels: int = Field(64_000_000, gt=0, description="Width × height of one frame.")
    max_frames: int = Field(100_000, gt=0, description="Frames of one video or folder.")
    max_duration_s: float = Field(6 * 3600.0, gt=0, description="Seconds of one video.")


def default_store_dir() -> Path:
    """The user's data folder, by platform convention (XDG, macOS, Windows)."""
    from platformdirs import user_data_path

    return user_data_path("sa2va-tools", appauthor=False)


def _split_paths(value: Any) -> Any:
    """Paths from one text: a JSON list, or separated as in PATH. ValueError for an empty path in a list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError("Input begins like a JSON list but is not one") from error
    elif isinstance(value, str):
        value = [part for part in value.split(os.pathsep) if part.strip()]
    return tuple(map(_read_path, value)) if isinstance(value, list | tuple) else value


class _SettingsType(ExplainedModel):
    """`Settings(…)` is `Settings.read(…)`."""

    def __call__(self, **values: Any) -> Any:
        return self.read(**values)


class Settings(BaseSettings, metaclass=_SettingsType):
    """Values come from arguments, then from `SA2VA_*` (two underscores separate nested names). A variable
    that is empty counts as not set. In paths, `~` is the home folder."""

    model_config = SettingsConfigDict(
        env_prefix="SA2VA_", env_nested_delimiter="__", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    model: str = Field("nano", description="`nano`, a hub id that was pulled, or the folder of a checkpoint.")
    device: str = Field(
        "auto",
        pattern=DEVICE_PATTERN,
        description="auto, cpu, mps, cuda, cuda:1, or several GPUs: cuda:0,cuda:1.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the model; float32 is exact, auto the fastest that is accurate."
    )
    compile: bool = Field(
        False,
        description="Compile SAM-2's image encoder with torch.compile, for GPUs: a minute or more when a "
        "model is loaded, then 20 % less time a frame.",
    )
    quantize: Literal["int8", "nf4"] | None = Field(
        None, description="Weights of the language model's layers in 8 or 4 bits; needs the extra [quantize]."
    )
    sam2_decoder: str | None = Field(
        None, description="File, folder or hub id of stock SAM-2 weights, for mode sa2va-i."
    )
    store_dir: Path = Field(default_factory=default_store_dir)
    roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_paths)] = Field(
        (),
        description="Folders that front ends for agents may read; in the variable, separated as in PATH.",
    )
    reuse_results: bool = Field(
        True, description="Answer a call from the store if the same call was computed before."
    )
    limits: MediaLimits = MediaLimits()
    max_new_tokens: int = Field(2048, gt=0, description="Upstream's own bound on an answer.")
    cache_bytes: int | None = Field(
        None,
        ge=0,
        description="Bytes of frame features and prompts that are cached for later calls; 0 caches nothing. "
        "None: 2 GiB, and 64 MiB for small models, which recompute quickly.",
    )

    @field_validator("model", "sam2_decoder", "store_dir", mode="before")
    @classmethod
    def _read_path(cls, value: Any) -> Any:
        return _read_path(value)

    @classmethod
    def read(cls, **values: Any) -> Self:
        """The environment's settings, overridden by `values`. RequestError for a wrong one."""
        try:
            made: Self = type.__call__(cls, **values)
            return made
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            path = [str(part) for part in first["loc"]]
            problem = first["msg"].removeprefix("Value error, ")
            if first["type"] == "string_pattern_mismatch":  # pydantic names the pattern
                problem = f"expected {cls.model_fields[path[0]].description}".rstrip(".")
            raise _setting_error(path, problem, given=path[0] in values) from error
        except SettingsError as error:  # raised before any field is checked
            field = re.search(r'field "(\w+)"', str(error))
            raise _setting_error([field[1] if field else "*"], "Input should be JSON", given=False) from error


def _read_path(value: Any) -> Any:
    """A path with its `~` replaced. ValueError for an empty one, which would be the working folder."""
    if not isinstance(value, str | PathLike):
        return value
    text = fspath(value)
    if isinstance(text, bytes) or not text.strip():
        raise ValueError("it is empty; give a path, or leave it out")
    return expanduser(text)  # noqa: PTH111  # keeps the ~ of an unknown user, where Path's raises


def _setting_error(path: list[str], problem: str, *, given: bool) -> RequestError:
    if given:
        names = ", ".join(map(argument, Settings.model_fields))
        return RequestError(
            f"The setting {argument('.'.join(path))} is wrong: {problem}.", hint=f"Settings: {names}."
        )
    name = "SA2VA_" + "__".join(path).upper()
    return RequestError(f"The setting {name} is wrong: {problem}.", hint="Correct or unset that variable.")
