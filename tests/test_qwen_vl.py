"""Qwen-VL families against transformers' own models: the same small random weights, two ways through them."""

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

from sa2va_tools.errors import MediaError, RequestError
from sa2va_tools.model import reading
from sa2va_tools.model.config import parse_config
from sa2va_tools.model.families import build_family, family_rules
from sa2va_tools.model.families.base import Embedded
from sa2va_tools.model.families.qwen_vl import mrope_positions
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.patches import fitting_size, picture_patches

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


def _prompt(visual):
    ids = [1, 2]
    for rows, columns in visual.grids:
        ids += [START, *[IMAGE_PAD] * (rows * columns), END]
    return torch.tensor([[*ids, 5, 6, 7]])


@torch.inference_mode()
def test_two_pictures_and_three_more_words(pair):
    ours, theirs = pair
    visual = ours.look(_pictures(2), video=False)
    ids, cache = _prompt(visual), ours.new_cache()
    said = ours.step(ours.embed(ids, visual, []), cache)
    followed = [
        ours.step(Embedded(ours.token_embeddings(torch.tensor([[word]]))), cache).next_logits
        for word in (9, 11)
    ]
    patches = picture_patches(
        _pictures(2),
        patch=ours.config.vision["patch_size"],
        merge=2,
        mean=ours.config.pixel_mean,
        std=ours.config.pixel_std,
    )
    words = torch.cat([ids, torch.tensor([[9, 11]])], 1)
    output = theirs(
        input_ids=words,
        pixel_values=torch.from_numpy(patches.pixels),
        image_grid_thw=torch.tensor([(1, *grid) for grid in patches.grids]),
        mm_token_type_ids=(words == IMAGE_PAD).int(),
        output_hidden_states=True,
    )
    expected = output.logits[0, -3:]
    torch.testing.assert_close(torch.stack([said.next_logits, *followed]), expected, atol=2e-4, rtol=1e-3)
    last = theirs.model.language_model.norm(said.hidden) if not ours.seg_reads_normed else said.hidden
    torch.testing.assert_close(last, output.hidden_states[-1][0, :-2], atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_text_alone_after_pictures_starts_anew(pair):
    """transformers keeps the offset of the last pictures; ours belongs to the cache."""
    ours, theirs = pair
    visual = ours.look(_pictures(1), video=False)
    ours.step(ours.embed(_prompt(visual), visual, []), ours.new_cache())
    ids = torch.tensor([[1, 2, 3, 4]])
    said = ours.step(ours.embed(ids, None, []), ours.new_cache())
    torch.testing.assert_close(said.next_logits, theirs(input_ids=ids).logits[0, -1], atol=1e-4, rtol=1e-3)


def test_positions_of_text_and_pictures():
    pictured = torch.tensor([0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0]).bool()
    positions = mrope_positions(pictured, [(2, 3), (1, 2)])
    assert positions.tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5, 6, 6, 8],
        [0, 1, 1, 1, 2, 2, 2, 4, 5, 6, 6, 8],
        [0, 1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8],
    ]


def test_a_region_prompt_is_refused(pair):
    ours, _ = pair
    with pytest.raises(RequestError, match="region"):
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
    assert fitting_size(*size, factor, limits) == expected


def test_a_ribbon_is_refused():
    with pytest.raises(MediaError, match="200 times"):
        fitting_size(10, 2010, 28, (4 * 784, 16384 * 784))


@pytest.mark.parametrize("piece", [7, 1024])
@torch.inference_mode()
def test_what_was_read_before_need_not_be_read_again(pair, piece, monkeypatch):
    """Also where the shared beginning ends inside a picture, and where the prompt comes in pieces."""
    ours, _ = pair
    monkeypatch.setattr(reading, "_PIECE", piece)
    visual = ours.look(_pictures(2), video=False)
    ids = _prompt(visual)[0].tolist()
    prompt = ours.embed(torch.tensor([ids]), visual, [])
    whole = ours.step(prompt, ours.new_cache())
    for shared in (0, 1, 20, len(ids) - 2, len(ids)):
        other = torch.tensor([[*ids[:shared], 9, 9, 9]])
        earlier = ours.new_cache()
        ours.step(prompt.part(0, shared), earlier) if shared else None
        ours.step(Embedded(ours.token_embeddings(other[:, shared:])), earlier)
        before = reading.Read(tuple(other[0].tolist()), earlier)
        output, cache = reading.read_prompt(ours, prompt, ids, before=before)
        torch.testing.assert_close(output.next_logits, whole.next_logits, atol=1e-4, rtol=1e-4)
        fed = Embedded(ours.token_embeddings(torch.tensor([[11]])))
        plain = ours.new_cache()
        ours.step(prompt, plain)
        torch.testing.assert_close(
            ours.step(fed, cache).next_logits, ours.step(fed, plain).next_logits, atol=1e-4, rtol=1e-4
        )
        assert ours.cache_bytes(cache) == ours.cache_bytes(plain)
