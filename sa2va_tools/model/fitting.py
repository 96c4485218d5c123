"""Do a checkpoint's files fit its config? Told from names and shapes alone, before a weight is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sa2va_tools.errors import CheckpointError, CheckpointMismatchError, Sa2vaError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.key_mapping import Placement
from sa2va_tools.model.sa2va import Sa2VA, key_map
from sa2va_tools.model.weight_files import TensorHead

Shape = tuple[int, ...]
_MOST_NAMED = 5
STOCK_DECODER = "grounding.mask_decoder."


@dataclass(frozen=True, slots=True)
class WrongShape:
    """An upstream tensor that is not as the config promises."""

    file: str
    key: str
    shape: Shape
    expected: Shape

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.key} has the shape {list(self.shape)}; "
            f"the config promises {list(self.expected)}"
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """What does not fit, all by upstream's names: keys that are missing, keys that no rule knows, and wrong
    shapes. A head that the config ties is not missing."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    wrong: tuple[WrongShape, ...]

    @property
    def is_good(self) -> bool:
        return not (self.missing or self.unknown or self.wrong)

    def require(self, folder: Path) -> None:
        """CheckpointMismatchError, with folder, files and keys, unless it is good."""
        if self.is_good:
            return
        parts = []
        if self.wrong:
            parts.append(f"{_some(map(str, self.wrong))}")
        if self.missing or self.unknown:
            parts.append(
                f"{len(self.missing)} missing ({_some(self.missing)}), "
                f"{len(self.unknown)} unknown ({_some(self.unknown)})"
            )
        raise CheckpointMismatchError(
            f"The weights in {folder} do not fit its config: {'; '.join(parts)}.",
            hint=(
                "A file of weights may be missing: download the checkpoint again. "
                "Else config.json and weights are of different checkpoints."
            ),
        )


def build_empty(config: Sa2vaConfig) -> Sa2VA:
    """The modules on the meta device: names and shapes, no storage."""
    try:
        with torch.device("meta"):
            return Sa2VA(config)
    except Sa2vaError:
        raise
    except Exception as error:  # whatever transformers makes of values that it does not know
        raise CheckpointError(
            f"The values in config.json make no model: {type(error).__name__}: {error}.",
            hint="Download config.json again.",
        ) from error


def fit(
    config: Sa2vaConfig,
    heads: Mapping[str, TensorHead],
    modules: Sa2VA | None = None,
    *,
    stock_decoder: bool = False,
) -> Fit:
    """Compare `heads`, upstream's names with file and shape, with the modules of `config`. With
    `stock_decoder` SAM-2's own mask decoder is expected elsewhere."""
    modules = build_empty(config) if modules is None else modules
    expected = {
        name: tuple(value.shape)
        for name, value in modules.state_dict().items()
        if not (stock_decoder and name.startswith(STOCK_DECODER))
    }
    keys = key_map(config, stock_decoder=stock_decoder)
    rows: dict[str, int] = {}
    filled: set[str] = set()
    unknown: list[str] = []
    wrong: list[WrongShape] = []
    for key, head in heads.items():
        placement = keys.place(key)
        if placement is None or not all(name in expected for name in placement.native):
            unknown.append(key)
            continue
        shapes = placement.shapes(head.shape) if head.shape else {}
        if placement.parts > 1 and shapes:
            name = placement.native[0]
            rows[name] = rows.get(name, 0) + shapes[name][0]
            shapes[name] = (expected[name][0], *shapes[name][1:])
        filled.update(placement.native)
        if any(shapes.get(name) != expected[name] for name in placement.native):
            wrong.append(WrongShape(head.file.name, key, head.shape, _promised(placement, expected)))
    missing = set(expected) - filled | {name for name, count in rows.items() if count != expected[name][0]}
    if config.tie_word_embeddings:
        missing.discard(modules.mllm.head_name)
    lacking = {key for name in missing for key in keys.upstream_names(name)} - set(heads)
    return Fit(tuple(sorted(lacking)), tuple(sorted(unknown)), tuple(wrong))


def _promised(placement: Placement, expected: Mapping[str, Shape]) -> Shape:
    """The shape that the upstream tensor of `placement` should have."""
    first, *rest = expected[placement.native[0]] or (1,)
    if placement.rule.kind == "split":
        first = sum(expected[name][0] for name in placement.native)
    return (first // placement.parts, *rest)


def heads_of(shapes: Mapping[str, Sequence[int]], file: str = "model.safetensors") -> dict[str, TensorHead]:
    """Names and shapes from elsewhere as if one file held them."""
    return {key: TensorHead(Path(file), tuple(shape)) for key, shape in shapes.items()}


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_MOST_NAMED]) + (", …" if len(listed) > _MOST_NAMED else "") or "none"
