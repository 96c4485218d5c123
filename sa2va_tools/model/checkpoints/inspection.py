"""Check every file of a checkpoint's folder without loading it, for people to read.

The comparison of its tensors with its config is in `validation`; the loader needs that part only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2va_tools.errors import Sa2vaError
from sa2va_tools.model.checkpoints.config_file import read_config
from sa2va_tools.model.checkpoints.safetensors_files import TensorInfo, find_weight_files, read_tensor_index
from sa2va_tools.model.checkpoints.validation import validate_state_dict
from sa2va_tools.model.config import Sa2vaConfig, detect_second_decoder
from sa2va_tools.model.text.chat_templates import load_chat
from sa2va_tools.model.text.prompts import PHRASE_END, PHRASE_START, SEG
from sa2va_tools.model.text.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was checked, and the problem with it, if there is one."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class FolderReport:
    """All checks that were possible: one that needs the outcome of a failed check is left out."""

    results: tuple[CheckResult, ...]
    config: Sa2vaConfig | None

    @property
    def ok(self) -> bool:
        return all(result.ok for result in self.results)


def check_folder(folder: Path) -> FolderReport:
    """Check `folder`. Problems are results, not errors."""
    check = _Checker()
    config: Sa2vaConfig | None = check("config", _describe_config, read_config, folder)
    files = check("files", _describe_files, find_weight_files, folder)
    index: dict[str, TensorInfo] | None = None
    if files is not None:
        index = check(
            "shards", lambda found: f"{len(found)} tensors, none truncated", read_tensor_index, files
        )
    if config is not None and index is not None:
        config = detect_second_decoder(config, index)
        matches = "every key is known, every parameter is there, every shape is right"
        check("keys", lambda _: matches, _compare_tensors, folder, config, index)
    if config is not None:
        check("tokenizer", _describe_tokenizer, _load_tokenizer, folder, config)
        check("template", lambda chat: f"ends with {chat.stop_words[0]}", load_chat, folder, config)
    return FolderReport(tuple(check.results), config)


class _Checker:
    """Runs checks and collects their results."""

    def __init__(self) -> None:
        self.results: list[CheckResult] = []

    def __call__(
        self, name: str, describe: Callable[[Any], str], work: Callable[..., Any], *arguments: Any
    ) -> Any:
        """What `work` returns; None if it raises one of our errors."""
        try:
            found = work(*arguments)
        except Sa2vaError as error:
            self.results.append(CheckResult(name, False, error.message, error.hint))
            return None
        self.results.append(CheckResult(name, True, describe(found)))
        return found


def _describe_config(config: Sa2vaConfig) -> str:
    sam2 = config.sam2
    return (
        f"{config.family_name}, SAM-2 at {sam2.image_size} px with stages {'-'.join(map(str, sam2.stages))}"
    )


def _describe_files(files: list[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    return f"{len(files)} safetensors file{'s' if len(files) > 1 else ''}, {size / 1e9:.2f} GB"


def _compare_tensors(folder: Path, config: Sa2vaConfig, index: dict[str, TensorInfo]) -> None:
    validate_state_dict(config, index).require_match(folder)


def _load_tokenizer(folder: Path, config: Sa2vaConfig) -> Tokenizer:
    tokenizer = load_tokenizer(folder, config.family)
    tokenizer.require_embeddings(int(config.language["vocab_size"]), folder)
    return tokenizer


def _describe_tokenizer(tokenizer: Tokenizer) -> str:
    # A token of its own is one id, two with a BOS.
    split = [token for token in (PHRASE_START, PHRASE_END) if len(tokenizer.encode(token)) > 2]
    warning = f"; {' '.join(split)} are not single tokens, so grounded captions lose their phrases"
    return f"{SEG} is token {tokenizer.seg_id}" + (warning if split else "")
