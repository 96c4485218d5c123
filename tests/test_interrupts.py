"""Cancelling is heard in the middle of a pass, and what was begun is let go."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from sa2va_tools.errors import CancelledError
from sa2va_tools.model.checkpoints import NANO_FOLDER
from sa2va_tools.model.prompt import IMAGE
from sa2va_tools.model.runtime import Sa2vaRuntime
from sa2va_tools.progress import CancelToken

PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def runtime():
    return Sa2vaRuntime.load(NANO_FOLDER, device="cpu")


class Stopped:
    """A clip of one frame."""

    def __len__(self):
        return 1

    def key_of(self, position):
        return None

    def frames(self, positions):
        yield PICTURE


def look(runtime):
    runtime.look([PICTURE], video=False)


def answer(runtime):
    runtime.answer(f"{IMAGE}Describe the image.", runtime.look([PICTURE], video=False))


def follow(runtime):
    list(runtime.masks_from_words(Stopped(), np.zeros((1, 128), np.float32)))


@pytest.mark.parametrize(
    ("work", "stage"),
    [
        (look, "mllm.vision_model"),
        (answer, "mllm.language_model"),
        (follow, "grounding.vision_encoder"),
        (follow, "grounding.mask_decoder"),
    ],
)
def test_a_cancel_is_heard_between_two_layers(runtime, work, stage):
    token, tensors, passed = CancelToken(), [], []
    part = runtime._modules.get_submodule(stage)
    layers = next(each for each in part.modules() if isinstance(each, torch.nn.ModuleList))

    def cancel_in_the_first_layer(module, inputs, output):
        passed.append(module)
        first = output[0] if isinstance(output, tuple) else output
        tensors.append(weakref.ref(first))
        token.cancel()

    handles = [layer.register_forward_hook(cancel_in_the_first_layer) for layer in layers]
    try:
        with pytest.raises(CancelledError), runtime.at_work(token):
            work(runtime)
    finally:
        for handle in handles:
            handle.remove()
    assert len(passed) == 1, "the layer after the cancel was not to run"
    gc.collect()
    assert tensors[0]() is None, "what was computed is to be let go"
    with runtime.at_work():
        work(runtime)
