"""SAM-2 on the modules of facebookresearch/sam2: a second implementation, to compare with.

The same algorithm (`Sam2Grounding`) over other leaves. Needs the package `sam2`; only its modules are used:
no torchvision, no CUDA extension, no configuration files of its.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sa2va_tools.errors import MissingExtraError, UnsupportedCheckpointError
from sa2va_tools.model.config import GroundingConfig
from sa2va_tools.model.grounding import (
    MASK_LOGIT_BIAS,
    MASK_LOGIT_SCALE,
    Decoded,
    Prompt,
    Sam2Grounding,
)

_OWN_SIZES = ("patch_kernel", "patch_stride", "patch_padding", "mlp_ratio", "memory_fuser_hidden_dim")


class PackageSam2(Sam2Grounding):
    """See `Sam2Grounding`."""

    def _build(self, config: GroundingConfig) -> None:
        # The package cannot be built without storage: it computes while it is built, and its rotary positions
        # are no buffers.
        place = torch.get_default_device()
        with torch.device("cpu"):
            self.model: Any = _sam2_base(config)
        self.model.to(place)

    @property
    def image_encoder(self) -> nn.Module:
        encoder: nn.Module = self.model.image_encoder
        return encoder

    @property
    def mask_decoder(self) -> Any:
        return self.model.sam_mask_decoder

    @property
    def language_mask_decoder(self) -> Any:  # type: ignore[override]
        return getattr(self.model, "sam_mask_decoder_modified", None)

    @property
    def no_object_pointer(self) -> Any:
        return self.model.no_obj_ptr

    @property
    def no_memory_embedding(self) -> Any:
        return self.model.no_mem_embed

    @property
    def memory_temporal_positional_encoding(self) -> Any:
        return self.model.maskmem_tpos_enc

    @property
    def mask_downsample(self) -> Any:
        return self.model.mask_downsample

    @property
    def object_pointer_proj(self) -> Any:
        return self.model.obj_ptr_proj

    # ---- leaves -------------------------------------------------------------------------------

    def _maps(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, top = self.model.image_encoder(pixels)["backbone_fpn"]
        return fine, middle, top

    def point_prompt(self, points_xy: Tensor, labels: Tensor, *, multimask: bool) -> Prompt:
        """See `Sam2Grounding.point_prompt`."""
        dtype = self.no_object_pointer.dtype
        sparse, dense = self.model.sam_prompt_encoder(
            points=(points_xy.to(torch.float32), labels), boxes=None, masks=None
        )
        return Prompt(sparse.to(dtype), dense.to(dtype), multimask)

    def _mask_embedding(self, masks: Tensor) -> Tensor:
        return self.model.sam_prompt_encoder.mask_downscaling(masks)

    def _decoded(self, decoder: Any, image: Tensor, prompt: Prompt, skips: list[Tensor]) -> Decoded:
        masks, iou, tokens, object_logits = decoder(
            image_embeddings=image,
            image_pe=self._image_positions(),
            sparse_prompt_embeddings=prompt.sparse,
            dense_prompt_embeddings=prompt.dense,
            multimask_output=prompt.multimask,
            repeat_image=False,
            high_res_features=skips,
        )
        return Decoded(masks, iou, tokens, object_logits[:, 0])

    def _encoded_memory(self, top: Tensor, masks: Tensor) -> Tensor:
        return self.model.memory_encoder(top, masks, skip_mask_sigmoid=True)["vision_features"]

    def _attended(
        self, flat: Tensor, memory: Tensor, places: Tensor, *, pointer_tokens: int, window: int
    ) -> Tensor:
        if window > 1:
            raise UnsupportedCheckpointError(
                "Fast tracking is made for the SAM-2 modules of transformers, not for those of sam2.",
                hint="Unset SA2VA_GROUNDING, or SA2VA_FAST_TRACKING.",
            )
        output = self.model.memory_attention(
            curr=flat,
            curr_pos=self._vision_positions(flat.dtype).expand_as(flat),
            memory=memory,
            memory_pos=places,
            num_obj_ptr_tokens=pointer_tokens,
        )
        return output.transpose(0, 1)

    def _image_positions(self) -> Tensor:
        return self.model.sam_prompt_encoder.get_dense_pe().to(self.no_object_pointer.dtype)

    def _waves(self, name: str, shape: torch.Size, device: torch.device) -> Tensor:
        owner = self.model.image_encoder.neck if name == "vision" else self.model.memory_encoder
        return owner.position_encoding(torch.empty(shape, device=device))


def _sam2_base(config: GroundingConfig) -> nn.Module:
    """Sizes as in Sa2VA's SAM-2 (sam2_hiera_l.yaml, and what `SAM2Base` fixes)."""
    _refuse_other_sizes(config)
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
        sigmoid_scale_for_mem_enc=MASK_LOGIT_SCALE,
        sigmoid_bias_for_mem_enc=MASK_LOGIT_BIAS,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=False,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        multimask_output_for_tracking=True,
        use_multimask_token_for_obj_ptr=True,
        use_mlp_for_obj_ptr_proj=True,
    )
    model.sam_mask_decoder = _mask_decoder(config)
    if config.separate_language_mask_decoder:
        model.sam_mask_decoder_modified = _mask_decoder(config)
    return model


def _mask_decoder(config: GroundingConfig) -> nn.Module:
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


def _memory_layer(config: GroundingConfig) -> nn.Module:
    from sam2.modeling.memory_attention import MemoryAttentionLayer
    from sam2.modeling.sam.transformer import RoPEAttention

    width, sides = config.hidden_dim, (config.top_side, config.top_side)
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


def _memory_encoder(config: GroundingConfig) -> nn.Module:
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


def _refuse_other_sizes(config: GroundingConfig) -> None:
    usual = {name: GroundingConfig.model_fields[name].default for name in _OWN_SIZES}
    other = [name for name, value in usual.items() if getattr(config, name) != value]
    doubling = GroundingConfig(embed_dim=config.embed_dim, num_heads=config.num_heads, stages=config.stages)
    if doubling.stage_dims != config.stage_dims or doubling.stage_heads != config.stage_heads:
        other.append("dim_per_stage")
    if other:
        raise UnsupportedCheckpointError(
            f"The package sam2 has no SAM-2 of these sizes: {', '.join(other)} differ.",
            hint="Unset SA2VA_GROUNDING: transformers' modules take any size, that of the nano too.",
        )
