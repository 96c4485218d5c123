"""Sa2VA's modules: a multimodal language model, the `[SEG]` projection, and SAM-2.

Architecture only (arXiv 2501.04001, section 3.2): no weights, no tokenizer, no decoding loop.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sa2va_tools.model.config import GroundingConfig, Sa2vaConfig
from sa2va_tools.model.families import build_family, family_rules
from sa2va_tools.model.grounding import Sam2Grounding
from sa2va_tools.model.key_mapping import KeyMap, renamed
from sa2va_tools.model.sam2_keys import PACKAGE_RULES, sam2_rules


class Sa2VA(nn.Module):
    """`mllm` answers; its hidden state at each `[SEG]` goes through `text_hidden_fcs` and prompts
    `grounding`."""

    def __init__(self, config: Sa2vaConfig) -> None:
        super().__init__()
        self.config = config
        self.mllm: Any = build_family(config)
        hidden = self.mllm.hidden_size
        self.text_hidden_fcs = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, config.grounding.hidden_dim)
        )
        self.grounding = build_grounding(config.grounding)

    def prompt_embeddings(self, seg_hidden: Tensor) -> Tensor:
        """(n, hidden) states at `[SEG]` → (n, C) prompt embeddings for SAM-2."""
        projected: Tensor = self.text_hidden_fcs(seg_hidden)
        return projected


def build_grounding(config: GroundingConfig) -> Sam2Grounding:
    """SAM-2 on the modules that `config` names."""
    if config.implementation == "sam2":
        from sa2va_tools.model.sam2_package import PackageSam2

        return PackageSam2(config)
    return Sam2Grounding(config)


def key_map(config: Sa2vaConfig, *, stock_decoder: bool = False) -> KeyMap:
    """Upstream's names for this family's checkpoints; `stock_decoder` as in `sam2_rules`."""
    return KeyMap(
        (
            renamed("text_hidden_fcs.{i}.{p}", "text_hidden_fcs.{i}.{p}"),
            *family_rules(config),
            *(
                PACKAGE_RULES
                if config.grounding.implementation == "sam2"
                else sam2_rules(stock_decoder=stock_decoder)
            ),
        )
    )
