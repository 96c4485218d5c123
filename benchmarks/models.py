"""Models, clips and prompts to measure with. Weights are random: speed does not depend on what they know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2va_tools.model.checkpoints.loader import LoadedCheckpoint, load_checkpoint
from sa2va_tools.model.config import Sam2Config
from sa2va_tools.model.device.placement import Precision
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.hub.published import find_published, make_published_config
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.model.sam2.cpu_memory_attention import set_product_dtype
from sa2va_tools.model.sam2.modules import Sam2
from sa2va_tools.model.text.chat_templates import load_chat
from sa2va_tools.model.text.tokenizer import load_tokenizer
from sa2va_tools.run import Run

Size = Literal["nano", "hiera-l"]
Modules = TypeVar("Modules", bound=nn.Module)


def build_sam2(size: Size, device: torch.device, dtype: torch.dtype) -> Sam2:
    """The nano's own SAM-2, or Hiera-L as Sa2VA has it, with random weights that are drawn on the device."""
    if size == "nano":
        return load_checkpoint(NANO_FOLDER, devices=(device,), dtype=dtype, run=Run()).modules.sam2
    torch.manual_seed(0)
    with device:
        sam2 = Sam2(Sam2Config()).eval().requires_grad_(False)
    raise_object_scores(sam2)
    return cast_parameters(sam2, dtype)


def build_checkpoint(model: str, device: torch.device, dtype: torch.dtype) -> LoadedCheckpoint:
    """The modules of a published checkpoint with random weights, and the nano's tokenizer. ValueError for a
    model that was not published."""
    known = find_published(model)
    if known is None:
        raise ValueError(f"{model} is not among the published checkpoints.")
    config = make_published_config(known)
    torch.manual_seed(0)
    with device:
        modules = cast_parameters(Sa2VA(config).eval().requires_grad_(False), dtype)
    tokenizer = load_tokenizer(NANO_FOLDER, config.image_token)
    modules.mllm.image_token_id = tokenizer.image_id
    return LoadedCheckpoint(config, modules, tokenizer, load_chat(NANO_FOLDER, config), "random")


def cast_parameters(modules: Modules, dtype: torch.dtype) -> Modules:
    """Change the dtype of the parameters. Positions are computed from buffers, which stay float32, as in a
    checkpoint that the engine loads."""
    for parameter in modules.parameters():
        parameter.data = parameter.data.to(dtype)
    return modules


def apply_precision(sam2: Sam2, precision: Precision) -> Sam2:
    """Change the number formats of all parts, as the engine does after loading."""
    cast_parameters(sam2, precision.modules)
    cast_parameters(sam2.image_encoder, precision.image_encoder)
    set_product_dtype(sam2, precision.memory_attention)
    return sam2


def raise_object_scores(sam2: Sam2) -> None:
    """Add a bias to the object score. With random weights the scores are near zero, so an object would appear
    and disappear by chance; in most videos it stays."""
    with torch.no_grad():
        sam2.mask_decoder.pred_obj_score_head.proj_out.bias.add_(4)


def draw_embeddings(sam2: Sam2, objects: int) -> Tensor:
    """(objects, C) random prompt embeddings in place of the language model's."""
    like = sam2.no_object_pointer
    drawn = torch.randn(objects, sam2.config.hidden_dim, generator=torch.Generator().manual_seed(1))
    return drawn.to(like.device, like.dtype)


def draw_pixels(sam2: Sam2, frames: int) -> Tensor:
    """(frames, 3, S, S) random input of the image encoder."""
    like = sam2.no_object_pointer
    side = sam2.config.image_size
    drawn = torch.rand(frames, 3, side, side, generator=torch.Generator().manual_seed(0))
    return drawn.to(like.device, like.dtype)


class MemoryClip:
    """A clip in memory, as the engine's source of frames: a bright square drifts over noise."""

    def __init__(self, count: int, size_hw: tuple[int, int] = (360, 640)) -> None:
        noise = np.random.default_rng(0).integers(60, 120, (*size_hw, 3), dtype=np.uint8)
        self.pictures: list[NDArray[np.uint8]] = []
        for number in range(count):
            picture = np.roll(noise, number, 1)
            left = 20 + (7 * number) % (size_hw[1] - 140)
            picture[100:220, left : left + 120] = (230, 80, 40)
            self.pictures.append(picture)

    def __len__(self) -> int:
        return len(self.pictures)

    def cache_key(self, position: int) -> tuple[str, int]:
        return "benchmark", position

    def frames(self, positions: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        return (self.pictures[position] for position in positions)


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")
