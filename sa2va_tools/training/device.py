"""Where a training runs. Batches and random numbers are made on the CPU: a GPU sees the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import torch

from sa2va_tools.errors import RequestError
from sa2va_tools.model.device.placement import choose_device

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Batch = TypeVar("Batch", bound=DataclassInstance)

CPU = torch.device("cpu")


def choose_training_device(name: str) -> torch.device:
    """`auto` takes CUDA if it is available, otherwise the CPU. RequestError for any other device, and for one
    that is not available."""
    if name not in ("auto", "cpu", "cuda"):
        raise RequestError(
            f"Training cannot use the device {name!r}; it runs on a CPU or with CUDA.",
            hint="Use the device auto, cpu or cuda.",
        )
    if name == "auto":
        return torch.device("cuda") if torch.cuda.is_available() else CPU
    return choose_device(name)


def move_to_device(batch: Batch, device: torch.device) -> Batch:
    """A dataclass of tensors, and of dataclasses of tensors, with all tensors on `device`."""

    def move(value: Any) -> Any:
        return value.to(device) if isinstance(value, torch.Tensor) else move_to_device(value, device)

    return replace(batch, **{field.name: move(getattr(batch, field.name)) for field in fields(batch)})


@contextmanager
def single_thread() -> Iterator[None]:
    """In this block torch and OpenCV use one CPU thread each; afterwards as many as before."""
    torch_threads = torch.get_num_threads()
    cv2_threads = cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)
