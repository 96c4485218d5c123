"""Out-of-memory errors: recognised by what libraries say, never taken for a broken file.

The last part takes the memory away for real, in a process of its own.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sa2va_tools.errors import MediaUnreadableError, OutOfMemoryError
from sa2va_tools.memory_errors import as_out_of_memory_error, is_memory_error, translate_memory_errors

ROOT = Path(__file__).parents[1]
_CV2_WORDS = "OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 36 bytes"
_NO_MEMORY = av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (_NO_MEMORY, True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (cv2.error(_CV2_WORDS), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("could not create a primitive"), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (OutOfMemoryError("The answer does not fit."), True),
        (cv2.error("OpenCV(5.0.0) error: (-215:Assertion failed) !empty()"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (av.error.InvalidDataError(1, "Invalid data found"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (ValueError("out of memory"), False),
        (MediaUnreadableError("out of memory.mp4 is empty"), False),
    ],
)
def test_an_out_of_memory_error_is_recognised_by_class_number_or_words(error, is_one):
    assert is_memory_error(error) is is_one


def test_the_error_quotes_the_library_and_says_what_to_do():
    error = as_out_of_memory_error(MemoryError("Unable to allocate 8 MiB"))
    assert error is not None
    assert error.message == "Not enough memory (Unable to allocate 8 MiB)." and "ulimit" in error.hint
    assert as_out_of_memory_error(MemoryError()).message == "Not enough memory."
    assert as_out_of_memory_error(ZeroDivisionError("by zero")) is None


def test_only_out_of_memory_errors_are_translated():
    with pytest.raises(OutOfMemoryError), translate_memory_errors():
        raise cv2.error(_CV2_WORDS)
    with pytest.raises(ZeroDivisionError), translate_memory_errors():
        raise ZeroDivisionError
    own = OutOfMemoryError("a.mp4 cannot be decoded.", hint="Make it smaller.")
    with pytest.raises(OutOfMemoryError) as caught, translate_memory_errors():
        raise own
    assert caught.value is own


# ---- for real -------------------------------------------------------------------------------------

_STARVED = """
import json, resource, sys
{setup}
outcomes = []
for mib in {steps}:
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + mib * 2**20, -1))
    try:
        outcome = {work}
    except Exception as error:
        outcome = [type(error).__name__, str(error)]
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    outcomes.append(outcome)
print(json.dumps(outcomes))
"""
for_real = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")


def starve(setup: str, work: str, steps: list[int]) -> list:
    """What `work` gives with so many MiB more than it begins with, or the name and text of its error."""
    code = _STARVED.format(setup=setup, work=work, steps=steps)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return json.loads(done.stdout)


_READING = """
from pathlib import Path
from sa2va_tools.media.decode import iter_frames
from sa2va_tools.media.media import open_media
def read(path):
    media = open_media(Path(path))
    return ["ok" if media.complete and not media.warnings else "damaged", sum(1 for _ in iter_frames(media))]
read({warm!r})  # what is imported only at the first use must not be missing later
"""


@for_real
def test_a_sound_image_is_read_or_there_is_not_enough_memory(tmp_path):
    path, warm = str(tmp_path / "a.png"), str(tmp_path / "warm.png")
    Image.fromarray(np.zeros((1500, 2000, 3), np.uint8)).save(path)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(warm)
    outcomes = starve(_READING.format(warm=warm), f"read({path!r})", [1, 3, 8, 15, 20, 30])
    assert {tuple(outcome) for outcome in outcomes if outcome[0] != "OutOfMemoryError"} <= {("ok", 1)}
    refused = [text for kind, text in outcomes if kind == "OutOfMemoryError"]
    assert refused and all("not enough memory" in text.lower() for text in refused)


@for_real
def test_a_mask_is_encoded_or_there_is_not_enough_memory():
    setup = """
import numpy as np
from sa2va_tools.masks import rle
masks = [np.zeros((3000, 4000), bool), np.random.default_rng(0).random((3000, 4000)) < 0.5]
"""
    for number in (0, 1):
        work = f"['ok', rle.encode(masks[{number}])['size']]"
        outcomes = starve(setup, work, [5, 20, 30, 40, 60, 80, 100, 120, 400])
        refused = [outcome for outcome in outcomes if outcome[0] != "ok"]
        assert all(kind == "MemoryError" or "Insufficient memory" in text for kind, text in refused)
        assert refused and outcomes[-1][0] == "ok"


@for_real
def test_a_mask_of_few_runs_is_encoded_where_one_of_many_is_not():
    setup = """
import numpy as np
from sa2va_tools.masks import rle
mask = np.zeros((3000, 4000), bool)
"""
    assert starve(setup, "['ok', len(rle.encode(mask)['counts'])]", [90])[0][0] == "ok"
