"""SAM-2 as Sa2VA uses it: frames to features, prompts to mask logits, masks to memory.

Built from the modules of transformers' `sam2_video`. Everything here is batched over objects, differentiable
and stateless; `tracking` decides which frames are remembered. Shapes: B frames, N objects, C channels, s the
side of the coarsest feature map (64 for SAM-2 at 1024 px).

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

from sa2va_tools.model.config import Sam2Config
from sa2va_tools.model.key_mapping import Rule
from sa2va_tools.model.sam2 import cpu_memory_attention, hiera_attention
from sa2va_tools.model.sam2.hf_config import make_sam2_video_config
from sa2va_tools.model.sam2.key_rules import sam2_rules

NO_OBJECT_LOGIT = -1024.0
"""SAM-2's mask logit where an object is not in the frame."""
MASK_LOGIT_SCALE = 20.0
"""With the bias, turns probabilities into the logit-like values that the memory encoder expects."""
MASK_LOGIT_BIAS = -10.0


@dataclass(frozen=True, slots=True)
class FrameFeatures:
    """Output of the image encoder for B frames.

    `rows` maps each of the N rows of `top` to its frame, if several rows belong to one frame; None means that
    row i is frame i.
    """

    skips: tuple[tuple[Tensor, Tensor], ...]
    """For each mask decoder, the finer maps after its 1×1 convolutions: (B, C/8, 4s, 4s), (B, C/4, 2s, 2s).
    They are an eighth and a quarter of the size of the encoder's own."""
    top: Tensor
    """(B, C, s, s), or (N, C, s, s)"""
    rows: Tensor | None = None

    def select_rows(self, index: Tensor) -> FrameFeatures:
        """(N,) row numbers → features of N rows, one for each object. The finer maps stay those of the B
        frames, so that they are computed once a frame and not once an object."""
        rows = index if self.rows is None else self.rows[index]
        return FrameFeatures(self.skips, self.top[index], rows)

    def select_frames(self, index: slice) -> FrameFeatures:
        """Some of the frames; ValueError after `select_rows`."""
        if self.rows is not None:
            raise ValueError("select frames before the rows of objects")
        return FrameFeatures(
            tuple((fine[index], middle[index]) for fine, middle in self.skips), self.top[index]
        )

    def clone(self) -> FrameFeatures:
        """With storage of its own, so that a frame does not keep the rest of its batch alive."""
        skips = tuple((fine.clone(), middle.clone()) for fine, middle in self.skips)
        return FrameFeatures(skips, self.top.clone(), self.rows)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Sparse (N, P, C) and dense (N, C, s, s) prompt embeddings of N objects."""

    sparse: Tensor
    dense: Tensor
    multimask: bool = True


@dataclass(frozen=True, slots=True)
class MaskCandidates:
    """All candidate masks of N objects: logits (N, M, 4s, 4s), predicted IoU (N, M), the decoder's output
    tokens (N, M, C) and the object score logit (N,). Logits are float32 whatever the modules are."""

    logits: Tensor
    iou: Tensor
    tokens: Tensor
    object_logits: Tensor


@dataclass(frozen=True, slots=True)
class MaskPrediction:
    """One mask per object: logits (N, 4s, 4s), object pointer (N, C), object score logit (N,)."""

    logits: Tensor
    pointer: Tensor
    object_logits: Tensor

    @classmethod
    def concat(cls, groups: Sequence[MaskPrediction]) -> MaskPrediction:
        """Predictions of several groups of objects as one."""
        return cls(
            torch.cat([each.logits for each in groups]),
            torch.cat([each.pointer for each in groups]),
            torch.cat([each.object_logits for each in groups]),
        )


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """What later frames may attend to: features (s·s, N, 64), object pointer (N, C)."""

    features: Tensor
    pointer: Tensor

    @classmethod
    def concat(cls, groups: Sequence[FrameMemory]) -> FrameMemory:
        """Memories of several groups of objects as one."""
        return cls(
            torch.cat([each.features for each in groups], dim=1),
            torch.cat([each.pointer for each in groups]),
        )


class _NoPositions(nn.Module):
    """Replaces a position encoding whose output is not used."""

    def forward(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.empty(0, device=device, dtype=dtype)


class Sam2(nn.Module):
    """All modules of SAM-2, with one method per step of its algorithm.

    Another implementation of the modules overrides `_build` and the methods that call them (`_run_…`).
    """

    def __init__(self, config: Sam2Config) -> None:
        super().__init__()
        self.config = config
        self._known_positions: dict[tuple[str, str, torch.dtype], Tensor] = {}
        self._build(config)

    def _build(self, config: Sam2Config) -> None:
        built = Sam2VideoModel(make_sam2_video_config(config))
        self.vision_encoder = built.vision_encoder
        hiera_attention.install(self.vision_encoder)
        self.prompt_encoder = built.prompt_encoder
        self.mask_decoder = built.mask_decoder
        self.memory_attention = built.memory_attention
        cpu_memory_attention.install(self.memory_attention)
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

    @staticmethod
    def key_rules(*, stock_decoder: bool) -> tuple[Rule, ...]:
        """How upstream's parameter names become those of these modules; see `sam2_rules`."""
        return sam2_rules(stock_decoder=stock_decoder)

    @property
    def image_encoder(self) -> nn.Module:
        """By far the largest part; may run in a dtype of its own."""
        return self.vision_encoder

    def encode(self, pixels: Tensor) -> FrameFeatures:
        """(B, 3, S, S) normalised pixels → features in the dtype of the other modules. The only call that
        runs the image encoder, whatever dtype that has."""
        maps = self._run_image_encoder(pixels.to(next(self.image_encoder.parameters()).dtype))
        fine, middle, top = (each.to(self.no_object_pointer.dtype) for each in maps)
        decoders = [self.mask_decoder, self.language_mask_decoder]
        skips = tuple((each.conv_s0(fine), each.conv_s1(middle)) for each in decoders if each is not None)
        return FrameFeatures(skips, top)

    def embed_without_memory(self, features: FrameFeatures) -> Tensor:
        """(B, C, s, s): the image embedding of frames that attend to no memory."""
        return features.top + self.no_memory_embedding.view(1, -1, 1, 1)

    def language_prompt(self, embeddings: Tensor) -> Prompt:
        """(N, C) projected [SEG] states, each after the two tokens of an empty point prompt, as in Sa2VA."""
        empty = self.empty_prompt(len(embeddings))
        return Prompt(torch.cat([empty.sparse, embeddings[:, None]], dim=1), empty.dense)

    def empty_prompt(self, objects: int) -> Prompt:
        """No points at all, as SAM-2 decodes a tracked frame."""
        device = self.no_object_pointer.device
        points = torch.zeros(objects, 1, 2, device=device)
        labels = -torch.ones(objects, 1, dtype=torch.int32, device=device)
        return self.point_prompt(points, labels, multimask=True)

    def point_prompt(self, points_xy: Tensor, labels: Tensor, *, multimask: bool) -> Prompt:
        """(N, P, 2) points in pixels of the S×S square, labels (N, P): 1 inside, 0 outside, 2 and 3 the
        corners of a box, -1 none."""
        dtype = self.no_object_pointer.dtype
        sparse, dense = self.prompt_encoder(
            input_points=points_xy[:, None].to(torch.float32),
            input_labels=labels[:, None],
            input_boxes=None,
            input_masks=None,
        )
        return Prompt(sparse[:, 0].to(dtype), dense.to(dtype), multimask)

    def mask_prompt(self, masks: Tensor) -> Prompt:
        """(N, 4·4s, 4·4s) binary masks as a dense prompt with single-mask output."""
        small = self.mask_downsample(masks[:, None].to(self.no_object_pointer.dtype))
        empty = self.empty_prompt(len(masks))
        return Prompt(empty.sparse, self._embed_masks(small), multimask=False)

    def decode(
        self, features: FrameFeatures, image_embedding: Tensor, prompt: Prompt, *, language: bool = False
    ) -> MaskCandidates:
        """Candidate masks of N objects. `features` holds one shared frame or N rows; `image_embedding` is (N,
        C, s, s) or (1, C, s, s). `language` picks Sa2VA-i's second decoder, if any."""
        is_second = language and self.language_mask_decoder is not None
        decoder: Any = self.language_mask_decoder if is_second else self.mask_decoder
        count = len(prompt.sparse)
        skips = [_expand_rows(maps, features.rows, count) for maps in features.skips[int(is_second)]]
        candidates = self._run_mask_decoder(decoder, image_embedding.expand(count, -1, -1, -1), prompt, skips)
        return replace(
            candidates, logits=candidates.logits.float(), object_logits=candidates.object_logits.float()
        )

    def select_best_mask(self, candidates: MaskCandidates, *, gate: bool) -> MaskPrediction:
        """The candidate with the highest predicted IoU, with its object pointer. `gate` empties masks with a
        negative object score (Sa2VA-i's tracking does, Sa2VA does not); the pointer of such an object is
        SAM-2's no-object pointer in any case."""
        rows = torch.arange(len(candidates.iou), device=candidates.iou.device)
        best = candidates.iou.argmax(dim=1)
        is_present = candidates.object_logits > 0
        pointer = self.object_pointer_proj(candidates.tokens[rows, best])
        pointer = torch.where(is_present[:, None], pointer, self.no_object_pointer)
        logits = candidates.logits[rows, best]
        if gate:
            logits = torch.where(is_present[:, None, None], logits, NO_OBJECT_LOGIT)
        return MaskPrediction(logits, pointer, candidates.object_logits)

    def mask_as_output(self, features: FrameFeatures, masks: Tensor) -> MaskPrediction:
        """Given masks (N, 4·4s, 4·4s), binary, taken as the prediction on their frame (SAM-2's
        `_use_mask_as_output`): logits of ±10, and a pointer from the original decoder."""
        side = self.config.logit_side
        logits = F.interpolate(
            masks[:, None].float() * MASK_LOGIT_SCALE + MASK_LOGIT_BIAS,
            size=(side, side),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )[:, 0]
        candidates = self.decode(features, features.top, self.mask_prompt(masks))
        pointer = self.select_best_mask(candidates, gate=False).pointer
        is_present = masks.flatten(1).any(dim=1)
        pointer = torch.where(is_present[:, None], pointer, self.no_object_pointer)
        score = is_present.to(logits.dtype) * MASK_LOGIT_SCALE + MASK_LOGIT_BIAS
        return MaskPrediction(logits, pointer, score)

    def encode_memory(
        self, features: FrameFeatures, prediction: MaskPrediction, dtype: torch.dtype
    ) -> FrameMemory:
        """What later frames may attend to: mask probabilities (never binarised in Sa2VA) fused with the
        frame. `dtype` is that of storage; SAM-2 stores bfloat16."""
        side = 4 * self.config.logit_side
        full = F.interpolate(
            prediction.logits[:, None].float(), size=(side, side), mode="bilinear", align_corners=False
        )
        masks = torch.sigmoid(full) * MASK_LOGIT_SCALE + MASK_LOGIT_BIAS
        top = features.top.expand(len(masks), -1, -1, -1)
        encoded = self._run_memory_encoder(top, masks.to(top.dtype))
        return FrameMemory(encoded.flatten(2).permute(2, 0, 1).to(dtype), prediction.pointer)

    def attend(
        self, features: FrameFeatures, memories: Sequence[tuple[int, Tensor]], pointers: Sequence[Tensor]
    ) -> Tensor:
        """The image embedding of a frame conditioned on memory, (N, C, s, s).

        `memories` are (slot, features (s·s, N, 64)): slot 0 for conditioning frames, k for the frame k steps
        away; `pointers` are (N, C) each. Both are cast to the dtype of the frame.
        """
        count = memories[0][1].shape[1]
        dtype = features.top.dtype
        spatial_pos = self._positions("memory", dtype)
        memory_pos = [
            (spatial_pos + self.memory_temporal_positional_encoding[slot - 1]).expand(-1, count, -1)
            for slot, _ in memories
        ]
        # (P·C/64, N, 64): each pointer becomes tokens of the memory's width.
        split = torch.stack(list(pointers)).to(dtype).unflatten(2, (-1, self.config.mem_dim))
        tokens = split.permute(0, 2, 1, 3).flatten(0, 1)
        current = features.top.expand(count, -1, -1, -1).flatten(2).permute(2, 0, 1)
        output = self._run_memory_attention(
            current,
            torch.cat([*(stored.to(dtype) for _, stored in memories), tokens]),
            torch.cat([*memory_pos, torch.zeros_like(tokens)]),
            pointer_tokens=len(tokens),
        )
        side = self.config.top_side
        return output.transpose(1, 2).reshape(count, -1, side, side)

    # ---- calls into the modules ----------------------------------------------------------------

    def _run_image_encoder(self, pixels: Tensor) -> Sequence[Tensor]:
        """(B, C, 4s, 4s), (B, C, 2s, 2s), (B, C, s, s)"""
        return self.vision_encoder(pixels, return_dict=True).fpn_hidden_states

    def _embed_masks(self, masks: Tensor) -> Tensor:
        """(N, 1, 4s, 4s) → (N, C, s, s)"""
        return self.prompt_encoder.mask_embed(masks)

    def _run_mask_decoder(
        self, decoder: Any, image: Tensor, prompt: Prompt, skips: list[Tensor]
    ) -> MaskCandidates:
        masks, iou, tokens, object_logits = decoder(
            image_embeddings=image,
            image_positional_embeddings=self._image_positions().expand(len(image), -1, -1, -1),
            sparse_prompt_embeddings=prompt.sparse[:, None],
            dense_prompt_embeddings=prompt.dense,
            multimask_output=prompt.multimask,
            high_resolution_features=skips,
        )
        return MaskCandidates(masks[:, 0], iou[:, 0], tokens[:, 0], object_logits[:, 0, 0])

    def _run_memory_encoder(self, top: Tensor, masks: Tensor) -> Tensor:
        """(N, 64, s, s)"""
        encoded, _ = self.memory_encoder(top, masks)
        return encoded

    def _run_memory_attention(
        self, current: Tensor, memory: Tensor, memory_pos: Tensor, *, pointer_tokens: int
    ) -> Tensor:
        """(N, s·s, C). transformers returns the batch on dimension 1."""
        output = self.memory_attention(
            current_vision_features=current,
            current_vision_position_embeddings=self._positions("vision", current.dtype),
            memory=memory,
            memory_posision_embeddings=memory_pos,
            num_object_pointer_tokens=pointer_tokens,
        )
        return output[0]

    def _image_positions(self) -> Tensor:
        side = self.config.top_side
        steps = (torch.arange(side, device=self.no_object_pointer.device) + 0.5) / side
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
        return self.shared_image_embedding(grid).permute(2, 0, 1)[None].to(self.no_object_pointer.dtype)

    def _sine_positions(self, name: str, shape: torch.Size, device: torch.device) -> Tensor:
        module = self._vision_sine if name == "vision" else self.memory_encoder.position_encoding
        return module(shape, device, torch.float32)

    def _positions(self, name: str, dtype: torch.dtype) -> Tensor:
        """(s·s, 1, channels) of `vision` or `memory`, cast from float32: bfloat16 would be off by 3 %."""
        device = self.no_object_pointer.device
        key = (name, str(device), dtype)
        if key not in self._known_positions:
            side = self.config.top_side
            positions = self._sine_positions(name, torch.Size((1, 1, side, side)), device)
            self._known_positions[key] = positions.flatten(2).permute(2, 0, 1).to(dtype)
        return self._known_positions[key]


def _expand_rows(maps: Tensor, rows: Tensor | None, count: int) -> Tensor:
    """One map per object: that of its own frame, or of the only one."""
    return maps.expand(count, -1, -1, -1) if rows is None else maps[rows]
