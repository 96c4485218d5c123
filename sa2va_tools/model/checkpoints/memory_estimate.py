"""How much memory a checkpoint needs for a given job, before it is loaded.

An estimate from sizes: weights exactly, caches from their shapes, working memory from the largest tensors
that are alive together. Real use may be a fifth higher, because allocators round up.

Measured on an H200 with a full-size SAM-2 in bfloat16 and five prompt frames: tracking took 352 MiB with 1
object, 1345 MiB with 5 and 4079 MiB with 16, about 250 MiB per object and 90 MiB for all of them together.
The estimate is 242 and 88 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from sa2va_tools.errors import OutOfMemoryError
from sa2va_tools.model.checkpoints.quantization import BITS_PER_WEIGHT, Quantization
from sa2va_tools.model.config import DTYPE_BYTES, Sa2vaConfig
from sa2va_tools.model.device.placement import free_bytes
from sa2va_tools.model.sa2va import Sa2VA, build_empty
from sa2va_tools.wording import setting

_TEXT_TOKENS = 600
"""Of a question and its answer."""
_RUNTIME_BYTES = {"cpu": 350 * 2**20, "cuda": 600 * 2**20, "mps": 400 * 2**20}
_CERTAIN_SHARE = 0.5
"""Tracking certainly needs this share of the estimate, on a CPU."""
_TYPICAL_TILES = 7
_TYPICAL_QWEN_TOKENS = 1500
"""Of an image: InternVL's tiles, and Qwen-VL's visual tokens."""
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Work:
    """A job. The length of a video does not matter: masks leave the device frame by frame."""

    objects: int = 1
    """Tracked at once."""
    video: bool = True
    llm_frames: int | None = None
    """Frames that the language model sees; None means the checkpoint's default."""
    prompt_frames: int | None = None
    """Frames on which masks begin; None means the checkpoint's default."""
    frame_bytes: int = 0
    """Bytes of a frame and its masks in full size."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by purpose."""

    weights: int
    language: int
    """Key-value cache, and the widest layer while the prompt is processed."""
    vision: int
    """The picture encoder of the language model, while it runs."""
    sam2: int
    """SAM-2 while it processes one frame, and the memories of all objects."""
    runtime: int
    """The libraries, and the device's context."""

    @property
    def total(self) -> int:
        """Language model, picture encoder and SAM-2 run one after the other: the largest counts."""
        return self.weights + self.runtime + max(self.language, self.vision, self.sam2)


def count_weight_bytes(modules: Sa2VA, width: int, quantize: Quantization | None = None) -> int:
    """Bytes of all weights at `width` bytes each; `modules` are without storage and not quantized yet."""
    values = sum(prod(value.shape) for value in modules.state_dict().values())
    if quantize is None:
        return width * values
    packed = sum(each.weight.numel() for each in modules.mllm.layers.modules() if isinstance(each, nn.Linear))
    return round(width * (values - packed) + packed * BITS_PER_WEIGHT[quantize] / 8)


def estimate_memory(
    config: Sa2vaConfig,
    dtype: str,
    work: Work,
    *,
    device: str = "cuda",
    quantize: Quantization | None = None,
    weights: int | None = None,
) -> MemoryEstimate:
    """The memory that `work` needs with `dtype` (float32, bfloat16 or float16) on `device` (cuda, mps or
    cpu). `weights` in bytes, if they are known."""
    width = DTYPE_BYTES[dtype]
    pictures = (work.llm_frames or config.llm_frames) if work.video else 1
    visual = _count_visual_tokens(config, pictures, video=work.video)
    tokens = visual + _TEXT_TOKENS
    language = config.language
    heads = int(language["num_attention_heads"])
    head_dim = int(language.get("head_dim") or int(language["hidden_size"]) // heads)
    kv_heads = int(language.get("num_key_value_heads", heads))
    cached_values = 2 * int(language["num_hidden_layers"]) * kv_heads * head_dim
    layer_values = 3 * int(language["intermediate_size"]) + 4 * int(language["hidden_size"])
    return MemoryEstimate(
        weights=count_weight_bytes(build_empty(config), width, quantize) if weights is None else weights,
        language=round(tokens * (cached_values + layer_values) * width),
        vision=round(_count_vision_values(config, visual) * width),
        sam2=_estimate_sam2(config, width, work.objects, work.prompt_frames) + work.frame_bytes,
        runtime=_RUNTIME_BYTES[device],
    )


def advise_on_memory(
    config: Sa2vaConfig,
    dtype: str,
    work: Work,
    free: int,
    *,
    device: str = "cuda",
    quantize: Quantization | None = None,
) -> str:
    """Whether `work` fits into `free` bytes; if it does not, the settings with which it does, marked as
    `wording` describes."""
    needed = estimate_memory(config, dtype, work, device=device, quantize=quantize).total
    need = f"it needs {_format_gib(needed)} GiB on {device} ({', '.join(filter(None, (dtype, quantize)))})"
    if needed <= free:
        return f"It fits: {need}, and {_format_gib(free)} GiB is free."
    problem = f"It does not fit: {need}, but only {_format_gib(free)} GiB is free."
    for options, smaller_dtype, how in _list_smaller_options(dtype, device, quantize):
        less = estimate_memory(config, smaller_dtype, work, device=device, quantize=how).total
        if less <= free:
            return f"{problem} With {options} it needs {_format_gib(less)} GiB."
    return f"{problem} No option makes it fit on this device; use a smaller checkpoint."


def require_weight_memory(
    config: Sa2vaConfig,
    modules: Sa2VA,
    dtype: torch.dtype,
    devices: Sequence[torch.device],
    quantize: Quantization | None,
) -> None:
    """Raises OutOfMemoryError, with advice, if the weights alone are larger than the free memory of the
    devices; never if the system does not tell what is free."""
    free = [free_bytes(device) for device in devices]
    room = sum(each or 0 for each in free)
    needed = count_weight_bytes(modules, dtype.itemsize, quantize)
    if None in free or needed <= room:
        return
    name = str(dtype).removeprefix("torch.")
    memory = "memory" if devices[0].type == "cpu" else "GPU memory"
    raise OutOfMemoryError(
        f"The weights take {_format_gib(needed)} GiB; {_format_gib(room)} GiB of {memory} is free.",
        hint=advise_on_memory(config, name, Work(), room, device=devices[0].type, quantize=quantize),
    )


def require_working_memory(
    config: Sa2vaConfig, width: int, free: int | None, prompt_frames: int | None = None
) -> None:
    """Raises OutOfMemoryError if tracking a single object certainly does not fit into `free` bytes of host
    memory (None: unknown). A system that promises more memory than it has would end the process instead."""
    needed = _estimate_sam2(config, width, 1, prompt_frames)
    if free is not None and free < _CERTAIN_SHARE * needed:
        raise OutOfMemoryError(
            f"Tracking one object from {prompt_frames or config.prompt_frames} frame(s) needs about "
            f"{_format_gib(needed)} GiB in addition to the weights; {_format_gib(free)} GiB is free.",
            hint="Close other programs, or use a smaller checkpoint.",
        )


def _list_smaller_options(
    dtype: str, device: str, quantize: Quantization | None
) -> Iterator[tuple[str, str, Quantization | None]]:
    """Settings, dtype and quantization, from the smallest loss of quality to the largest."""
    half = "float16" if device == "mps" else "bfloat16"
    if quantize is None and DTYPE_BYTES[half] < DTYPE_BYTES[dtype]:
        yield setting("dtype", half), half, None
    if device != "mps":
        for how, bits in BITS_PER_WEIGHT.items():
            if quantize is None or bits < BITS_PER_WEIGHT[quantize]:
                yield f"{setting('dtype', half)} and {setting('quantize', how)}", half, how


def _count_visual_tokens(config: Sa2vaConfig, pictures: int, *, video: bool) -> int:
    if config.family != "internvl":
        return pictures * (512 if video else _TYPICAL_QWEN_TOKENS)
    tiles = 1 if video or not config.dynamic_tiles else min(_TYPICAL_TILES, config.max_tiles + 1)
    return pictures * tiles * config.tokens_per_tile


def _count_vision_values(config: Sa2vaConfig, visual: int) -> int:
    """Numbers that are alive in one layer: those of its perceptron and of its attention."""
    patches = visual * round(1 / config.downsample_ratio) ** 2
    width = int(config.vision["hidden_size"])
    widest = int(config.vision.get("intermediate_size") or 4 * width)  # not in every config
    return patches * (2 * widest + 6 * width)


def _estimate_sam2(config: Sa2vaConfig, width: int, objects: int, prompt_frames: int | None) -> int:
    """Bytes of the image encoder's widest stage and the feature pyramid, and of tracking `objects`."""
    sizes = config.sam2
    finest = (sizes.image_size // sizes.patch_stride) ** 2
    encoder = width * finest * (12 * sizes.stage_dims[0] + 3 * sizes.hidden_dim)
    memory_tokens = ((prompt_frames or config.prompt_frames) + sizes.num_maskmem - 1) * sizes.top_side**2
    # Sines and cosines for all keys, in float32 whatever the modules are; the same for every object.
    rotary_tables = 2 * memory_tokens * sizes.hidden_dim * _FLOAT32_BYTES
    # In the memory bank, joined, their positions, and the sum of the two.
    memories = 4 * width * memory_tokens * sizes.mem_dim
    # Projected keys and values; while keys are rotated, four intermediate results in float32.
    attention = memory_tokens * sizes.hidden_dim * (2 * width + 4 * _FLOAT32_BYTES)
    upscaled_maps = 6 * width * finest * sizes.hidden_dim // 4
    return encoder + rotary_tables + objects * (memories + max(attention, upscaled_maps))


def _format_gib(count: float) -> str:
    return f"{count / 2**30:.1f}"
