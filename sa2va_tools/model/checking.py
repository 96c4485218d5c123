"""A checkpoint's folder looked over without loading it: config, keys, shapes, tokenizer, chat template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2va_tools.errors import Sa2vaError
from sa2va_tools.model.chat import load_chat
from sa2va_tools.model.config import Sa2vaConfig, read_config, with_second_decoder
from sa2va_tools.model.fitting import fit
from sa2va_tools.model.prompt import PHRASE_END, PHRASE_START, SEG
from sa2va_tools.model.tokenizer import Tokenizer, load_tokenizer
from sa2va_tools.model.weight_files import TensorHead, read_heads, weight_files


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that was looked at, and what is wrong with it, if anything."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All that could be looked at; what follows from a broken point is left out."""

    points: tuple[Point, ...]
    config: Sa2vaConfig | None

    @property
    def ok(self) -> bool:
        return all(point.ok for point in self.points)


def check_folder(folder: Path) -> CheckReport:
    """Look `folder` over. Bad checkpoints are findings, no errors."""
    look = _Looker()
    config: Sa2vaConfig | None = look("config", lambda: read_config(folder), _config_words)
    files: list[Path] | None = look("files", lambda: weight_files(folder), _file_words)
    heads: dict[str, TensorHead] | None = None
    if files is not None:
        heads = look("shards", lambda: read_heads(files), lambda found: f"{len(found)} tensors, none cut off")
    if config is not None and heads is not None:
        full = config = with_second_decoder(config, heads)
        look(
            "keys",
            lambda: fit(full, heads).require(folder),
            lambda _: "every key is known, every parameter is there, every shape fits",
        )
    if config is not None:
        known = config
        look("tokenizer", lambda: _tokenizer(folder, known), _tokenizer_words)
        look("template", lambda: load_chat(folder, known), lambda chat: f"ends with {chat.stop_words[0]}")
    return CheckReport(tuple(look.points), config)


class _Looker:
    """Runs looks and keeps their findings."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def __call__(self, name: str, find: Callable[[], Any], say: Callable[[Any], str]) -> Any:
        try:
            found = find()
        except Sa2vaError as error:
            self.points.append(Point(name, False, error.message, error.hint))
            return None
        self.points.append(Point(name, True, say(found)))
        return found


def _config_words(config: Sa2vaConfig) -> str:
    grounding = config.grounding
    return (
        f"{config.family_name}, SAM-2 at {grounding.image_size} px with stages "
        f"{'-'.join(map(str, grounding.stages))}"
    )


def _file_words(files: list[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    return f"{len(files)} safetensors file{'s' if len(files) > 1 else ''}, {size / 1e9:.2f} GB"


def _tokenizer(folder: Path, config: Sa2vaConfig) -> Tokenizer:
    tokenizer = load_tokenizer(folder, config.image_token)
    tokenizer.require_room(int(config.language["vocab_size"]), folder)
    return tokenizer


def _tokenizer_words(tokenizer: Any) -> str:
    lacking = [token for token in (PHRASE_START, PHRASE_END) if len(tokenizer.encode(token)) > 2]
    more = f"; {' '.join(lacking)} are no tokens of their own, so grounded captions lose their phrases"
    return f"{SEG} is token {tokenizer.seg_id}" + (more if lacking else "")
