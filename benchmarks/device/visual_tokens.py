"""Which kernel makes visual tokens differ from the published ones in float32.

Image features of one image and of one video are computed as the engine does, then without one suspect at a
time: without cuDNN, with plain attention, and without TF32. The modules of the device are also compared to
those of the CPU one by one, which shows where a difference begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.device.golden import TIGHT, replay
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime

_SHOWN_MODULES = 6

Row = dict[str, Any]


def compare_visual_tokens(folder: Path, names: Sequence[str], device: torch.device) -> list[Row]:
    """The largest differences for the first image and the first video of a golden checkpoint, by variant;
    then the modules where a difference begins."""
    cases = _first_cases(folder, names)
    runtime = Sa2vaRuntime.load(folder / "checkpoint", device=str(device), dtype="float32")
    rows: list[Row] = []
    for variant, change in VARIANTS.items():
        row: Row = {"family": folder.name, "variant": variant}
        for kind, case in cases.items():
            with replay.replay(runtime, case) as ours, change():
                row[kind] = _largest_difference(ours.image_features().tokens, case.arrays)
        rows.append(row)
    on_cpu = Sa2vaRuntime.load(folder / "checkpoint", device="cpu", dtype="float32")
    for kind, case in cases.items():
        modules = find_differing_modules(_record(runtime, case), _record(on_cpu, case))
        rows.append({"family": folder.name, "kind": kind, "modules that differ from the CPU's": modules})
    return rows


def _first_cases(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """An image and a video, if the folder has recorded visual tokens of them."""
    found: dict[str, Any] = {}
    for name in names:
        case = replay.Case(folder, name)
        if {"vit_embeds_stride8", "visual_stride8"} & case.arrays.keys():
            found.setdefault("video" if len(case.pictures()) > 1 else "image", case)
    return found


def _largest_difference(tokens: Tensor, arrays: dict[str, Any]) -> float:
    ours = tokens.float().cpu().numpy()
    if "vit_embeds_stride8" in arrays:
        return float(np.abs(ours[:, ::8] - arrays["vit_embeds_stride8"]).max())
    return float(np.abs(ours[0, ::8] - arrays["visual_stride8"]).max())


# ---- variants ---------------------------------------------------------------------------------


@contextmanager
def disable_cudnn() -> Iterator[None]:
    """In this block nothing uses cuDNN, neither convolutions nor attention."""
    # torch.backends.cudnn.flags would read the old TF32 switch, which fails once the new ones are used.
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


@contextmanager
def disable_tf32() -> Iterator[None]:
    """In this block float32 products and convolutions on CUDA are exact by every switch that torch has."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    switches: list[tuple[Any, str, object]]
    if hasattr(cudnn, "conv"):  # from torch 2.9 on
        switches = [(matmul, "fp32_precision", "ieee"), (cudnn.conv, "fp32_precision", "ieee")]
    else:
        switches = [(matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
    before = [getattr(owner, name) for owner, name, _ in switches]
    for owner, name, value in switches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)


VARIANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "as the engine": nullcontext,
    "without cuDNN": disable_cudnn,
    "plain attention": lambda: sdpa_kernel(SDPBackend.MATH),
    "without TF32": disable_tf32,
}


# ---- module by module -------------------------------------------------------------------------


class ModuleRecorder:
    """Inputs and outputs of all modules, in the order in which they end; float32 on the CPU."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Tensor | None, Tensor]] = []

    @contextmanager
    def record(self, modules: nn.Module) -> Iterator[None]:
        """Record what runs in this block."""
        hooks = [
            module.register_forward_hook(self._make_hook(name), with_kwargs=True)
            for name, module in modules.named_modules()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _make_hook(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
            result = _first_tensor(output)
            if result is not None:
                self.calls.append((name, _first_tensor([*inputs, *keywords.values()]), result))

        return note


def find_differing_modules(
    ours: Sequence[tuple[str, Tensor | None, Tensor]], expected: Sequence[tuple[str, Tensor | None, Tensor]]
) -> list[dict[str, Any]]:
    """The first modules whose outputs differ by more than `TIGHT`, relative to their largest value, with the
    difference of their inputs. A first one with equal inputs is to blame; if its inputs differ already, what
    runs between it and the module before is."""
    rows: list[dict[str, Any]] = []
    for (name, our_input, our_output), (_, input_, output) in zip(ours, expected, strict=True):
        difference = _relative_difference(our_output, output)
        if difference > TIGHT and len(rows) < _SHOWN_MODULES:
            of_input = 0.0 if our_input is None or input_ is None else _relative_difference(our_input, input_)
            rows.append({"module": name, "input": of_input, "output": difference})
    return rows


def _record(runtime: Sa2vaRuntime, case: Any) -> list[tuple[str, Tensor | None, Tensor]]:
    recorder = ModuleRecorder()
    with replay.replay(runtime, case) as ours, recorder.record(runtime.checkpoint.modules.mllm):
        ours.image_features()
    return recorder.calls


def _first_tensor(value: Any) -> Tensor | None:
    """The first tensor of numbers in a tensor, tuple, list or model output, copied."""
    if isinstance(value, Tensor):
        return value.detach().float().cpu().clone() if value.is_floating_point() else None
    values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return next((found for each in values if (found := _first_tensor(each)) is not None), None)


def _relative_difference(ours: Tensor, expected: Tensor) -> float:
    if ours.shape != expected.shape:
        return float("inf")
    largest = float(expected.abs().max())
    return float((ours - expected).abs().max()) / max(largest, 1e-12)
