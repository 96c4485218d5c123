"""SAM-2, as Sa2VA prompts it: frames to features, prompts to mask logits, masks to memory.

Built from the leaf modules of transformers' `sam2_video`. Everything here is batched over objects,
differentiable and stateless: which frames are remembered is decided in `propagation`. Shapes: B
frames, N objects, C channels, s the side of the coarsest feature map (64 for SAM-2 at 1024 px).

Facts are those of facebookresearch/sam2 (`sam2_base.py`) and bytedance/Sa2VA (`sam2_train.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMaskDecoder

from sa2va_tools.model.config import GroundingConfig
from sa2va_tools.model.hiera_attention import drop_idle_work
from sa2va_tools.model.memory_product import attend_in_tiles
from sa2va_tools.model.pooled_attention import pooled_attention
from sa2va_tools.model.sam2_sizes import sam2_video_config

NO_OBJECT_LOGIT = -1024.0
"""SAM-2's mask logit where an object is not in the frame."""
MASK_LOGIT_SCALE, MASK_LOGIT_BIAS = 20.0, -10.0
"""Probabilities (or a binary mask) to the logit-like values that the memory encoder expects."""


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """What the image encoder made of B frames.

    `rows` says whose the N rows of `top` are, where several belong to one frame; None: row i is frame i.
    """

    skips: tuple[tuple[Tensor, Tensor], ...]
    """For each mask decoder the finer maps as it takes them, after its 1×1 convolutions:
    (B, C/8, 4s, 4s) and (B, C/4, 2s, 2s). An eighth and a quarter of what the encoder gave."""
    top: Tensor
    """(B, C, s, s), or (N, C, s, s)"""
    rows: Tensor | None = None

    def take(self, index: Tensor) -> FrameFeatures:
        """(N,) numbers of rows → features of N rows, one for each object. The finer maps stay those of the B
        frames: what is computed of them is computed once a frame, not once an object."""
        rows = index if self.rows is None else self.rows[index]
        return FrameFeatures(self.skips, self.top[index], rows)

    def frames(self, index: slice) -> FrameFeatures:
        """Some of the frames; ValueError when rows are taken already."""
        if self.rows is not None:
            raise ValueError("frames are chosen before the rows of objects are taken")
        return FrameFeatures(
            tuple((fine[index], middle[index]) for fine, middle in self.skips), self.top[index]
        )

    def copied(self) -> FrameFeatures:
        """With storage of its own: a frame of a batch lets go of the others."""
        skips = tuple((fine.clone(), middle.clone()) for fine, middle in self.skips)
        return FrameFeatures(skips, self.top.clone(), self.rows)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Sparse (N, P, C) and dense (N, C, s, s) prompt embeddings of N objects."""

    sparse: Tensor
    dense: Tensor
    multimask: bool = True


@dataclass(frozen=True, slots=True)
class Decoded:
    """All candidate masks of N objects: logits (N, M, 4s, 4s), predicted IoU (N, M), the decoder's
    output tokens (N, M, C) and the object score logit (N,). Logits are float32, whatever the modules are."""

    logits: Tensor
    iou: Tensor
    tokens: Tensor
    object_logits: Tensor


@dataclass(frozen=True, slots=True)
class Chosen:
    """One mask per object: logits (N, 4s, 4s), pointer (N, C), object score logit (N,)."""

    logits: Tensor
    pointer: Tensor
    object_logits: Tensor

    @classmethod
    def joined(cls, groups: Sequence[Chosen]) -> Chosen:
        """Of all objects, from those of groups of them."""
        return cls(
            torch.cat([each.logits for each in groups]),
            torch.cat([each.pointer for each in groups]),
            torch.cat([each.object_logits for each in groups]),
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """One frame as later frames see it: features (s·s, N, 64), pointer (N, C)."""

    features: Tensor
    pointer: Tensor

    @classmethod
    def joined(cls, groups: Sequence[Memory]) -> Memory:
        """Of all objects, from those of groups of them."""
        return cls(
            torch.cat([each.features for each in groups], dim=1),
            torch.cat([each.pointer for each in groups]),
        )


class _NoPositions(nn.Module):
    """In the place of a position encoding that nobody reads."""

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.empty(0, device=device, dtype=dtype)


class Sam2Grounding(nn.Module):
    """SAM-2's modules under one roof, with one method per step of its algorithm.

    Another implementation of the leaves overrides `_build` and the few methods that call them.
    """

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        self.config = config
        self._positions: dict[tuple[str, str, torch.dtype], Tensor] = {}
        self._build(config)

    def _build(self, config: GroundingConfig) -> None:
        built = Sam2VideoModel(sam2_video_config(config))
        self.vision_encoder = built.vision_encoder
        drop_idle_work(self.vision_encoder)
        self.prompt_encoder = built.prompt_encoder
        self.mask_decoder = built.mask_decoder
        self.memory_attention = built.memory_attention
        attend_in_tiles(self.memory_attention)
        self.memory_encoder = built.memory_encoder
        self.object_pointer_proj = built.object_pointer_proj
        self.shared_image_embedding = built.shared_image_embedding
        self.mask_downsample = built.mask_downsample
        self.no_memory_embedding = built.no_memory_embedding
        self.no_memory_positional_encoding = built.no_memory_positional_encoding
        self.memory_temporal_positional_encoding = built.memory_temporal_positional_encoding
        self.no_object_pointer = built.no_object_pointer
        self.language_mask_decoder = (
            Sam2VideoMaskDecoder(built.mask_decoder.config) if config.separate_language_mask_decoder else None
        )
        # The encoder would compute positions of every map of every frame; only the coarsest's are used, once.
        self._vision_sine = self.vision_encoder.neck.position_encoding
        self.vision_encoder.neck.position_encoding = _NoPositions()

    @property
    def image_encoder(self) -> nn.Module:
        """The largest part by far; may run in a dtype of its own."""
        return self.vision_encoder

    # ---- frames -------------------------------------------------------------------------------

    def encode(self, pixels: Tensor) -> FrameFeatures:
        """(B, 3, S, S) normalised pixels → features, in the dtype of the other modules. The only call that
        runs the image encoder, in whatever dtype that has."""
        maps = self._maps(pixels.to(next(self.image_encoder.parameters()).dtype))
        fine, middle, top = (each.to(self.no_object_pointer.dtype) for each in maps)
        decoders = [self.mask_decoder, self.language_mask_decoder]
        skips = tuple((each.conv_s0(fine), each.conv_s1(middle)) for each in decoders if each is not None)
        return FrameFeatures(skips, top)

    def without_memory(self, features: FrameFeatures) -> Tensor:
        """(B, C, s, s): the top features of frames that attend to nothing."""
        return features.top + self.no_memory_embedding.view(1, -1, 1, 1)

    # ---- prompts ------------------------------------------------------------------------------

    def language_prompt(self, embeddings: Tensor) -> Prompt:
        """(N, C) projected [SEG] states: each goes after the two not-a-point tokens of an empty
        point prompt, as in Sa2VA."""
        empty = self.empty_prompt(len(embeddings))
        return Prompt(torch.cat([empty.sparse, embeddings[:, None]], dim=1), empty.dense)

    def empty_prompt(self, objects: int) -> Prompt:
        """No points at all: what SAM-2 decodes a tracked frame with."""
        device = self.no_object_pointer.device
        points = torch.zeros(objects, 1, 2, device=device)
        labels = -torch.ones(objects, 1, dtype=torch.int32, device=device)
        return self.point_prompt(points, labels, multimask=True)

    def point_prompt(self, points_xy: Tensor, labels: Tensor, *, multimask: bool) -> Prompt:
        """(N, P, 2) points in pixels of the S×S square, labels (N, P): 1 inside, 0 outside, 2 and 3
        the corners of a box, -1 none."""
        dtype = self.no_object_pointer.dtype
        sparse, dense = self.prompt_encoder(
            input_points=points_xy[:, None].to(torch.float32),
            input_labels=labels[:, None],
            input_boxes=None,
            input_masks=None,
        )
        return Prompt(sparse[:, 0].to(dtype), dense.to(dtype), multimask)

    def mask_prompt(self, masks: Tensor) -> Prompt:
        """(N, 4·4s, 4·4s) binary masks as a dense prompt, single-mask output."""
        small = self.mask_downsample(masks[:, None].to(self.no_object_pointer.dtype))
        empty = self.empty_prompt(len(masks))
        return Prompt(empty.sparse, self._mask_embedding(small), multimask=False)

    # ---- masks --------------------------------------------------------------------------------

    def decode(
        self, features: FrameFeatures, image_embedding: Tensor, prompt: Prompt, *, language: bool = False
    ) -> Decoded:
        """Candidate masks of N objects. `features` holds one frame (shared by all objects) or N rows;
        `image_embedding` is (N, C, s, s) or (1, C, s, s). `language` picks Sa2VA-i's second
        decoder where there is one."""
        second = language and self.language_mask_decoder is not None
        decoder: Any = self.language_mask_decoder if second else self.mask_decoder
        count = len(prompt.sparse)
        skips = [_rows(maps, features.rows, count) for maps in features.skips[int(second)]]
        made = self._decoded(decoder, image_embedding.expand(count, -1, -1, -1), prompt, skips)
        return replace(made, logits=made.logits.float(), object_logits=made.object_logits.float())

    def choose(self, decoded: Decoded, *, gate: bool) -> Chosen:
        """The candidate of the highest predicted IoU, with its object pointer. `gate` empties masks
        of negative object score (Sa2VA-i's tracking does, Sa2VA does not); the pointer of such an
        object is SAM-2's no-object pointer in any case."""
        rows = torch.arange(len(decoded.iou), device=decoded.iou.device)
        best = decoded.iou.argmax(dim=1)
        present = decoded.object_logits > 0
        pointer = self.object_pointer_proj(decoded.tokens[rows, best])
        pointer = torch.where(present[:, None], pointer, self.no_object_pointer)
        logits = decoded.logits[rows, best]
        if gate:
            logits = torch.where(present[:, None, None], logits, NO_OBJECT_LOGIT)
        return Chosen(logits, pointer, decoded.object_logits)

    def mask_as_output(self, features: FrameFeatures, masks: Tensor) -> Chosen:
        """Given masks (N, 4·4s, 4·4s), binary, taken as the answer on their frame (SAM-2's
        `_use_mask_as_output`): logits of ±10, and a pointer from the original decoder."""
        side = self.config.logit_side
        logits = F.interpolate(
            masks[:, None].float() * MASK_LOGIT_SCALE + MASK_LOGIT_BIAS,
            size=(side, side),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )[:, 0]
        decoded = self.decode(features, features.top, self.mask_prompt(masks))
        pointer = self.choose(decoded, gate=False).pointer
        present = masks.flatten(1).any(dim=1)
        pointer = torch.where(present[:, None], pointer, self.no_object_pointer)
        score = present.to(logits.dtype) * MASK_LOGIT_SCALE + MASK_LOGIT_BIAS
        return Chosen(logits, pointer, score)

    # ---- memory -------------------------------------------------------------------------------

    def encode_memory(self, features: FrameFeatures, chosen: Chosen, dtype: torch.dtype) -> Memory:
        """What later frames may attend to: mask probabilities (never binarised in Sa2VA) fused with
        the frame. `dtype` is that of storage; SAM-2 stores bfloat16."""
        count, side = len(chosen.logits), 4 * self.config.logit_side
        full = F.interpolate(
            chosen.logits[:, None].float(), size=(side, side), mode="bilinear", align_corners=False
        )
        masks = torch.sigmoid(full) * MASK_LOGIT_SCALE + MASK_LOGIT_BIAS
        top = features.top.expand(count, -1, -1, -1)
        encoded = self._encoded_memory(top, masks.to(top.dtype))
        return Memory(encoded.flatten(2).permute(2, 0, 1).to(dtype), chosen.pointer)

    def attend(
        self,
        features: FrameFeatures,
        memories: Sequence[tuple[int, Tensor]],
        pointers: Sequence[Tensor],
        *,
        window: int = 1,
    ) -> Tensor:
        """The top features of a frame, conditioned on memory, (N, C, s, s).

        `memories` are (slot, features (s·s, N, 64)): slot 0 for conditioning frames, k for the frame
        k steps away; `pointers` are (N, C) each. Dtypes are cast to the frame's. A `window` above 1 pools
        memories, see `pooled_attention`.
        """
        count, dtype = memories[0][1].shape[1], features.top.dtype
        space = self._memory_positions(dtype)
        keys = [kept.to(dtype) for _, kept in memories]
        places = [
            (space + self.memory_temporal_positional_encoding[slot - 1]).expand(-1, count, -1)
            for slot, _ in memories
        ]
        tokens = self._pointer_tokens(pointers, dtype)
        flat = features.top.expand(count, -1, -1, -1).flatten(2).permute(2, 0, 1)
        output = self._attended(
            flat,
            torch.cat([*keys, tokens]),
            torch.cat([*places, torch.zeros_like(tokens)]),
            pointer_tokens=len(tokens),
            window=window,
        )
        side = self.config.top_side
        return output.transpose(1, 2).reshape(count, -1, side, side)

    def _pointer_tokens(self, pointers: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """(P·C/64, N, 64): each pointer is split into tokens of the memory's width."""
        stacked = torch.stack(list(pointers)).to(dtype)
        count, width = stacked.shape[1], self.config.mem_dim
        return stacked.reshape(len(stacked), count, -1, width).permute(0, 2, 1, 3).flatten(0, 1)

    # ---- leaves -------------------------------------------------------------------------------

    def _maps(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, 4s, 4s), (B, C, 2s, 2s), (B, C, s, s)"""
        fine, middle, top = self.vision_encoder(pixels, return_dict=True).fpn_hidden_states
        return fine, middle, top

    def _mask_embedding(self, masks: Tensor) -> Tensor:
        """(N, 1, 4s, 4s) → (N, C, s, s)"""
        return self.prompt_encoder.mask_embed(masks)

    def _decoded(self, decoder: Any, image: Tensor, prompt: Prompt, skips: list[Tensor]) -> Decoded:
        masks, iou, tokens, object_logits = decoder(
            image_embeddings=image,
            image_positional_embeddings=self._image_positions().expand(len(image), -1, -1, -1),
            sparse_prompt_embeddings=prompt.sparse[:, None],
            dense_prompt_embeddings=prompt.dense,
            multimask_output=prompt.multimask,
            high_resolution_features=skips,
        )
        return Decoded(masks[:, 0], iou[:, 0], tokens[:, 0], object_logits[:, 0, 0])

    def _encoded_memory(self, top: Tensor, masks: Tensor) -> Tensor:
        """(N, 64, s, s)"""
        encoded, _ = self.memory_encoder(top, masks)
        return encoded

    def _attended(
        self, flat: Tensor, memory: Tensor, places: Tensor, *, pointer_tokens: int, window: int
    ) -> Tensor:
        """(N, s·s, C). transformers returns the batch on dimension 1."""
        positions = self._vision_positions(flat.dtype)
        if window > 1:
            return pooled_attention(
                self.memory_attention,
                flat,
                positions,
                memory,
                places,
                pointer_tokens=pointer_tokens,
                side=self.config.top_side,
                window=window,
            )
        output = self.memory_attention(
            current_vision_features=flat,
            current_vision_position_embeddings=positions,
            memory=memory,
            memory_posision_embeddings=places,
            num_object_pointer_tokens=pointer_tokens,
        )
        return output[0]

    # ---- constants ----------------------------------------------------------------------------

    def _image_positions(self) -> Tensor:
        side = self.config.top_side
        steps = (torch.arange(side, device=self.no_object_pointer.device) + 0.5) / side
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
        return self.shared_image_embedding(grid).permute(2, 0, 1)[None].to(self.no_object_pointer.dtype)

    def _vision_positions(self, dtype: torch.dtype) -> Tensor:
        return self._sine("vision", dtype)

    def _memory_positions(self, dtype: torch.dtype) -> Tensor:
        return self._sine("memory", dtype)

    def _waves(self, name: str, shape: torch.Size, device: torch.device) -> Tensor:
        module = self._vision_sine if name == "vision" else self.memory_encoder.position_encoding
        return module(shape, device, torch.float32)

    def _sine(self, name: str, dtype: torch.dtype) -> Tensor:
        """(s·s, 1, channels). Computed in float32 and cast: in bfloat16 it would be off by 3 %."""
        device = self.no_object_pointer.device
        key = (name, str(device), dtype)
        if key not in self._positions:
            side = self.config.top_side
            made = self._waves(name, torch.Size((1, 1, side, side)), device)
            self._positions[key] = made.flatten(2).permute(2, 0, 1).to(dtype)
        return self._positions[key]


def _rows(maps: Tensor, rows: Tensor | None, count: int) -> Tensor:
    """One map per object: of its own frame, or of the only one."""
    return maps.expand(count, -1, -1, -1) if rows is None else maps[rows]
