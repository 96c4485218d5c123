"""The sizes of a SAM-2 as the configuration from which transformers builds it."""

from __future__ import annotations

from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig
from transformers.models.sam2_video import configuration_sam2_video as configuration

from sa2va_tools.model.config import Sam2Config


def make_sam2_video_config(config: Sam2Config) -> Sam2VideoConfig:
    """transformers' nested config, with the sizes that it does not derive from the image size."""
    patch = 4 * config.patch_stride
    sides = [config.image_size // (config.patch_stride * k) for k in (1, 2, 4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=config.stage_dims[0],
        num_attention_heads=config.stage_heads[0],
        image_size=[config.image_size, config.image_size],
        patch_kernel_size=[config.patch_kernel] * 2,
        patch_stride=[config.patch_stride] * 2,
        patch_padding=[config.patch_padding] * 2,
        window_positional_embedding_background_size=list(config.window_pos_embed_bkg_spatial_size),
        blocks_per_stage=list(config.stages),
        embed_dim_per_stage=list(config.stage_dims),
        num_attention_heads_per_stage=list(config.stage_heads),
        window_size_per_stage=list(config.window_spec),
        global_attention_blocks=list(config.global_att_blocks),
        mlp_ratio=config.mlp_ratio,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=list(config.stage_dims)[::-1],
        backbone_feature_sizes=[[side, side] for side in sides],
        fpn_hidden_size=config.hidden_dim,
    )
    prompts = configuration.Sam2VideoPromptEncoderConfig(
        hidden_size=config.hidden_dim, image_size=config.image_size, patch_size=patch, mask_input_channels=16
    )
    decoder = configuration.Sam2VideoMaskDecoderConfig(
        hidden_size=config.hidden_dim,
        mlp_dim=config.mask_decoder_mlp_dim,
        num_attention_heads=config.mask_decoder_num_heads,
        iou_head_hidden_dim=config.iou_head_hidden_dim,
        num_multimask_outputs=3,
        dynamic_multimask_via_stability=config.dynamic_multimask_via_stability,
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=prompts,
        mask_decoder_config=decoder,
        image_size=config.image_size,
        num_maskmem=config.num_maskmem,
        max_object_pointers_in_encoder=config.max_object_pointers,
        enable_occlusion_spatial_embedding=False,
        enable_temporal_pos_encoding_for_object_pointers=False,
        memory_attention_hidden_size=config.hidden_dim,
        memory_attention_num_layers=config.memory_attention_layers,
        memory_attention_feed_forward_hidden_size=config.memory_attention_ffn,
        memory_attention_dropout=0.0,
        memory_attention_rope_dropout=0.0,
        memory_attention_rope_feat_sizes=[config.top_side, config.top_side],
        memory_encoder_hidden_size=config.hidden_dim,
        memory_encoder_output_channels=config.mem_dim,
        mask_downsampler_embed_dim=config.hidden_dim,
        memory_fuser_embed_dim=config.hidden_dim,
        memory_fuser_intermediate_dim=config.memory_fuser_hidden_dim or 4 * config.hidden_dim,
        memory_fuser_num_layers=config.memory_fuser_layers,
    )
