"""The tracker's promises, on a small SAM-2 with random weights: what is encoded, kept and yielded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sa2va_tools.errors import CancelledError
from sa2va_tools.model.config import GroundingConfig
from sa2va_tools.model.grounding import Memory, Sam2Grounding
from sa2va_tools.model.mask_output import Leaving, full_masks, one_behind
from sa2va_tools.model.output import USUAL_WISHES, MaskWishes
from sa2va_tools.model.propagation import MemoryBank, Propagator
from sa2va_tools.progress import CancelToken

SMALL = GroundingConfig(
    image_size=64,
    embed_dim=8,
    num_heads=1,
    stages=(1, 1, 2, 1),
    global_att_blocks=(3,),
    window_pos_embed_bkg_spatial_size=(4, 4),
    window_spec=(4, 4, 4, 4),
    hidden_dim=128,
    memory_attention_layers=1,
    memory_attention_ffn=64,
    mask_decoder_mlp_dim=64,
    mask_decoder_num_heads=4,
    iou_head_hidden_dim=32,
    memory_fuser_layers=1,
    memory_fuser_hidden_dim=64,
    patch_stride=2,
    patch_kernel=5,
    patch_padding=2,
    num_maskmem=4,
    max_object_pointers=6,
)


@pytest.fixture(scope="module")
def grounding():
    torch.manual_seed(0)
    made = Sam2Grounding(SMALL).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


class Clip:
    """Random pictures that remember which of them were read."""

    def __init__(self, count, size_hw=(48, 80)):
        rng = np.random.default_rng(3)
        self.pictures = [rng.integers(0, 255, (*size_hw, 3), dtype=np.uint8) for _ in range(count)]
        self.read: list[int] = []

    def __len__(self):
        return len(self.pictures)

    def key_of(self, position):
        return None

    def frames(self, positions):
        assert list(positions) == sorted(set(positions))
        for position in positions:
            self.read.append(position)
            yield self.pictures[position]


def _embeddings(count):
    return torch.randn(count, SMALL.hidden_dim, generator=torch.Generator().manual_seed(count))


def _run(walk):
    with torch.inference_mode():
        return {frame.position: frame for frame in walk}


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("keys", [(0,), (0, 1, 2), (0, 4, 9)])
@pytest.mark.parametrize("mode", ["language", "language_masks"])
def test_each_frame_is_encoded_once_whatever_the_number_of_objects(grounding, mode, keys, objects):
    clip, propagator = Clip(10), Propagator(grounding, gate=False)
    frames = _run(getattr(propagator, mode)(clip, keys, _embeddings(objects)))
    assert sorted(frames) == list(range(10))
    assert propagator.encoder_passes == 10
    assert sorted(clip.read) == list(range(10))
    assert frames[5].masks.shape == (objects, 48, 80)
    assert frames[5].object_scores.shape == (objects,)


def test_objects_tracked_together_are_the_objects_tracked_alone(grounding):
    both = _embeddings(2)
    together = _run(Propagator(grounding, gate=False).language(Clip(8), (0, 1), both))
    for number in range(2):
        alone = _run(Propagator(grounding, gate=False).language(Clip(8), (0, 1), both[number : number + 1]))
        for position in range(8):
            same = together[position].masks[number] == alone[position].masks[0]
            assert same.mean() > 0.999


def test_a_mask_in_the_middle_is_tracked_both_ways(grounding):
    clip, propagator = Clip(70), Propagator(grounding, gate=False)
    mask = torch.zeros(1, 48, 80, dtype=torch.bool)
    mask[:, 10:30, 20:50] = True
    order = []
    with torch.inference_mode():
        for frame in propagator.masks(clip, 50, mask):
            order.append(frame.position)
    assert order == [50, *range(51, 70), *range(49, -1, -1)]
    assert propagator.encoder_passes == 70


def test_backwards_is_forwards_in_a_mirror(grounding):
    mask = torch.zeros(1, 48, 80, dtype=torch.bool)
    mask[:, 10:30, 20:50] = True
    there = Clip(9)
    back = Clip(9)
    back.pictures = there.pictures[::-1]
    ahead = _run(Propagator(grounding, gate=False).masks(there, 0, mask))
    behind = _run(Propagator(grounding, gate=False).masks(back, 8, mask))
    for position in range(9):
        np.testing.assert_array_equal(ahead[position].masks, behind[8 - position].masks)


def test_a_given_mask_comes_back_on_its_own_frame(grounding):
    mask = torch.zeros(1, 48, 80, dtype=torch.bool)
    mask[:, 8:40, 16:64] = True
    frames = _run(Propagator(grounding, gate=True).masks(Clip(1), 0, mask))
    union = (frames[0].masks[0] | mask[0].numpy()).sum()
    assert (frames[0].masks[0] & mask[0].numpy()).sum() / union > 0.9


def test_memory_does_not_grow_with_the_clip():
    bank = MemoryBank(SMALL.num_maskmem, SMALL.max_object_pointers)
    for position in range(500):
        bank.remember(position, Memory(torch.zeros(1), torch.zeros(1)))
        assert len(bank.recent) < SMALL.num_maskmem and len(bank.passed) < SMALL.max_object_pointers
    assert [slot for slot, _ in bank.memories(500, 1)] == [3, 2, 1]
    assert len(bank.pointers(500, 1)) == SMALL.max_object_pointers - 1


def test_later_key_frames_give_memory_but_no_pointer_to_earlier_frames():
    bank = MemoryBank(SMALL.num_maskmem, SMALL.max_object_pointers)
    bank.conditioning = {
        at: Memory(torch.full((1,), float(at)), torch.full((1,), float(at))) for at in (0, 9)
    }
    assert [slot for slot, _ in bank.memories(4, 1)] == [0, 0]
    assert [float(pointer) for pointer in bank.pointers(4, 1)] == [0.0]
    assert [float(pointer) for pointer in bank.pointers(4, -1)] == [9.0]


def test_cancelling_stops_before_the_next_frame(grounding):
    token = CancelToken()
    clip = Clip(50)
    walk = Propagator(grounding, gate=False, cancel=token).language(clip, (0,), _embeddings(1))
    with torch.inference_mode():
        next(walk)
        next(walk)
        token.cancel()
        with pytest.raises(CancelledError):
            next(walk)
    assert len(clip.read) < 10  # some are read ahead


def test_gating_empties_masks_of_absent_objects(grounding):
    with torch.inference_mode():
        propagator = Propagator(grounding, gate=True)
        features = propagator.encode(Clip(1).pictures[0])
        decoded = grounding.decode(
            features, grounding.without_memory(features), grounding.language_prompt(_embeddings(4))
        )
        shifted = type(decoded)(
            decoded.logits.abs(), decoded.iou, decoded.tokens, torch.tensor([-1.0, 1, -1, 1])
        )
        chosen = grounding.choose(shifted, gate=True)
        assert [bool((row > 0).any()) for row in chosen.logits] == [False, True, False, True]
        absent = grounding.no_object_pointer[0]
        assert torch.equal(chosen.pointer[0], absent)
        assert not torch.equal(chosen.pointer[1], absent)
        assert bool((grounding.choose(shifted, gate=False).logits > 0).all())


@pytest.mark.parametrize("mode", ["language", "language_masks", "masks"])
def test_wishes_for_masks_do_not_reach_what_is_tracked(grounding, mode):
    """Neither the memory nor, in mode sa2va-i, the key frames' mask prompts."""
    logits, masks = [], []
    for wishes in (MaskWishes(), MaskWishes(threshold=0.9, smooth=True)):
        propagator = Propagator(grounding, gate=False, wishes=wishes)
        propagator.logits_of = {}
        given = torch.zeros(2, 48, 80, dtype=torch.bool)
        given[:, 10:30, 20:50] = True
        walk = (
            propagator.masks(Clip(6), 2, given)
            if mode == "masks"
            else getattr(propagator, mode)(Clip(6), (0, 3), _embeddings(2))
        )
        masks.append(_run(walk))
        logits.append(propagator.logits_of)
    # Of key frames that prompt as binary masks, another threshold shows the logits behind those.
    tracked = (1, 2, 4, 5) if mode == "language_masks" else range(6)
    assert all(torch.equal(logits[0][at], logits[1][at]) for at in tracked)
    if mode == "language_masks":
        assert float(logits[0][0].abs().max()) <= 10 and not torch.equal(logits[0][0], logits[1][0])
    assert any((masks[0][at].masks != masks[1][at].masks).any() for at in range(6))


class Copied:
    """A GPU's word that a copy has arrived, heard when it is asked for."""

    def __init__(self, position, waited_for):
        self.position, self.waited_for = position, waited_for

    def synchronize(self):
        self.waited_for.append(self.position)


@pytest.mark.parametrize(("on_gpu", "begun"), [(True, [2, 3, 4, 4]), (False, [1, 2, 3, 4])])
def test_a_frame_from_a_gpu_is_waited_for_when_the_next_one_is_under_way(on_gpu, begun):
    started, waited_for, seen = [], [], []

    def walk():
        for position in range(4):
            started.append(position)
            copied = Copied(position, waited_for) if on_gpu else None
            logits = torch.full((2, 8, 8), float(position - 1))
            yield Leaving(position, (16, 24), logits, torch.zeros(2), copied)

    for leaving in one_behind(walk()):
        frame = full_masks(leaving, 32, USUAL_WISHES)
        seen.append(len(started))
        assert frame.masks.shape == (2, 16, 24) and bool(frame.masks.all()) == (frame.position > 1)
    assert seen == begun and waited_for == ([0, 1, 2, 3] if on_gpu else [])
