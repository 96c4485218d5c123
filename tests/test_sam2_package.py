"""The package `sam2` as a second implementation of grounding: the same tensors come out of every step.

Runs where the package is installed (`pip install --no-deps sam2 hydra-core omegaconf iopath` will do)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sa2va_tools.errors import MissingExtraError, RequestError, UnsupportedCheckpointError
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.config import GroundingConfig
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.loading import load_checkpoint
from sa2va_tools.model.propagation import Propagator
from sa2va_tools.model.sa2va import build_grounding
from sa2va_tools.model.sam2_keys import PACKAGE_RULES, SAM2_KEY_RULES

SMALL = GroundingConfig(
    image_size=256, embed_dim=16, num_heads=1, stages=(1, 2, 3, 1), global_att_blocks=(4,),
    window_spec=(8, 4, 14, 7), hidden_dim=128, mask_decoder_mlp_dim=128, mask_decoder_num_heads=4,
    iou_head_hidden_dim=64, memory_attention_layers=2, memory_attention_ffn=128,
)  # fmt: skip
PACKAGE = {"implementation": "sam2"}
CPU = torch.device("cpu")


def two(**sizes):
    """Both implementations with the same weights, under the names that upstream's checkpoints have."""
    pytest.importorskip("sam2", reason="the package sam2 is not installed")
    torch.manual_seed(0)
    theirs = build_grounding(SMALL.model_copy(update=PACKAGE | sizes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    upstream = KeyMap(PACKAGE_RULES).to_upstream(
        {f"grounding.{name}": value for name, value in theirs.state_dict().items()}
    )
    ours = build_grounding(SMALL.model_copy(update=sizes)).eval()
    keys, filled, stacks = KeyMap(SAM2_KEY_RULES), {}, {}
    for key, value in upstream.items():
        placement = keys.place(key)
        if placement.parts > 1:
            stacks.setdefault(placement.native[0], {})[placement.part] = value
        else:
            filled |= placement.pieces(value)
    filled |= {name: torch.cat([rows[k] for k in sorted(rows)]) for name, rows in stacks.items()}
    ours.load_state_dict({name.removeprefix("grounding."): value for name, value in filled.items()})
    return ours, theirs


class Frames:
    """Six frames of noise that drifts."""

    def __init__(self) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (40, 52, 3), dtype=np.uint8)
        self.pictures = [np.roll(noise, 3 * k, 1) for k in range(6)]

    def __len__(self) -> int:
        return len(self.pictures)

    def key_of(self, position):
        return None

    def frames(self, positions):
        return (self.pictures[k] for k in positions)


@pytest.mark.parametrize("second", [False, True])
def test_both_follow_the_same_masks(second):
    embeddings = torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
    logits = []
    for grounding in two(separate_language_mask_decoder=second):
        walker = Propagator(grounding, gate=False, memory_dtype=torch.float32)
        walker.logits_of = {}
        with torch.inference_mode():
            results = list(walker.language(Frames(), [0, 3], embeddings))
        assert len(results) == 6
        logits.append(walker.logits_of)
    for position, ours in logits[0].items():
        torch.testing.assert_close(ours, logits[1][position], atol=1e-4, rtol=1e-4)
    assert any((ours > 0).any() and (ours < 0).any() for ours in logits[0].values())


def test_both_take_points_and_masks_alike():
    ours, theirs = two()
    points, labels = torch.tensor([[[40.0, 90.0], [200.0, 180.0]]]), torch.tensor([[2, 3]], dtype=torch.int32)
    square = torch.zeros(1, 256, 256)
    square[:, 60:200, 30:120] = 1
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        clicked, given = [], []
        for grounding in (ours, theirs):
            features = grounding.encode(pixels)
            prompt = grounding.point_prompt(points, labels, multimask=False)
            clicked.append(grounding.decode(features, grounding.without_memory(features), prompt))
            given.append(grounding.mask_as_output(features, square))
    torch.testing.assert_close(clicked[0].logits, clicked[1].logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(given[0].pointer, given[1].pointer, atol=1e-4, rtol=1e-4)


def test_sizes_that_the_package_lacks_are_named():
    with pytest.raises(UnsupportedCheckpointError, match="patch_kernel"):
        load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32, grounding="sam2")


def test_a_borrowed_decoder_goes_with_transformers_only(tmp_path):
    with pytest.raises(RequestError, match="borrowed"):
        load_checkpoint(NANO_FOLDER, device=CPU, dtype=torch.float32, grounding="sam2", sam2_decoder=tmp_path)


def test_without_the_package_its_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sam2", None)
    monkeypatch.setitem(sys.modules, "sam2.modeling.backbones.hieradet", None)
    with pytest.raises(MissingExtraError, match=r"sa2va-tools\[sam2\]"):
        build_grounding(SMALL.model_copy(update=PACKAGE))
