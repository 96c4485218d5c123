"""The language model's layers in 8 or 4 bits, through transformers' own bitsandbytes support.

Only linear weights inside the decoder's layers are touched: embeddings, the head, both picture encoders, the
`[SEG]` projection and all of SAM-2 stay in the dtype of the rest.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from sa2va_tools.errors import MissingExtraError, RequestError

Quantisation = Literal["int8", "nf4"]
BITS: dict[Quantisation, float] = {"int8": 8.0, "nf4": 4.5}
"""Bits a weight: 4-bit blocks of 64 carry a float32 scale each."""


def quantise(layers: nn.ModuleList, how: Quantisation, dtype: torch.dtype, device: torch.device) -> None:
    """Put layers of `how` in the place of the linear ones, which hold no weights yet; `dtype` is what they
    compute in. Raises MissingExtraError without bitsandbytes, RequestError on a device that it cannot use."""
    if device.type not in ("cuda", "cpu"):
        raise RequestError(
            f"{how} works with CUDA and on the CPU, not on {device.type!r}.",
            hint="Leave out --quantize, or choose another --device.",
        )
    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("bitsandbytes", "quantize") from error
    # It says at every product, by the thousands, that 8-bit layers compute in float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    wish = (
        BitsAndBytesConfig(load_in_8bit=True)
        if how == "int8"
        else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    )
    replace_with_bnb_linear(layers, quantization_config=wish)


def filled(parameter: Any, tensor: Tensor) -> nn.Parameter:
    """`tensor` as a parameter of the kind that `parameter`, without storage, is; quantised where that is."""
    kind = type(parameter)
    if kind is nn.Parameter:
        return nn.Parameter(tensor, requires_grad=False)
    # bitsandbytes packs its weights on their way from the CPU to their device.
    made: nn.Parameter = kind(tensor.cpu(), requires_grad=False, **parameter.__dict__).to(tensor.device)
    return made
