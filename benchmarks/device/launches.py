"""A rehearsal that needs no GPU: full-size SAM-2 on tensors without storage.

They refuse mixed devices and every look at a value, which would make the host wait for a GPU. The operations
that would launch kernels are counted, because a GPU that is faster than Python waits for launches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.attention import attend_to_all, make_memory
from benchmarks.device.part import Part
from benchmarks.models import cast_parameters, draw_pixels, dtype_name
from sa2va_tools.model.config import Sam2Config
from sa2va_tools.model.sam2.modules import Sam2

_NO_KERNELS = ("aten::empty", "aten::new_empty", "aten::_reshape_alias", "aten::_unsafe_view", "aten::view")


class LaunchCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that compute or copy; views and empty tensors launch nothing."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        is_view = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        if not is_view and not name.startswith(_NO_KERNELS):
            self.count += 1
        return func(*args, **(kwargs or {}))


class FusedAttention(TorchFunctionMode):
    """Makes scaled_dot_product_attention one operation, as on a GPU; tensors without storage would take it
    apart."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, _, value = (*args, *(kwargs or {}).values())[:3]
            return torch.zeros(*query.shape[:-1], value.shape[-1], dtype=query.dtype, device=query.device)
        return func(*args, **(kwargs or {}))


def count_launches(work: Callable[[], object]) -> int:
    """How many kernels `work` would launch, once what it computes only once is there."""
    with torch.no_grad(), FusedAttention():
        work()
        counter = LaunchCounter()  # type: ignore[no-untyped-call]
        with counter:
            work()
    return counter.count


def build_empty_sam2(dtype: torch.dtype) -> Sam2:
    """Full-size SAM-2 without storage."""
    with torch.device("meta"):
        sam2 = Sam2(Sam2Config()).eval().requires_grad_(False)
    return cast_parameters(sam2, dtype)


def count_steps(sam2: Sam2, objects: int) -> dict[str, Any]:
    """Launches of each step of a tracked frame."""
    pixels = draw_pixels(sam2, 1)
    features, prediction, memory = make_memory(sam2, objects)
    attend = attend_to_all(sam2, features, memory)
    embedded: Tensor = attend()
    prompt = sam2.empty_prompt(objects)
    candidates = sam2.decode(features, embedded, prompt)
    steps = {
        "encode": lambda: sam2.encode(pixels),
        "attend": attend,
        "prompt": lambda: sam2.empty_prompt(objects),
        "decode": lambda: sam2.decode(features, embedded, prompt),
        "select": lambda: sam2.select_best_mask(candidates, gate=True),
        "remember": lambda: sam2.encode_memory(features, prediction, torch.bfloat16),
    }
    counts = {name: count_launches(work) for name, work in steps.items()}
    dtype = dtype_name(sam2.no_object_pointer.dtype)
    return {"dtype": dtype, "objects": objects, **counts, "frame": sum(counts.values())}


def main() -> int:
    """`python -m benchmarks.device.launches --out DIR`."""
    part = Part.from_command_line("launches", __doc__)
    for dtype in (torch.bfloat16, torch.float32):
        sam2 = build_empty_sam2(dtype)
        for objects in (1,) if part.rehearse else (1, 5):
            part.step(f"{dtype_name(dtype)}, {objects} objects", partial(count_steps, sam2, objects))
    return part.finish()


if __name__ == "__main__":
    sys.exit(main())
