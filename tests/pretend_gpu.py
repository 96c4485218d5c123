"""A stand-in for a GPU: like a GPU, it refuses to compute with tensors on different devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
# Functions that copy between the two sides, or that torch calls before it moves a module.
MAY_MIX = (Tensor.copy_, Tensor.data.__set__, torch._has_compatible_shallow_copy_type)
MARK = "stands_in_for_gpu"


class PretendGpu(TorchFunctionMode):
    """In this block `.to(GPU)` marks a tensor, and results of marked tensors are marked. An operation on
    marked and unmarked tensors fails, unless those are single numbers. Everything is computed on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return GPU if is_there(args[0]) else CPU
        if func in (Tensor.numpy, Tensor.__array__) and is_there(args[0]):
            raise TypeError("a tensor on a GPU has no numpy array")
        if func == Tensor.__reduce_ex__:
            return reduce_unmarked(args[0], func, args)
        there = any(is_there(tensor) for tensor in tensors_in((args, kwargs)))
        if func in (Tensor.to, Tensor.cpu):
            there = moves_there(func, args, kwargs, there)
            # Always a new tensor: the old one stays on its side.
            func, args, kwargs = Tensor.to, (args[0], choose_dtype(args, kwargs)), {"copy": True}
        elif kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type == "cuda"
            assert not (there and kwargs.get("generator")), "a generator of the CPU draws for the GPU"
            kwargs["device"] = CPU
        elif there and func not in MAY_MIX:
            refuse_to_mix(func, (args, kwargs))
        result = func(*args, **kwargs)
        for tensor in tensors_in(result):
            if func != Tensor.copy_:
                setattr(tensor, MARK, there)
        if func == Tensor.data.__set__:
            setattr(args[0], MARK, is_there(args[1]))
        return result


def is_there(tensor: Tensor) -> bool:
    return bool(tensor.__dict__.get(MARK))


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)


def moves_there(func: Any, args: Any, kwargs: Any, there: bool) -> bool:
    """Whether a call of `to` or `cpu` moves to the GPU, or leaves a tensor there."""
    devices = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.device | str)]
    if func == Tensor.cpu:
        return False
    return torch.device(devices[0]).type == "cuda" if devices else there


def choose_dtype(args: Any, kwargs: Any) -> torch.dtype:
    dtypes = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.dtype)]
    return dtypes[0] if dtypes else args[0].dtype


def refuse_to_mix(func: Any, values: Any) -> None:
    here = [tensor for tensor in tensors_in(values) if not is_there(tensor) and tensor.dim()]
    if here:
        raise RuntimeError(f"{func} got tensors on both sides; on the CPU: {[t.shape for t in here]}")


def reduce_unmarked(tensor: Tensor, func: Any, args: Any) -> Any:
    """For pickle: without the mark."""
    there = is_there(tensor)
    tensor.__dict__.pop(MARK, None)
    reduced = func(*args)
    setattr(tensor, MARK, there)
    return reduced
