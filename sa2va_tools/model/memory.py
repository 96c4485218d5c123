"""How much memory a checkpoint wants for a piece of work, told before it is loaded.

An estimate from sizes, not a measurement: weights exactly, caches from their shapes, and working memory by
the largest tensors that are alive together. Real use may be a fifth more: allocators round up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import nn

from sa2va_tools.errors import OutOfMemoryError
from sa2va_tools.model.config import Sa2vaConfig
from sa2va_tools.model.device import Pace, free_bytes
from sa2va_tools.model.fitting import build_empty
from sa2va_tools.model.quantised import BITS, Quantisation
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.model.zoo import BYTES

_TEXT_TOKENS = 600  # a question, and an answer of some length
_RUNTIME_BYTES = {"cpu": 350 * 2**20, "cuda": 600 * 2**20, "mps": 400 * 2**20}
_CERTAIN_SHARE = 0.5  # of what following wants by estimate; measured at Hiera-L size: 0.74
_TYPICAL_TILES, _TYPICAL_QWEN_TOKENS = 7, 1500


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done: an image or a video, how many frames the language model sees and how many condition
    the masks (None: as usual), how many objects are followed. The length of the video does not matter: masks
    leave the device frame by frame."""

    objects: int = 1
    video: bool = True
    chat_frames: int | None = None
    key_frames: int | None = None
    frame_bytes: int = 0
    """What a frame and its masks take at full size."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by what they are for."""

    weights: int
    language: int
    """Key-value cache, and the widest layer while the prompt is read."""
    vision: int
    """The language model's own picture encoder at work."""
    grounding: int
    """SAM-2 at work on one frame, and the memories of all objects."""
    runtime: int
    """The libraries, and the device's context."""

    @property
    def total(self) -> int:
        """The three kinds of work come one after the other; the largest counts."""
        return self.weights + self.runtime + max(self.language, self.vision, self.grounding)


def weight_bytes(modules: Sa2VA, width: int, quantize: Quantisation | None = None) -> int:
    """Of all weights, at `width` bytes each; of `modules` without storage, before they are quantised."""
    values = sum(prod(value.shape) for value in modules.state_dict().values())
    if quantize is None:
        return width * values
    packed = sum(each.weight.numel() for each in modules.mllm.layers.modules() if isinstance(each, nn.Linear))
    return round(width * (values - packed) + packed * BITS[quantize] / 8)


def estimate(
    config: Sa2vaConfig,
    dtype: str,
    work: Work,
    *,
    device: str = "cuda",
    quantize: Quantisation | None = None,
    weights: int | None = None,
) -> MemoryEstimate:
    """For `dtype` (float32, bfloat16 or float16) on `device` (cuda, mps or cpu); `weights` in bytes, where
    they are known."""
    width = BYTES[dtype]
    pictures = (work.chat_frames or config.chat_frames) if work.video else 1
    visual = _visual_tokens(config, pictures, video=work.video)
    tokens = visual + _TEXT_TOKENS
    language = config.language
    heads = int(language["num_attention_heads"])
    head_dim = int(language.get("head_dim") or int(language["hidden_size"]) // heads)
    kept = 2 * int(language["num_hidden_layers"]) * int(language.get("num_key_value_heads", heads)) * head_dim
    alive = 3 * int(language["intermediate_size"]) + 4 * int(language["hidden_size"])
    return MemoryEstimate(
        weights=weight_bytes(build_empty(config), width, quantize) if weights is None else weights,
        language=round(tokens * (kept + alive) * width),
        vision=round(_vision_values(config, visual) * width),
        grounding=round(_grounding_values(config, work) * width) + work.frame_bytes,
        runtime=_RUNTIME_BYTES[device],
    )


def advice(
    config: Sa2vaConfig,
    dtype: str,
    work: Work,
    free: int,
    *,
    device: str = "cuda",
    quantize: Quantisation | None = None,
) -> str:
    """What fits into `free` bytes, or what to do where this does not."""
    wanted = estimate(config, dtype, work, device=device, quantize=quantize).total
    if wanted <= free:
        return f"It fits: {_gib(wanted)} of {_gib(free)} GiB."
    for options, smaller, how in _smaller(dtype, device, quantize):
        less = estimate(config, smaller, work, device=device, quantize=how).total
        if less <= free:
            return (
                f"It does not fit ({_gib(wanted)} of {_gib(free)} GiB); "
                f"with {options} it does ({_gib(less)})."
            )
    return (
        f"It does not fit ({_gib(wanted)} of {_gib(free)} GiB) in any way that this device has; "
        "take a smaller checkpoint."
    )


def require_room(
    config: Sa2vaConfig,
    modules: Sa2VA,
    dtype: torch.dtype,
    devices: Sequence[torch.device],
    quantize: Quantisation | None,
) -> None:
    """OutOfMemoryError, with advice, when the weights alone are larger than what is free on the devices;
    nothing where nobody tells what is free."""
    free = [free_bytes(device) for device in devices]
    wanted, room = weight_bytes(modules, dtype.itemsize, quantize), sum(each or 0 for each in free)
    if None in free or wanted <= room:
        return
    name = str(dtype).removeprefix("torch.")
    place = "memory" if devices[0].type == "cpu" else "the GPU"
    raise OutOfMemoryError(
        f"The weights take {_gib(wanted)} GiB; {_gib(room)} GiB of {place} are free.",
        hint=advice(config, name, Work(), room, device=devices[0].type, quantize=quantize),
    )


def fitting_pace(
    config: Sa2vaConfig, pace: Pace, width: int, free: int | None, key_frames: int | None = None
) -> Pace:
    """`pace`, or as much of it as fits into `free` bytes (None: not known) at `width` bytes a value, where so
    many frames condition the masks (None: as many as usual)."""
    if free is None:
        return pace
    batch = _halved(pace.batch, free // (width * _frame_values(config)))
    group = _halved(pace.group, free // (width * _object_values(config, key_frames)))
    return replace(pace, batch=batch, group=group)


def require_working_room(
    config: Sa2vaConfig, width: int, free: int | None, key_frames: int | None = None
) -> None:
    """OutOfMemoryError where following a single object will certainly not fit into `free` bytes of host
    memory (None: not known): a system that promises more than it has would end the process instead."""
    wanted = width * (_frame_values(config) + _object_values(config, key_frames))
    if free is not None and free < _CERTAIN_SHARE * wanted:
        raise OutOfMemoryError(
            f"A single object, begun on {key_frames or config.key_frames} key frame(s), wants some "
            f"{_gib(wanted)} GiB beside the weights; {_gib(free)} GiB are free.",
            hint="Close other programs, or take a smaller checkpoint.",
        )


def _halved(count: int, most: int) -> int:
    """`count`, halved until it is `most` at most, or 1."""
    while count > max(1, most):
        count //= 2
    return count


def _smaller(
    dtype: str, device: str, quantize: Quantisation | None
) -> Iterator[tuple[str, str, Quantisation | None]]:
    """Command-line options, dtype and quantisation, from what loses least to what loses most."""
    half = "float16" if device == "mps" else "bfloat16"
    if quantize is None and BYTES[half] < BYTES[dtype]:
        yield f"--dtype {half}", half, None
    if device != "mps":
        smaller = [how for how in BITS if quantize is None or BITS[how] < BITS[quantize]]
        for how in smaller:
            yield f"--dtype {half} --quantize {how}", half, how


def _visual_tokens(config: Sa2vaConfig, pictures: int, *, video: bool) -> int:
    if config.family != "internvl":
        return pictures * (512 if video else _TYPICAL_QWEN_TOKENS)
    tiles = 1 if video or not config.dynamic_tiles else min(_TYPICAL_TILES, config.max_tiles + 1)
    return pictures * tiles * config.tokens_per_tile


def _vision_values(config: Sa2vaConfig, visual: int) -> int:
    """Values alive in one layer: the widest perceptron, and what attention holds."""
    patches = visual * round(1 / config.downsample_ratio) ** 2
    width = int(config.vision["hidden_size"])
    widest = int(config.vision.get("intermediate_size") or 4 * width)  # not every config tells
    return patches * (2 * widest + 6 * width)


def _grounding_values(config: Sa2vaConfig, work: Work) -> int:
    """The image encoder's widest stage and the feature pyramid; per object the memories that a frame attends
    to, once stored and once as keys and values of one layer, and the decoder's upscaled maps."""
    return _frame_values(config) + work.objects * _object_values(config, work.key_frames)


def _frame_values(config: Sa2vaConfig) -> int:
    sizes = config.grounding
    finest = (sizes.image_size // sizes.patch_stride) ** 2
    return finest * sizes.stage_dims[0] * 12 + finest * sizes.hidden_dim * 3


def _object_values(config: Sa2vaConfig, key_frames: int | None) -> int:
    sizes = config.grounding
    finest = (sizes.image_size // sizes.patch_stride) ** 2
    memories = ((key_frames or config.key_frames) + sizes.num_maskmem - 1) * sizes.top_side**2
    return memories * (sizes.mem_dim + 3 * sizes.hidden_dim) + 6 * finest * sizes.hidden_dim // 4


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f}"
