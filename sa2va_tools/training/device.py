"""Where a training run works, and how a batch gets there.

Scenes are drawn and all random numbers are made on the CPU, so a GPU sees the same batches.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from sa2va_tools.errors import RequestError
from sa2va_tools.model.device import choose_device

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Tensors = TypeVar("Tensors", bound=DataclassInstance)

CPU = torch.device("cpu")


def training_device(wanted: str) -> torch.device:
    """`auto` takes CUDA if it is there, else the CPU. Raises RequestError for another device, or one that
    is not there."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise RequestError(
            f"Training runs on a CPU or with CUDA; the device {wanted!r} was asked for.",
            hint="Use the device auto, cpu or cuda.",
        )
    if wanted == "auto":
        return torch.device("cuda") if torch.cuda.is_available() else CPU
    return choose_device(wanted)


def moved(tensors: Tensors, device: torch.device) -> Tensors:
    """A dataclass of tensors only → the same on `device`."""
    return replace(
        tensors, **{field.name: getattr(tensors, field.name).to(device) for field in fields(tensors)}
    )
