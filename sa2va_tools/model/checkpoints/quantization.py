"""The language model's layers in 8 or 4 bits, through transformers' support for bitsandbytes.

Only linear weights inside the decoder's layers are quantized: embeddings, the head, both picture encoders,
the `[SEG]` projection and all of SAM-2 keep the dtype of the model.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from sa2va_tools.errors import MissingExtraError, RequestError
from sa2va_tools.wording import setting

Quantization = Literal["int8", "nf4"]
BITS_PER_WEIGHT: dict[Quantization, float] = {"int8": 8.0, "nf4": 4.5}
"""In 4 bits, each block of 64 weights also has a float32 scale."""


def quantize_layers(
    layers: nn.ModuleList, quantization: Quantization, dtype: torch.dtype, device: torch.device
) -> None:
    """Replace the linear modules in `layers`, which have no storage yet, by quantized ones that compute in
    `dtype`. Raises MissingExtraError without bitsandbytes, RequestError for a device that it cannot use."""
    if device.type not in ("cuda", "cpu"):
        raise RequestError(
            f"{quantization} works with CUDA and on the CPU, not on {device.type!r}.",
            hint=f"Leave out {setting('quantize')}, or choose another {setting('device')}.",
        )
    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("bitsandbytes", "quantize") from error
    # It warns in every product that 8-bit layers compute in float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    config = (
        BitsAndBytesConfig(load_in_8bit=True)
        if quantization == "int8"
        else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    )
    replace_with_bnb_linear(layers, quantization_config=config)


def make_parameter(like: Any, tensor: Tensor, device: torch.device) -> nn.Parameter:
    """`tensor` on `device` as a parameter of the class of `like`, which has no storage; packed if that class
    is one of bitsandbytes'."""
    parameter_class = type(like)
    if parameter_class is nn.Parameter:
        return nn.Parameter(tensor.to(device), requires_grad=False)
    # bitsandbytes packs weights when they move from the CPU to their device.
    return parameter_class(tensor.cpu(), requires_grad=False, **like.__dict__).to(device)
