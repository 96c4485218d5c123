"""Little memory: known by what libraries say, told with numbers and a next step, never called a broken file.

The last part takes the memory away for real, in a process of its own.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from media_makers import make_video
from PIL import Image

from sa2va_tools import shortage
from sa2va_tools.errors import MediaNotFoundError, MediaUnreadableError, OutOfMemoryError
from sa2va_tools.media import failures, videos
from sa2va_tools.media.encode import VideoWriter
from sa2va_tools.media.failures import decoder_errors

ROOT = Path(__file__).parents[1]
_CV2_WORDS = "OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 36 bytes"
_NO_ROOM = av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")


@pytest.fixture
def short(monkeypatch):
    """Not even a little is to be had."""
    monkeypatch.setattr(shortage, "memory_is_short", lambda: True)
    monkeypatch.setattr(failures, "memory_is_short", lambda: True)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (_NO_ROOM, True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (cv2.error(_CV2_WORDS), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (OutOfMemoryError("The answer did not fit."), True),
        (cv2.error("OpenCV(5.0.0) error: (-215:Assertion failed) !empty()"), False),
        (av.error.InvalidDataError(1, "Invalid data found"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (ValueError("out of memory"), False),
        (MediaUnreadableError("out of memory.mp4 is empty"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_class_number_or_words(error, is_one):
    assert shortage.lacks_memory(error) is is_one


@pytest.mark.parametrize("error", [MemoryError(), _NO_ROOM, cv2.error(_CV2_WORDS)])
def test_a_decoder_without_memory_does_not_blame_the_file(error):
    told = pytest.raises(OutOfMemoryError, match=r"a\.mp4 cannot be decoded: memory is short")
    with told as caught, decoder_errors(Path("a.mp4"), "decoded", (4000, 3000)):
        raise error
    assert "4000×3000 takes 34.3 MiB" in caught.value.message and "ulimit" in caught.value.hint


def test_a_file_is_not_called_broken_while_memory_is_short(short):
    words = "could not create decoder object"
    with pytest.raises(OutOfMemoryError, match=words), decoder_errors(Path("a.webp")):
        raise OSError(words)
    with pytest.raises(MediaNotFoundError), decoder_errors(Path("a.webp")):
        raise FileNotFoundError(errno.ENOENT, "No such file")


@pytest.mark.parametrize("where", ["decode", "demux"])
def test_a_packet_is_not_passed_over_for_lack_of_memory(where):
    def fail():
        raise _NO_ROOM

    def demux(stream):
        if where == "demux":
            fail()
        yield SimpleNamespace(is_corrupt=False, size=1, decode=fail)

    faults = []
    frames = videos.decoded_frames(
        Path("a.mp4"),
        SimpleNamespace(demux=demux),
        SimpleNamespace(width=64, height=48),
        on_fault=lambda: faults.append(1),
    )
    with pytest.raises(OutOfMemoryError):
        list(frames)
    assert not faults


def test_a_broken_packet_is_still_passed_over():
    def fail():
        raise av.error.InvalidDataError(1, "Invalid data found")

    faults = []
    packets = [SimpleNamespace(is_corrupt=False, size=size, decode=fail) for size in (1, 0)]
    container = SimpleNamespace(demux=lambda stream: iter(packets))
    stream = SimpleNamespace(width=64, height=48)
    assert not list(videos.decoded_frames(Path("a.mp4"), container, stream, lambda: faults.append(1)))
    assert len(faults) == 2


def test_a_video_that_cannot_be_written_for_lack_of_memory_is_no_fault_of_the_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise _NO_ROOM

    monkeypatch.setattr(VideoWriter, "_new_stream", fail)
    with pytest.raises(OutOfMemoryError, match="64×48"), VideoWriter(tmp_path / "a.mp4", (64, 48), 10):
        pass
    assert not list(tmp_path.iterdir())


def test_what_nobody_expected_is_told_with_a_hint_or_left_alone():
    told = shortage.told(MemoryError())
    assert told is not None and told.message == "Memory is short." and "ulimit" in told.hint
    assert "(Unable to allocate 8 MiB)" in str(shortage.told(MemoryError("Unable to allocate 8 MiB")))
    assert shortage.told(ZeroDivisionError("by zero")) is None


def test_any_error_may_come_from_a_shortage(short):
    told = shortage.told(SystemError("error return without exception set"))
    assert told is not None and "error return without exception set" in told.message


# ---- for real -------------------------------------------------------------------------------------

_STARVED = """
import json, resource, sys
{setup}
told = []
for mib in {steps}:
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + mib * 2**20, -1))
    try:
        said = {work}
    except Exception as error:
        said = [type(error).__name__, str(error)]
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    told.append(said)
print(json.dumps(told))
"""
for_real = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")


def starved(setup: str, work: str, steps: list[int]) -> list:
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
def read():
    media = open_media(Path({path!r}))
    return ["ok" if media.complete and not media.warnings else "damaged", sum(1 for _ in iter_frames(media))]
{first}
"""


@for_real
@pytest.mark.parametrize("suffix", ["mp4", "png", "webp"])
def test_a_sound_file_is_read_whole_or_memory_is_short(tmp_path, suffix):
    path, warm = tmp_path / f"a.{suffix}", tmp_path / f"warm.{suffix}"
    if suffix == "mp4":
        make_video(path, 6, size_wh=(1920, 1080))
        make_video(warm, 2)
    else:
        Image.fromarray(np.zeros((1500, 2000, 3), np.uint8)).save(path)
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(warm)
    # What is imported only at the first use must not be missing later.
    first = f"open_media(Path({str(warm)!r})), list(iter_frames(open_media(Path({str(warm)!r}))))"
    setup = _READING.format(path=str(path), first=first)
    outcomes = starved(setup, "read()", [1, 3, 8, 15, 20, 30])
    frames = 6 if suffix == "mp4" else 1
    assert {tuple(told) for told in outcomes if told[0] != "OutOfMemoryError"} <= {("ok", frames)}
    refused = [said for kind, said in outcomes if kind == "OutOfMemoryError"]
    assert refused and all("memory is short" in said for said in refused)


@for_real
def test_a_mask_is_encoded_or_memory_is_short():
    setup = """
import numpy as np
from sa2va_tools.masks import rle
masks = [np.zeros((3000, 4000), bool), np.random.default_rng(0).random((3000, 4000)) < 0.5]
"""
    for number in (0, 1):
        work = f"['ok', rle.encode(masks[{number}])['size']]"
        outcomes = starved(setup, work, [5, 20, 30, 40, 60, 80, 100, 120, 400])
        refused = [told for told in outcomes if told[0] != "ok"]
        assert all(kind == "MemoryError" or "Insufficient memory" in said for kind, said in refused)
        assert refused and outcomes[-1][0] == "ok"


@for_real
def test_a_mask_of_few_runs_is_encoded_where_one_of_many_is_not():
    setup = """
import numpy as np
from sa2va_tools.masks import rle
mask = np.zeros((3000, 4000), bool)
"""
    assert starved(setup, "['ok', len(rle.encode(mask)['counts'])]", [90])[0][0] == "ok"
