"""Sa2VA's modules: a multimodal language model, the `[SEG]` projection, and SAM-2.

Architecture only (arXiv 2501.04001, section 3.2): no weights, no tokenizer, no decoding loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sa2va_tools.errors import CheckpointError, Sa2vaError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.families import build_family, family_rules
from sa2va_tools.model.key_mapping import KeyMap, move
from sa2va_tools.model.sam2.modules import Sam2


class Sa2VA(nn.Module):
    """`mllm` answers; its hidden state at each `[SEG]` goes through `text_hidden_fcs` and prompts `sam2`."""

    def __init__(self, config: Sa2vaConfig, sam2_class: type[Sam2] = Sam2) -> None:
        super().__init__()
        self.config = config
        self.mllm: Any = build_family(config)
        hidden = self.mllm.hidden_size
        self.text_hidden_fcs = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, config.sam2.hidden_dim)
        )
        self.sam2 = sam2_class(config.sam2)

    def project_seg_states(self, seg_hidden: Tensor) -> Tensor:
        """(n, hidden) states at `[SEG]` → (n, C) prompt embeddings for SAM-2."""
        return self.text_hidden_fcs(seg_hidden)


def build_empty(config: Sa2vaConfig, sam2_class: type[Sam2] = Sam2) -> Sa2VA:
    """The modules on the meta device. CheckpointError if the config's values make no model."""
    try:
        with torch.device("meta"):
            return Sa2VA(config, sam2_class)
    except Sa2vaError:
        raise
    except Exception as error:  # whatever transformers raises for values that it does not know
        raise CheckpointError(
            f"The values in config.json make no model: {type(error).__name__}: {error}.",
            hint="Download config.json again.",
        ) from error


def key_map(config: Sa2vaConfig, sam2_class: type[Sam2] = Sam2, *, stock_decoder: bool = False) -> KeyMap:
    """Upstream's parameter names for this family's checkpoints; `stock_decoder` as in `sam2_rules`."""
    return KeyMap(
        (
            move("text_hidden_fcs.{i}.{p}", "text_hidden_fcs.{i}.{p}"),
            *family_rules(config),
            *sam2_class.key_rules(stock_decoder=stock_decoder),
        )
    )
