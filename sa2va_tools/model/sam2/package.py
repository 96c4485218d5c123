"""SAM-2 on the modules of facebookresearch/sam2: a second implementation, for comparison.

The algorithm is that of `Sam2`; only the modules differ. Needs the extra `[sam2]`. Nothing but the package's
modules is used: no torchvision, no CUDA extension, none of its configuration files. Choose it with
`Sa2vaRuntime.load(folder, sam2_class=PackageSam2)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sa2va_tools.errors import MissingExtraError, RequestError, UnsupportedCheckpointError
from sa2va_tools.model.config import Sam2Config
from sa2va_tools.model.key_mapping import Rule
from sa2va_tools.model.sam2.key_rules import PACKAGE_RULES
from sa2va_tools.model.sam2.modules import MaskCandidates, Prompt, Sam2

_NAMES = {
    "mask_decoder": "sam_mask_decoder",
    "language_mask_decoder": "sam_mask_decoder_modified",
    "no_object_pointer": "no_obj_ptr",
    "no_memory_embedding": "no_mem_embed",
    "memory_temporal_positional_encoding": "maskmem_tpos_enc",
    "mask_downsample": "mask_downsample",
    "object_pointer_proj": "obj_ptr_proj",
}
"""The package's names of parts that `Sam2` uses; only some checkpoints have a second decoder."""
_OWN_SIZES = ("patch_kernel", "patch_stride", "patch_padding", "mlp_ratio", "memory_fuser_hidden_dim")


class PackageSam2(Sam2):
    """See `Sam2`."""

    def _build(self, config: Sam2Config) -> None:
        # The package computes while it is built, and its rotary positions are not buffers: it needs storage.
        device = torch.get_default_device()
        with torch.device("cpu"):
            self.model: Any = _build_sam2_base(config)
        self.model.to(device)

    @staticmethod
    def key_rules(*, stock_decoder: bool) -> tuple[Rule, ...]:
        """Upstream's own names. RequestError for a stock decoder: only transformers' modules take one."""
        if stock_decoder:
            raise RequestError(
                "A stock SAM-2 decoder cannot be combined with the modules of the package sam2.",
                hint="Leave out sam2_decoder, or sam2_class.",
            )
        return PACKAGE_RULES

    @property
    def image_encoder(self) -> nn.Module:
        return self.model.image_encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, _NAMES[name], None) if name in _NAMES else super().__getattr__(name)

    def _run_image_encoder(self, pixels: Tensor) -> Sequence[Tensor]:
        return self.model.image_encoder(pixels)["backbone_fpn"]

    def point_prompt(self, points_xy: Tensor, labels: Tensor, *, multimask: bool) -> Prompt:
        dtype = self.no_object_pointer.dtype
        sparse, dense = self.model.sam_prompt_encoder(
            points=(points_xy.to(torch.float32), labels), boxes=None, masks=None
        )
        return Prompt(sparse.to(dtype), dense.to(dtype), multimask)

    def _embed_masks(self, masks: Tensor) -> Tensor:
        return self.model.sam_prompt_encoder.mask_downscaling(masks)

    def _run_mask_decoder(
        self, decoder: Any, image: Tensor, prompt: Prompt, skips: list[Tensor]
    ) -> MaskCandidates:
        masks, iou, tokens, object_logits = decoder(
            image_embeddings=image,
            image_pe=self._image_positions(),
            sparse_prompt_embeddings=prompt.sparse,
            dense_prompt_embeddings=prompt.dense,
            multimask_output=prompt.multimask,
            repeat_image=False,
            high_res_features=skips,
        )
        return MaskCandidates(masks, iou, tokens, object_logits[:, 0])

    def _run_memory_encoder(self, top: Tensor, masks: Tensor) -> Tensor:
        return self.model.memory_encoder(top, masks, skip_mask_sigmoid=True)["vision_features"]

    def _run_memory_attention(
        self, current: Tensor, memory: Tensor, memory_pos: Tensor, *, pointer_tokens: int
    ) -> Tensor:
        output = self.model.memory_attention(
            curr=current,
            curr_pos=self._positions("vision", current.dtype).expand_as(current),
            memory=memory,
            memory_pos=memory_pos,
            num_obj_ptr_tokens=pointer_tokens,
        )
        return output.transpose(0, 1)

    def _image_positions(self) -> Tensor:
        return self.model.sam_prompt_encoder.get_dense_pe().to(self.no_object_pointer.dtype)

    def _sine_positions(self, name: str, shape: torch.Size, device: torch.device) -> Tensor:
        owner = self.model.image_encoder.neck if name == "vision" else self.model.memory_encoder
        return owner.position_encoding(torch.empty(shape, device=device))


def _build_sam2_base(config: Sam2Config) -> nn.Module:
    """Sizes as in Sa2VA's SAM-2 (sam2_hiera_l.yaml, and what `SAM2Base` fixes)."""
    _require_published_sizes(config)
    try:
        from sam2.modeling.backbones.hieradet import Hiera
        from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
        from sam2.modeling.memory_attention import MemoryAttention
        from sam2.modeling.position_encoding import PositionEmbeddingSine
        from sam2.modeling.sam2_base import SAM2Base
    except ModuleNotFoundError as error:
        raise MissingExtraError((error.name or "sam2").partition(".")[0], "sam2") from error
    width = config.hidden_dim
    trunk = Hiera(
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        stages=config.stages,
        global_att_blocks=config.global_att_blocks,
        window_pos_embed_bkg_spatial_size=config.window_pos_embed_bkg_spatial_size,
        window_spec=config.window_spec,
    )
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(num_pos_feats=width, normalize=True),
        d_model=width,
        backbone_channel_list=list(config.stage_dims)[::-1],
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    model = SAM2Base(
        image_encoder=ImageEncoder(trunk=trunk, neck=neck, scalp=1),
        memory_attention=MemoryAttention(
            d_model=width,
            pos_enc_at_input=True,
            layer=_memory_layer(config),
            num_layers=config.memory_attention_layers,
        ),
        memory_encoder=_memory_encoder(config),
        num_maskmem=config.num_maskmem,
        image_size=config.image_size,
        # These decide which parameters there are; the other options are about methods that are not called.
        use_obj_ptrs_in_encoder=True,
        pred_obj_scores=True,
        use_mlp_for_obj_ptr_proj=True,
    )
    model.sam_mask_decoder = _mask_decoder(config)
    if config.separate_language_mask_decoder:
        model.sam_mask_decoder_modified = _mask_decoder(config)
    return model


def _mask_decoder(config: Sam2Config) -> nn.Module:
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import TwoWayTransformer

    transformer = TwoWayTransformer(
        depth=2,
        embedding_dim=config.hidden_dim,
        mlp_dim=config.mask_decoder_mlp_dim,
        num_heads=config.mask_decoder_num_heads,
    )
    return MaskDecoder(
        transformer_dim=config.hidden_dim,
        transformer=transformer,
        iou_head_hidden_dim=config.iou_head_hidden_dim,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        dynamic_multimask_via_stability=config.dynamic_multimask_via_stability,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        use_multimask_token_for_obj_ptr=True,
    )


def _memory_layer(config: Sam2Config) -> nn.Module:
    from sam2.modeling.memory_attention import MemoryAttentionLayer
    from sam2.modeling.sam.transformer import RoPEAttention

    width = config.hidden_dim
    sides = (config.top_side, config.top_side)
    common = {"feat_sizes": sides, "embedding_dim": width, "num_heads": 1, "downsample_rate": 1, "dropout": 0}
    return MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=config.memory_attention_ffn,
        dropout=0.0,
        pos_enc_at_attn=False,
        self_attention=RoPEAttention(**common),
        d_model=width,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=RoPEAttention(**common, rope_k_repeat=True, kv_in_dim=config.mem_dim),
    )


def _memory_encoder(config: Sam2Config) -> nn.Module:
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    width = config.hidden_dim
    return MemoryEncoder(
        out_dim=config.mem_dim,
        in_dim=width,
        position_encoding=PositionEmbeddingSine(num_pos_feats=config.mem_dim, normalize=True),
        mask_downsampler=MaskDownSampler(embed_dim=width, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(CXBlock(dim=width), num_layers=config.memory_fuser_layers),
    )


def _require_published_sizes(config: Sam2Config) -> None:
    usual = {name: Sam2Config.model_fields[name].default for name in _OWN_SIZES}
    other = [name for name, value in usual.items() if getattr(config, name) != value]
    doubling = Sam2Config(embed_dim=config.embed_dim, num_heads=config.num_heads, stages=config.stages)
    if doubling.stage_dims != config.stage_dims or doubling.stage_heads != config.stage_heads:
        other.append("dim_per_stage")
    if other:
        raise UnsupportedCheckpointError(
            f"The package sam2 has no SAM-2 of these sizes: {', '.join(other)} differ.",
            hint="Use the default modules, those of transformers: they take any size, also the nano's.",
        )
