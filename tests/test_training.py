"""What serves any training: losses, optimizers, packed turns, and moving batches."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from sa2va_tools.model.text.prompts import SPECIAL_TOKENS, find_template
from sa2va_tools.training.device import move_to_device
from sa2va_tools.training.losses import MaskLossWeights, exclude_class, mask_loss, text_loss
from sa2va_tools.training.optimizers import Muon, muon_and_adamw, orthogonalize
from sa2va_tools.training.packing import (
    IGNORED,
    ChatTokens,
    pack_turns,
    pad_rows,
    stack_sequences,
)

WEIGHTS = MaskLossWeights(bce=10.0, dice=1.0, iou_head=0.2, object_score=0.2)


@pytest.fixture(autouse=True)
def same_random_numbers():
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


# ---- losses ---------------------------------------------------------------------------------------


def test_a_perfect_mask_costs_almost_nothing_and_its_opposite_a_lot():
    target = torch.zeros(1, 8, 8)
    target[..., 2:6, 2:6] = 1
    logits = (target * 2 - 1)[:, None] * 20
    valid = torch.ones(1, dtype=torch.bool)
    good = mask_loss(logits, torch.ones(1, 1), torch.full((1,), 9.0), target, valid)
    bad = mask_loss(-logits, torch.ones(1, 1), torch.full((1,), -9.0), target, valid)
    assert good.total(WEIGHTS) < 0.05 and good.best_iou == 1
    assert bad.total(WEIGHTS) > 100 and bad.best_iou == 0


def test_the_total_is_weighted():
    target = torch.rand(1, 8, 8).round()
    valid = torch.ones(1, dtype=torch.bool)
    loss = mask_loss(torch.randn(1, 3, 8, 8), torch.rand(1, 3), torch.zeros(1), target, valid)
    published = MaskLossWeights(bce=2.0, dice=0.5, iou_head=0.0, object_score=0.0)
    torch.testing.assert_close(loss.total(published), 2 * loss.bce + 0.5 * loss.dice)


def test_unused_slots_cost_nothing():
    target = torch.rand(2, 8, 8).round()
    logits = torch.randn(2, 3, 8, 8)
    valid = torch.tensor([True, False])
    loss = mask_loss(logits, torch.rand(2, 3), torch.zeros(2), target, valid)
    logits[1] = 50
    again = mask_loss(logits, torch.rand(2, 3), torch.zeros(2), target, valid)
    torch.testing.assert_close((loss.bce, loss.dice), (again.bce, again.dice))


def test_content_words_weigh_more_in_the_text_loss():
    logits = torch.zeros(2, 5)
    logits[0, 1] = 8
    labels = torch.tensor([1, 0])
    weights = torch.tensor([0.15, 1.0, 1, 1, 1])
    nothing = torch.full((2,), -1)
    content_right, right = text_loss(logits, labels, nothing, weights, torch.ones(2))
    content_wrong, wrong = text_loss(logits.flip(0), labels, nothing, weights, torch.ones(2))
    assert content_right < content_wrong and (right, wrong) == (1, 0)


def test_an_excluded_class_gets_no_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    excluded = torch.tensor([2, -1, 0])
    nn.functional.cross_entropy(exclude_class(logits, excluded), torch.tensor([1, 1, 1])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0 and logits.grad[2, 0] == 0 and (logits.grad[1] != 0).all()


# ---- optimizers -----------------------------------------------------------------------------------


def test_muon_updates_are_nearly_orthogonal():
    singular_values = torch.linalg.svdvals(orthogonalize(torch.randn(2, 24, 12)))
    assert singular_values.min() > 0.4 and singular_values.max() < 1.4


def test_muon_fits_a_linear_map():
    weight = nn.Parameter(torch.zeros(8, 8))
    target = torch.randn(8, 8)
    optimizer = Muon([weight], lr=0.05)
    losses = []
    for _ in range(60):
        loss = (weight - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_each_parameter_has_one_optimizer():
    layers = nn.ModuleList([nn.Linear(4, 4)])
    model = nn.ModuleDict({"body": nn.ModuleDict({"layers": layers}), "head": nn.Linear(4, 2)})
    muon, adamw = muon_and_adamw({"model": model, "same": model}, muon_rate=0.01, adamw_rate=0.001)
    matrices = [id(p) for group in muon.param_groups for p in group["params"]]
    others = [id(p) for group in adamw.param_groups for p in group["params"]]
    assert matrices == [id(layers[0].weight)]
    assert sorted(matrices + others) == sorted(map(id, model.parameters()))


# ---- packed turns ---------------------------------------------------------------------------------


def test_turns_share_the_prefix_and_do_not_see_each_other():
    packed = pack_turns([9, 9], [([1, 2], [3]), ([4], [5, 6])])
    assert packed.ids == [9, 9, 1, 2, 3, 4, 5, 6]
    assert packed.positions == [0, 1, 2, 3, 4, 2, 3, 4]
    assert packed.labels == [IGNORED, IGNORED, IGNORED, IGNORED, 3, IGNORED, 5, 6]
    assert (packed.question_starts, packed.answer_starts) == ([2, 5], [4, 6])
    tokens = stack_sequences([packed])
    attended = [row.nonzero().flatten().tolist() for row in tokens.mask[0, 0]]
    assert attended[4] == [0, 1, 2, 3, 4]  # the first answer: prefix and own turn
    assert attended[7] == [0, 1, 5, 6, 7]  # the second answer: not the first turn
    assert attended[1] == [0, 1]
    assert tokens.turn_numbers[0].tolist() == [-1, -1, 0, 0, 0, 1, 1, 1]


def test_shorter_sequences_are_padded_and_padding_is_not_attended_to():
    short = pack_turns([9], [([1], [2])])
    long = pack_turns([9], [([1], [2, 3, 4])])
    tokens = stack_sequences([short, long])
    assert tokens.ids.tolist() == [[9, 1, 2, 0, 0], [9, 1, 2, 3, 4]]
    assert tokens.labels[0].tolist() == [IGNORED, IGNORED, 2, IGNORED, IGNORED]
    assert not tokens.mask[0, 0, :3, 3:].any()
    assert tokens.mask[0, 0].diagonal().all()  # no row without a token to attend to, which would give NaN


def test_rows_of_numbers_are_padded_with_their_type():
    assert pad_rows([[1, 2], [3]], -1).tolist() == [[1, 2], [3, -1]]
    assert pad_rows([[0.5], [1.0, 2.0]], 1.0).dtype == torch.float32


# ---- chat tokens ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    """A tokenizer with one token per character, besides the special tokens."""
    letters = sorted(set("".join(map(chr, range(32, 127))) + "\n"))
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens([*SPECIAL_TOKENS, "<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    return tokenizer


def test_the_parts_of_a_turn_make_up_the_template(characters):
    template = find_template("qwen_chat")
    chat = ChatTokens(characters, template)
    prefix = chat.encode_prefix("<img><IMG_CONTEXT></img>")
    question = chat.encode_question("<image>\nWhat is it?", " region1")
    answer = chat.encode_answer("A cat.")
    turn = template.turn("<img><IMG_CONTEXT></img> region1\nWhat is it?") + "A cat.<|im_end|>"
    assert prefix.ids + question.ids + answer.ids == characters.encode(turn).ids
    assert chat.image_id in prefix.ids


def test_tokens_are_found_by_their_characters(characters):
    answer = ChatTokens(characters, find_template("qwen_chat")).encode_answer("It is [SEG].")
    assert answer.ids[answer.find_token(6)] == characters.token_to_id("[SEG]")
    assert answer.find_last("IS") == 4
    with pytest.raises(ValueError, match="no token"):
        ChatTokens(Tokenizer(models.BPE()), find_template("qwen_chat"))


# ---- batches --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    values: Tensor


@dataclass(frozen=True)
class Outer:
    inner: Inner
    values: Tensor


def test_all_tensors_of_a_batch_are_moved():
    batch = Outer(Inner(torch.ones(2)), torch.ones(3))
    moved = move_to_device(batch, torch.device("meta"))
    assert moved.values.is_meta and moved.inner.values.is_meta
    assert not batch.inner.values.is_meta
