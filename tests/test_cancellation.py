"""A cancel is noticed inside a forward pass, and what was computed so far is freed."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import numpy as np
import pytest
import torch

from sa2va_tools.engine import model_host
from sa2va_tools.errors import CancelledError
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.runtime.runtime import Sa2vaRuntime
from sa2va_tools.model.text.prompts import IMAGE
from sa2va_tools.model.tracking.frame_features import SingleFrame
from sa2va_tools.run import Run

PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def runtime():
    return Sa2vaRuntime.load(NANO_FOLDER, device="cpu")


def encode(session):
    session.language.get_image_features(lambda: [PICTURE], video=False)


def answer(session):
    features = session.language.get_image_features(lambda: [PICTURE], video=False)
    session.language.answer(f"{IMAGE}Describe the image.", features)


def track(session):
    list(session.masks.track_words(SingleFrame(PICTURE), np.zeros((1, 128), np.float32)))


@pytest.mark.parametrize(
    ("work", "stage"),
    [
        (encode, "mllm.vision_model"),
        (answer, "mllm.language_model"),
        (track, "sam2.vision_encoder"),
        (track, "sam2.mask_decoder"),
    ],
)
def test_a_cancel_is_noticed_between_two_layers(runtime, work, stage):
    run, tensors, passed = Run(), [], []
    part = runtime.checkpoint.modules.get_submodule(stage)
    layers = next(each for each in part.modules() if isinstance(each, torch.nn.ModuleList))

    def cancel_in_the_first_layer(module, inputs, output):
        passed.append(module)
        first = output[0] if isinstance(output, tuple) else output
        tensors.append(weakref.ref(first))
        run.cancel()

    handles = [layer.register_forward_hook(cancel_in_the_first_layer) for layer in layers]
    try:
        with pytest.raises(CancelledError), runtime.session(run) as session:
            work(session)
    finally:
        for handle in handles:
            handle.remove()
    assert len(passed) == 1, "the layer after the cancel ran"
    del session
    gc.collect()
    assert tensors[0]() is None, "what was computed is still in memory"
    with runtime.session(Run()) as session:
        work(session)


def test_a_cancel_is_noticed_while_libraries_are_imported(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(1.5)\nSa2vaRuntime = 1\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(model_host, "_RUNTIME", "slow_to_import")
    run = Run()
    threading.Timer(0.1, run.cancel).start()
    with pytest.raises(CancelledError):
        model_host._import_runtime(run)
    model_host._import_runtime(Run())
    assert sys.modules["slow_to_import"].Sa2vaRuntime == 1


def test_what_an_import_raises_is_raised_to_the_caller(tmp_path, monkeypatch):
    (tmp_path / "without_torch.py").write_text("import torch_that_is_not_there\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(model_host, "_RUNTIME", "without_torch")
    with pytest.raises(ModuleNotFoundError, match="torch_that_is_not_there"):
        model_host._import_runtime(Run())
