"""Upstream's SAM-2 parameter names → `Sam2Grounding`'s, as a table.

Sources: facebookresearch/sam2's modules (upstream side), transformers' `sam2_video` (ours).
"""

from __future__ import annotations

from sa2va_tools.model.key_mapping import Rule, copied, renamed, stacked

_UPSTREAM, _NATIVE = "grounding_encoder.sam2_model.", "grounding."


def _table(upstream: str, native: str, pairs: tuple[tuple[str, str], ...]) -> list[Rule]:
    return [renamed(_UPSTREAM + upstream + theirs, _NATIVE + native + ours) for theirs, ours in pairs]


def _three_layers(upstream: str, native: str) -> tuple[tuple[str, str], ...]:
    """A three-layer perceptron: transformers names its first and last layer."""
    parts = (("layers.0", "proj_in"), ("layers.1", "layers.0"), ("layers.2", "proj_out"))
    return tuple((f"{upstream}.{theirs}.{{p}}", f"{native}.{ours}.{{p}}") for theirs, ours in parts)


_TRUNK = (
    ("patch_embed.proj.{p}", "patch_embed.projection.{p}"),
    ("pos_embed", "pos_embed"),
    ("pos_embed_window", "pos_embed_window"),
    ("blocks.{i}.norm{j}.{p}", "blocks.{i}.layer_norm{j}.{p}"),
    ("blocks.{i}.mlp.layers.0.{p}", "blocks.{i}.mlp.proj_in.{p}"),
    ("blocks.{i}.mlp.layers.1.{p}", "blocks.{i}.mlp.proj_out.{p}"),
    ("blocks.{i}.attn.{word}.{p}", "blocks.{i}.attn.{word}.{p}"),
    ("blocks.{i}.proj.{p}", "blocks.{i}.proj.{p}"),
)

_DECODER = (
    ("transformer.layers.{i}.{attn}.out_proj.{p}", "transformer.layers.{i}.{attn}.o_proj.{p}"),
    ("transformer.layers.{i}.{attn}.{word}.{p}", "transformer.layers.{i}.{attn}.{word}.{p}"),
    ("transformer.layers.{i}.norm{j}.{p}", "transformer.layers.{i}.layer_norm{j}.{p}"),
    ("transformer.layers.{i}.mlp.layers.0.{p}", "transformer.layers.{i}.mlp.proj_in.{p}"),
    ("transformer.layers.{i}.mlp.layers.1.{p}", "transformer.layers.{i}.mlp.proj_out.{p}"),
    (
        "transformer.final_attn_token_to_image.out_proj.{p}",
        "transformer.final_attn_token_to_image.o_proj.{p}",
    ),
    ("transformer.final_attn_token_to_image.{word}.{p}", "transformer.final_attn_token_to_image.{word}.{p}"),
    ("transformer.norm_final_attn.{p}", "transformer.layer_norm_final_attn.{p}"),
    ("output_upscaling.0.{p}", "upscale_conv1.{p}"),
    ("output_upscaling.1.{p}", "upscale_layer_norm.{p}"),
    ("output_upscaling.3.{p}", "upscale_conv2.{p}"),
    *_three_layers("iou_prediction_head", "iou_prediction_head"),
    *_three_layers("pred_obj_score_head", "pred_obj_score_head"),
    *_three_layers("output_hypernetworks_mlps.{i}", "output_hypernetworks_mlps.{i}"),
    ("iou_token.weight", "iou_token.weight"),
    ("mask_tokens.weight", "mask_tokens.weight"),
    ("obj_score_token.weight", "obj_score_token.weight"),
    ("conv_s0.{p}", "conv_s0.{p}"),
    ("conv_s1.{p}", "conv_s1.{p}"),
)

_PROMPTS = (
    ("not_a_point_embed.weight", "not_a_point_embed.weight"),
    ("no_mask_embed.weight", "no_mask_embed.weight"),
    ("mask_downscaling.0.{p}", "mask_embed.conv1.{p}"),
    ("mask_downscaling.1.{p}", "mask_embed.layer_norm1.{p}"),
    ("mask_downscaling.3.{p}", "mask_embed.conv2.{p}"),
    ("mask_downscaling.4.{p}", "mask_embed.layer_norm2.{p}"),
    ("mask_downscaling.6.{p}", "mask_embed.conv3.{p}"),
)

_MEMORY_ATTENTION = (
    ("layers.{i}.{attn}.out_proj.{p}", "layers.{i}.{attn}.o_proj.{p}"),
    ("layers.{i}.{attn}.{word}.{p}", "layers.{i}.{attn}.{word}.{p}"),
    ("layers.{i}.norm{j}.{p}", "layers.{i}.layer_norm{j}.{p}"),
    ("layers.{i}.linear{j}.{p}", "layers.{i}.linear{j}.{p}"),
    ("norm.{p}", "layer_norm.{p}"),
)

_MEMORY_ENCODER = (
    *(
        (f"mask_downsampler.encoder.{3 * n}.{{p}}", f"mask_downsampler.layers.{n}.conv.{{p}}")
        for n in range(4)
    ),
    *(
        (f"mask_downsampler.encoder.{3 * n + 1}.{{p}}", f"mask_downsampler.layers.{n}.layer_norm.{{p}}")
        for n in range(4)
    ),
    ("mask_downsampler.encoder.12.{p}", "mask_downsampler.final_conv.{p}"),
    ("pix_feat_proj.{p}", "feature_projection.{p}"),
    ("out_proj.{p}", "projection.{p}"),
    ("fuser.layers.{i}.dwconv.{p}", "memory_fuser.layers.{i}.depthwise_conv.{p}"),
    ("fuser.layers.{i}.norm.{p}", "memory_fuser.layers.{i}.layer_norm.{p}"),
    ("fuser.layers.{i}.pwconv{j}.{p}", "memory_fuser.layers.{i}.pointwise_conv{j}.{p}"),
    ("fuser.layers.{i}.g_weight", "memory_fuser.layers.{i}.scale"),
    ("fuser.layers.{i}.gamma", "memory_fuser.layers.{i}.scale"),
)

_LOOSE = (
    *_three_layers("obj_ptr_proj", "object_pointer_proj"),
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("mask_downsample.{p}", "mask_downsample.{p}"),
)

_DECODERS = (
    *_table("sam_mask_decoder.", "mask_decoder.", _DECODER),
    *_table("sam_mask_decoder_modified.", "language_mask_decoder.", _DECODER),
)
# A checkpoint's only decoder is the fine-tuned one: beside a stock decoder it is the language's.
_DECODER_BESIDE_STOCK = _table("sam_mask_decoder.", "language_mask_decoder.", _DECODER)
STOCK_DECODER_RULES = tuple(
    renamed(f"{prefix}sam_mask_decoder.{theirs}", f"{_NATIVE}mask_decoder.{ours}")
    for prefix in ("model.", "")
    for theirs, ours in _DECODER
)
"""facebookresearch/sam2's names of the mask decoder alone."""

_COMMON_RULES: tuple[Rule, ...] = (
    *_table("image_encoder.trunk.", "vision_encoder.backbone.", _TRUNK),
    *_table("image_encoder.neck.", "vision_encoder.neck.", (("convs.{i}.conv.{p}", "convs.{i}.{p}"),)),
    *_table("sam_prompt_encoder.", "prompt_encoder.", _PROMPTS),
    *_table("memory_attention.", "memory_attention.", _MEMORY_ATTENTION),
    *_table("memory_encoder.", "memory_encoder.", _MEMORY_ENCODER),
    *_table("", "", _LOOSE),
    stacked(
        [f"{_UPSTREAM}sam_prompt_encoder.point_embeddings.{n}.weight" for n in range(4)],
        f"{_NATIVE}prompt_encoder.point_embed.weight",
    ),
    copied(
        f"{_UPSTREAM}sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        f"{_NATIVE}shared_image_embedding.positional_embedding",
        f"{_NATIVE}prompt_encoder.shared_embedding.positional_embedding",
    ),
)


PACKAGE_RULES: tuple[Rule, ...] = (
    renamed(
        f"{_UPSTREAM}memory_encoder.fuser.layers.{{i}}.g_weight",
        f"{_NATIVE}model.memory_encoder.fuser.layers.{{i}}.gamma",
    ),
    renamed(f"{_UPSTREAM}{{rest}}", f"{_NATIVE}model.{{rest}}"),
)
"""For the modules of the `sam2` package, whose names upstream's checkpoints hold."""


def sam2_rules(*, stock_decoder: bool = False) -> tuple[Rule, ...]:
    """The whole table; `stock_decoder` where SAM-2's own mask decoder comes from another file."""
    return (*_COMMON_RULES, *(_DECODER_BESIDE_STOCK if stock_decoder else _DECODERS))


SAM2_KEY_RULES = sam2_rules()
