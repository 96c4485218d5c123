"""Compare a checkpoint's tensors with its config, by names and shapes alone, before a weight is read.

`inspection` checks the other files of a checkpoint as well, for people to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sa2va_tools.errors import CheckpointMismatchError
from sa2va_tools.model.checkpoints.safetensors_files import TensorInfo
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.key_mapping import Placement
from sa2va_tools.model.sa2va import Sa2VA, build_empty, key_map

STOCK_DECODER = "sam2.mask_decoder."
"""How the parameters of SAM-2's own mask decoder begin."""
_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What does not match, under upstream's names. A missing head is fine if the config ties it."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    """Keys that the model does not have."""
    mismatches: dict[str, str]
    """Keys of tensors whose shape differs from what the config requires, each with a message."""

    @property
    def matches(self) -> bool:
        return not (self.missing or self.unknown or self.mismatches)

    def require_match(self, folder: Path) -> None:
        """Raises CheckpointMismatchError with files and keys, unless everything matches."""
        if self.matches:
            return
        parts = []
        if self.mismatches:
            parts.append(_list_some(self.mismatches.values()))
        if self.missing or self.unknown:
            parts.append(
                f"{len(self.missing)} missing ({_list_some(self.missing)}), "
                f"{len(self.unknown)} unknown ({_list_some(self.unknown)})"
            )
        raise CheckpointMismatchError(
            f"The weights in {folder} do not match its config: {'; '.join(parts)}.",
            hint=(
                "A weight file may be missing: download the checkpoint again. "
                "Otherwise config.json and weights belong to different checkpoints."
            ),
        )


def validate_state_dict(
    config: Sa2vaConfig,
    index: Mapping[str, TensorInfo],
    modules: Sa2VA | None = None,
    *,
    stock_decoder: bool = False,
) -> ValidationReport:
    """Compare `index`, a checkpoint's tensors by upstream's names, with the modules of `config`. With
    `stock_decoder`, SAM-2's own mask decoder comes from another file and is not expected here."""
    modules = build_empty(config) if modules is None else modules
    keys = key_map(config, type(modules.sam2), stock_decoder=stock_decoder)
    expected = {
        name: tuple(value.shape)
        for name, value in modules.state_dict().items()
        if not (stock_decoder and name.startswith(STOCK_DECODER))
    }
    placed: set[str] = set()
    stacked_rows: dict[str, int] = {}
    unknown: list[str] = []
    mismatches: dict[str, str] = {}
    for key, info in index.items():
        placement = keys.place(key)
        if placement is None or not all(name in expected for name in placement.native):
            unknown.append(key)
            continue
        shapes = placement.shapes(info.shape) if info.shape else {}
        if placement.parts > 1 and shapes:
            name = placement.native[0]
            stacked_rows[name] = stacked_rows.get(name, 0) + shapes[name][0]
            shapes[name] = (expected[name][0], *shapes[name][1:])
        placed.update(placement.native)
        if any(shapes.get(name) != expected[name] for name in placement.native):
            mismatches[key] = _describe_mismatch(key, info, placement, expected)
    incomplete = {name for name, rows in stacked_rows.items() if rows != expected[name][0]}
    missing = set(expected) - placed | incomplete
    if config.tie_word_embeddings:
        missing.discard(modules.mllm.head_name)
    missing_keys = {key for name in missing for key in keys.upstream_names(name)} - set(index)
    return ValidationReport(tuple(sorted(missing_keys)), tuple(sorted(unknown)), mismatches)


def _describe_mismatch(
    key: str, info: TensorInfo, placement: Placement, expected: Mapping[str, tuple[int, ...]]
) -> str:
    rows, *rest = expected[placement.native[0]] or (1,)
    if placement.rule.kind == "split":
        rows = sum(expected[name][0] for name in placement.native)
    required = [rows // placement.parts, *rest]
    return f"{info.file.name}: {key} has the shape {list(info.shape)}; the config requires {required}"


def _list_some(items: Iterable[str]) -> str:
    listed = list(items)
    return ", ".join(listed[:_MAX_LISTED]) + (", …" if len(listed) > _MAX_LISTED else "") or "none"
