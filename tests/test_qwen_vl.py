"""Qwen-VL families against transformers' own models with the same small random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_families import QWEN_CONFIGS as CONFIGS
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from sa2va_tools.errors import MediaError, UnsupportedAbilityError
from sa2va_tools.model.checkpoints.config_file import parse_config
from sa2va_tools.model.families import build_family, family_rules
from sa2va_tools.model.families.base import LanguageInputs
from sa2va_tools.model.families.kv_cache import count_cache_bytes
from sa2va_tools.model.families.qwen_vl import mrope_positions
from sa2va_tools.model.generation import prefill
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.preprocessing.qwen_patches import fit_size, make_patches
from sa2va_tools.run import Run

IMAGE_PAD, START, END = 60, 61, 62
THEIRS = {
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen3_vl": (Qwen3VLConfig, Qwen3VLForConditionalGeneration),
}


@pytest.fixture(params=sorted(CONFIGS))
def pair(request):
    """(our family's modules, transformers' model) with equal weights, moved by our key table."""
    blocks = CONFIGS[request.param]
    config = parse_config({"model_type": "sa2va_chat", "tie_word_embeddings": False, **blocks})
    assert config.family == request.param
    settings, model = THEIRS[request.param]
    torch.manual_seed(0)
    theirs = model(settings(**blocks, image_token_id=IMAGE_PAD, tie_word_embeddings=False)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ours = build_family(config).eval()
    ours.image_token_id = IMAGE_PAD
    keys, state = KeyMap(family_rules(config)), {}
    for name, tensor in theirs.state_dict().items():
        placement = keys.place(f"model.{name}")
        assert placement is not None, name
        state |= {native.removeprefix("mllm."): piece for native, piece in placement.pieces(tensor).items()}
    ours.load_state_dict(state)
    return ours, theirs


def _pictures(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (90 + 40 * n, 200, 3), dtype=np.uint8) for n in range(count)]


def _encode(family, count):
    return family.get_image_features(_pictures(count), video=False, run=Run())


def _feed(family, token, position):
    """One token of text."""
    position_ids = torch.full((3, 1, 1), position)
    return LanguageInputs(family.embed_tokens(torch.tensor([[token]])), position_ids)


def _prompt(features):
    ids = [1, 2]
    for rows, columns in features.grids:
        ids += [START, *[IMAGE_PAD] * (rows * columns), END]
    return torch.tensor([[*ids, 5, 6, 7]])


@torch.inference_mode()
def test_logits_and_states_are_those_of_transformers(pair):
    ours, theirs = pair
    features = _encode(ours, 2)
    ids, cache = _prompt(features), ours.new_cache()
    inputs = ours.embed(ids, features, [])
    output = ours.step(inputs, cache)
    end = int(inputs.position_ids.max()) + 1
    later = [_feed(ours, token, position) for position, token in enumerate((9, 11), start=end)]
    later_logits = [ours.step(each, cache).next_logits for each in later]
    patches = make_patches(
        _pictures(2),
        patch=ours.config.vision["patch_size"],
        merge=2,
        mean=ours.config.pixel_mean,
        std=ours.config.pixel_std,
    )
    all_ids = torch.cat([ids, torch.tensor([[9, 11]])], 1)
    expected = theirs(
        input_ids=all_ids,
        pixel_values=torch.from_numpy(patches.pixels),
        image_grid_thw=torch.tensor([(1, *grid) for grid in patches.grids]),
        mm_token_type_ids=(all_ids == IMAGE_PAD).int(),
        output_hidden_states=True,
    )
    logits = torch.cat([output.next_logits, *later_logits])
    torch.testing.assert_close(logits, expected.logits[0, -3:], atol=2e-4, rtol=1e-3)
    last = output.hidden_states
    normed = last if ours.seg_reads_normed else theirs.model.language_model.norm(last)
    torch.testing.assert_close(normed, expected.hidden_states[-1][:, :-2], atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_text_without_pictures_counts_its_positions_from_zero(pair):
    """transformers' model keeps the offset of the last pictures; ours belongs to the cache."""
    ours, theirs = pair
    features = _encode(ours, 1)
    ours.step(ours.embed(_prompt(features), features, []), ours.new_cache())
    ids = torch.tensor([[1, 2, 3, 4]])
    output = ours.step(ours.embed(ids, None, []), ours.new_cache())
    torch.testing.assert_close(output.next_logits, theirs(input_ids=ids).logits[:, -1], atol=1e-4, rtol=1e-3)


def test_positions_of_text_and_pictures():
    image_mask = torch.tensor([0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0]).bool()
    positions = mrope_positions(image_mask, [(2, 3), (1, 2)])
    assert positions.tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5, 6, 6, 8],
        [0, 1, 1, 1, 2, 2, 2, 4, 5, 6, 6, 8],
        [0, 1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8],
    ]


def test_a_region_prompt_is_refused(pair):
    ours, _ = pair
    with pytest.raises(UnsupportedAbilityError, match="region"):
        ours.embed(torch.tensor([[1]]), None, [np.array([3])])


@pytest.mark.parametrize(
    ("size", "factor", "limits", "expected"),
    [
        ((120, 160), 28, (4 * 784, 16384 * 784), (112, 168)),
        ((112, 168), 32, (512 * 784, 2048 * 784), (544, 800)),
        ((3000, 4000), 28, (512 * 784, 2048 * 784), (1092, 1456)),
        ((10, 10), 28, (4 * 784, 16384 * 784), (56, 56)),
        ((20, 3000), 28, (4 * 784, 2048 * 784), (28, 3000 // 28 * 28)),
    ],
)
def test_sizes_are_multiples_within_the_limits(size, factor, limits, expected):
    assert fit_size(*size, factor, limits) == expected


def test_a_very_long_picture_is_refused():
    with pytest.raises(MediaError, match="200 times"):
        fit_size(10, 2010, 28, (4 * 784, 16384 * 784))


@pytest.mark.parametrize("piece", [7, 1024])
@torch.inference_mode()
def test_a_cached_prefix_is_not_computed_again(pair, piece, monkeypatch):
    """Also if the prefix ends inside a picture, and if the prompt is fed in pieces."""
    ours, _ = pair
    monkeypatch.setattr(prefill, "_PIECE_TOKENS", piece)
    features = _encode(ours, 2)
    ids = _prompt(features)[0].tolist()
    prompt = ours.embed(torch.tensor([ids]), features, [])
    plain = ours.new_cache()
    later = _feed(ours, 11, int(prompt.position_ids.max()) + 1)
    expected = [ours.step(prompt, plain).next_logits, ours.step(later, plain).next_logits]
    for shared in (0, 1, 20, len(ids) - 2, len(ids)):
        other = torch.tensor([[*ids[:shared], 9, 9, 9]])
        earlier = ours.new_cache()
        if shared:
            ours.step(prompt.slice_tokens(0, shared), earlier)
        ours.step(LanguageInputs(ours.embed_tokens(other[:, shared:])), earlier)
        cached = prefill.CachedPrefix(tuple(other[0].tolist()), earlier)
        output, cache = prefill.prefill(ours, prompt, ids, Run(), cached)
        found = [output.next_logits, ours.step(later, cache).next_logits]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        sizes = [count_cache_bytes(each) for each in (cache, plain)]
        assert sizes[0] == sizes[1]
