"""Every knob, typed. The environment (`SA2VA_*`) is read here and nowhere else, once, by
`Settings.read()`; code below the entry points receives the parts it needs as arguments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from sa2va_tools.errors import RequestError

DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:\d+)?(,cuda:\d+)*)$"


class MediaLimits(BaseModel):
    """Caps on what is read; crossing one raises MediaTooLargeError before the memory is spent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(4 * 2**30, gt=0, description="Size of one file, or of a folder's frames together.")
    max_pixels: int = Field(64_000_000, gt=0, description="Width × height of one frame.")
    max_frames: int = Field(100_000, gt=0, description="Frames of one video or folder.")
    max_duration_s: float = Field(6 * 3600.0, gt=0, description="Seconds of one video.")


def default_store_dir() -> Path:
    """The user's data folder, by platform convention (XDG, macOS, Windows)."""
    from platformdirs import user_data_path

    return user_data_path("sa2va-tools", appauthor=False)


class Settings(BaseSettings):
    """Read from arguments first, then from `SA2VA_*` (nested names with two underscores)."""

    model_config = SettingsConfigDict(
        env_prefix="SA2VA_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    model: str = Field("nano", description="`nano`, a hub id that was pulled, or the folder of a checkpoint.")
    device: str = Field(
        "auto",
        pattern=DEVICE_PATTERN,
        description="auto, cpu, mps, cuda, cuda:1, or several GPUs: cuda:0,cuda:1.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    encoder_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="SAM-2's image encoder; auto: bfloat16 on a CPU that has instructions for it."
    )
    attention_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="The large product of SAM-2's memory attention, on a CPU; auto: bfloat16 where it has "
        "instructions for it.",
    )
    fast_tracking: bool = Field(
        False, description="Follow objects over pooled memories: faster on large models, less exact."
    )
    compile_encoder: bool = Field(
        False,
        description="Compile SAM-2's image encoder (torch.compile): minutes when a model is loaded, "
        "then less time a frame on GPUs; on a CPU it gains little.",
    )
    quantize: Literal["int8", "nf4"] | None = Field(
        None, description="Weights of the language model's layers in 8 or 4 bits; needs the extra [quantize]."
    )
    sam2_decoder: str | None = Field(
        None, description="File, folder or hub id of stock SAM-2 weights, for mode sa2va-i."
    )
    grounding: Literal["transformers", "sam2"] = Field(
        "transformers", description="Whose SAM-2 modules: those of transformers, or of the package sam2."
    )
    store_dir: Path = Field(default_factory=default_store_dir)
    roots: tuple[Path, ...] = Field((), description="Folders that front ends for agents may read.")
    limits: MediaLimits = MediaLimits()
    max_new_tokens: int = Field(2048, gt=0, description="Upstream's own bound on an answer.")
    cache_bytes: int | None = Field(
        None,
        ge=0,
        description="What was seen and read of media, kept for the next question; 0 keeps nothing. "
        "None: 2 GiB, and 64 MiB for small models, which are quicker to ask again. A GPU has twice as much "
        "besides in host memory.",
    )
    threads: int | None = Field(
        None, gt=0, description="CPU threads for torch; None: one for small models, else torch's own."
    )

    @classmethod
    def read(cls, **given: Any) -> Self:
        """The environment's settings, with what is `given` over them. RequestError names the variable that is
        wrong, for a caller that wrote none of it: pydantic's own error would pass for one about arguments."""
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise _wrong([str(part) for part in first["loc"]], first["msg"]) from error
        except SettingsError as error:  # before any field is looked at
            field = re.search(r'field "(\w+)"', str(error))
            raise _wrong([field[1] if field else "*"], "Input should be JSON") from error


def _wrong(path: list[str], problem: str) -> RequestError:
    name = "SA2VA_" + "__".join(path).upper()
    return RequestError(f"The setting {name} is wrong: {problem}.", hint="Correct or unset that variable.")
