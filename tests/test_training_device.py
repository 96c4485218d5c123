"""Training off the CPU. With CUDA a smoke run trains on it; everywhere, a stand-in for a GPU refuses what a
GPU would refuse: computing with tensors of both sides."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.training.config import NanoRecipe
from sa2va_tools.training.device import CPU, moved, training_device
from sa2va_tools.training.grounding_data import grounding_batch
from sa2va_tools.training.grounding_stage import spatial_prompt
from sa2va_tools.training.nano import train_nano
from sa2va_tools.training.nano_stages import Job, build, run_all, run_joint
from sa2va_tools.training.world import SceneRecipe

GPU = torch.device("cuda", 0)
TINY = NanoRecipe(
    grounding_steps=3,
    vision_steps=2,
    language_steps=3,
    practice_steps=3,
    joint_steps=3,
    batch_share=0.01,
    workers=1,
)
# What carries numbers from one side to the other, and what torch asks before it moves a module.
MAY_MIX = (Tensor.copy_, Tensor.data.__set__, torch._has_compatible_shallow_copy_type)
MARK = "stands_in_for_gpu"


class PretendGpu(TorchFunctionMode):
    """Inside this block `.to(GPU)` marks a tensor, results of marked tensors are marked, and whatever meets
    marked and unmarked tensors at once fails, but for single numbers. All of it computes on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return GPU if is_there(args[0]) else CPU
        if func in (Tensor.numpy, Tensor.__array__) and is_there(args[0]):
            raise TypeError("a tensor on a GPU has no numpy array")
        if func == Tensor.__reduce_ex__:
            return without_mark(args[0], func, args)
        there = any(is_there(tensor) for tensor in tensors_in((args, kwargs)))
        if func in (Tensor.to, Tensor.cpu):
            there = goes_there(func, args, kwargs, there)
            # A new tensor in any case: the old one keeps its side.
            func, args, kwargs = Tensor.to, (args[0], dtype_of(args, kwargs)), {"copy": True}
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


def goes_there(func: Any, args: Any, kwargs: Any, there: bool) -> bool:
    """The side that a call of `to` or `cpu` asks for."""
    wishes = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.device | str)]
    if func == Tensor.cpu:
        return False
    return torch.device(wishes[0]).type == "cuda" if wishes else there


def dtype_of(args: Any, kwargs: Any) -> torch.dtype:
    wishes = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, torch.dtype)]
    return wishes[0] if wishes else args[0].dtype


def refuse_to_mix(func: Any, values: Any) -> None:
    here = [tensor for tensor in tensors_in(values) if not is_there(tensor) and tensor.dim()]
    if here:
        raise RuntimeError(f"{func} meets tensors on both sides; on the CPU: {[t.shape for t in here]}")


def without_mark(tensor: Tensor, func: Any, args: Any) -> Any:
    """What is saved does not remember where it was."""
    there = is_there(tensor)
    tensor.__dict__.pop(MARK, None)
    reduced = func(*args)
    setattr(tensor, MARK, there)
    return reduced


def test_the_stand_in_refuses_what_a_gpu_refuses():
    with PretendGpu():
        here, there = torch.ones(2), torch.ones(2).to(GPU)
        assert (there + 1 + torch.tensor(1.0)).device == GPU and here.device == CPU
        assert torch.zeros_like(there).device == there.cpu().to("cuda").device == GPU
        with pytest.raises(RuntimeError, match="both sides"):
            here + there
        with pytest.raises(RuntimeError, match="both sides"):
            torch.nn.Linear(2, 2)(there)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert torch.nn.Linear(2, 2).to(GPU)(there).device == GPU


def test_every_stage_trains_and_goes_on_away_from_the_cpu(tmp_path):
    job = Job(tmp_path, TINY, device=GPU)
    with PretendGpu():
        run_all(job)
        run_joint(job)  # it is done: its state is read back to where it was
    load_checkpoint(tmp_path / "checkpoint", device=CPU, dtype=torch.float32)
    assert not (tmp_path / "joint.csv").read_text().count("skipped")


def test_prompts_are_made_where_the_model_is():
    grounding = build(seed=0).model.grounding
    batch = grounding_batch(random.Random(1), SceneRecipe(), clips=2, moments=(0.0,), slots=2)
    with PretendGpu():
        grounding, batch = grounding.to(GPU), moved(batch, GPU)
        for kind in ("point", "box", "mask"):
            prompt = spatial_prompt(grounding, batch, kind, torch.Generator().manual_seed(0))
            assert prompt.sparse.device == prompt.dense.device == GPU


def test_auto_takes_cuda_where_it_is():
    assert training_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.gpu
def test_a_smoke_run_on_cuda_improves_every_loss(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    trained = train_nano(tmp_path, smoke=True, device="cuda")
    assert not {stage: fall for stage, fall in trained.losses.items() if not fall.last < fall.first}
    load_checkpoint(trained.checkpoint, device=CPU, dtype=torch.float32)
