"""Upstream's SAM-2 parameter names → those of `Sam2`, as tables.

Upstream's are those of facebookresearch/sam2, ours those of transformers' `sam2_video`.
"""

from __future__ import annotations

from sa2va_tools.model.key_mapping import Rule, copy, move, stack

_UPSTREAM = "grounding_encoder.sam2_model."
_NATIVE = "sam2."


def _make_rules(upstream: str, native: str, pairs: tuple[tuple[str, str], ...]) -> list[Rule]:
    return [move(_UPSTREAM + upstream + theirs, _NATIVE + native + ours) for theirs, ours in pairs]


def _perceptron_names(upstream: str, native: str) -> tuple[tuple[str, str], ...]:
    """Names of a perceptron with three layers; transformers has names of its own for the first and last."""
    parts = (("layers.0", "proj_in"), ("layers.1", "layers.0"), ("layers.2", "proj_out"))
    return tuple((f"{upstream}.{theirs}.{{p}}", f"{native}.{ours}.{{p}}") for theirs, ours in parts)


_SAME = ("{rest}", "{rest}")
"""All names that no rule before this one matches."""

_TRUNK = (
    ("patch_embed.proj.{p}", "patch_embed.projection.{p}"),
    ("blocks.{i}.norm{j}.{p}", "blocks.{i}.layer_norm{j}.{p}"),
    ("blocks.{i}.mlp.layers.0.{p}", "blocks.{i}.mlp.proj_in.{p}"),
    ("blocks.{i}.mlp.layers.1.{p}", "blocks.{i}.mlp.proj_out.{p}"),
    _SAME,
)

_DECODER = (
    ("transformer.layers.{i}.{attn}.out_proj.{p}", "transformer.layers.{i}.{attn}.o_proj.{p}"),
    ("transformer.layers.{i}.norm{j}.{p}", "transformer.layers.{i}.layer_norm{j}.{p}"),
    ("transformer.layers.{i}.mlp.layers.0.{p}", "transformer.layers.{i}.mlp.proj_in.{p}"),
    ("transformer.layers.{i}.mlp.layers.1.{p}", "transformer.layers.{i}.mlp.proj_out.{p}"),
    ("transformer.{attn}.out_proj.{p}", "transformer.{attn}.o_proj.{p}"),
    ("transformer.norm_final_attn.{p}", "transformer.layer_norm_final_attn.{p}"),
    ("output_upscaling.0.{p}", "upscale_conv1.{p}"),
    ("output_upscaling.1.{p}", "upscale_layer_norm.{p}"),
    ("output_upscaling.3.{p}", "upscale_conv2.{p}"),
    *_perceptron_names("iou_prediction_head", "iou_prediction_head"),
    *_perceptron_names("pred_obj_score_head", "pred_obj_score_head"),
    *_perceptron_names("output_hypernetworks_mlps.{i}", "output_hypernetworks_mlps.{i}"),
    _SAME,
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
    ("layers.{i}.norm{j}.{p}", "layers.{i}.layer_norm{j}.{p}"),
    ("norm.{p}", "layer_norm.{p}"),
    _SAME,
)

_MEMORY_ENCODER = (
    *(
        (f"mask_downsampler.encoder.{3 * n + step}.{{p}}", f"mask_downsampler.layers.{n}.{part}.{{p}}")
        for n in range(4)
        for step, part in enumerate(("conv", "layer_norm"))
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

_OTHERS = (
    *_perceptron_names("obj_ptr_proj", "object_pointer_proj"),
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("mask_downsample.{p}", "mask_downsample.{p}"),
)

_DECODERS = (
    *_make_rules("sam_mask_decoder.", "mask_decoder.", _DECODER),
    *_make_rules("sam_mask_decoder_modified.", "language_mask_decoder.", _DECODER),
)
# A checkpoint's only decoder is the fine-tuned one: if a stock decoder is added, it answers language prompts.
_LANGUAGE_DECODER = _make_rules("sam_mask_decoder.", "language_mask_decoder.", _DECODER)
STOCK_DECODER_RULES = tuple(
    move(f"{prefix}sam_mask_decoder.{theirs}", f"{_NATIVE}mask_decoder.{ours}")
    for prefix in ("model.", "")
    for theirs, ours in _DECODER
)
"""For the mask decoder in a file of stock SAM-2 weights under facebookresearch/sam2's names."""

_COMMON_RULES: tuple[Rule, ...] = (
    *_make_rules("image_encoder.trunk.", "vision_encoder.backbone.", _TRUNK),
    *_make_rules("image_encoder.neck.", "vision_encoder.neck.", (("convs.{i}.conv.{p}", "convs.{i}.{p}"),)),
    *_make_rules("sam_prompt_encoder.", "prompt_encoder.", _PROMPTS),
    *_make_rules("memory_attention.", "memory_attention.", _MEMORY_ATTENTION),
    *_make_rules("memory_encoder.", "memory_encoder.", _MEMORY_ENCODER),
    *_make_rules("", "", _OTHERS),
    stack(
        [f"{_UPSTREAM}sam_prompt_encoder.point_embeddings.{n}.weight" for n in range(4)],
        f"{_NATIVE}prompt_encoder.point_embed.weight",
    ),
    copy(
        f"{_UPSTREAM}sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        f"{_NATIVE}shared_image_embedding.positional_embedding",
        f"{_NATIVE}prompt_encoder.shared_embedding.positional_embedding",
    ),
)

PACKAGE_RULES: tuple[Rule, ...] = (
    move(
        f"{_UPSTREAM}memory_encoder.fuser.layers.{{i}}.g_weight",
        f"{_NATIVE}model.memory_encoder.fuser.layers.{{i}}.gamma",
    ),
    move(f"{_UPSTREAM}{{rest}}", f"{_NATIVE}model.{{rest}}"),
)
"""For the modules of the package `sam2`, which have upstream's names."""


def sam2_rules(*, stock_decoder: bool = False) -> tuple[Rule, ...]:
    """All rules. With `stock_decoder`, SAM-2's own mask decoder comes from another file, and the checkpoint's
    becomes the second decoder, for language prompts."""
    return (*_COMMON_RULES, *(_LANGUAGE_DECODER if stock_decoder else _DECODERS))
