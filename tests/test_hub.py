"""Downloading a checkpoint, in a process of its own, from a local server that stands in for the hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub, serving

from sa2va_tools.model.hub.names import NANO_FOLDER, find_hub_reference

WEIGHTS = "model.safetensors"
_PATIENCE_S = 400  # until a process is taken to hang, on however busy a machine
# The hub's library reads its environment once, when it is imported: each call needs a new process.
_PROGRAM = """
import signal, sys
from sa2va_tools.errors import Sa2vaError
from sa2va_tools.model.hub.names import find_checkpoint, find_hub_reference
from sa2va_tools.model.hub.pull import pull
from sa2va_tools.run import Run

run = Run()
signal.signal(signal.SIGINT, lambda *_: run.cancel())
command, model = sys.argv[1:]
try:
    print(find_checkpoint(model) if command == "find" else pull(find_hub_reference(model), run=run))
except Sa2vaError as error:
    sys.exit(f"{type(error).__name__}: {error.message} {error.hint}")
"""


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "remote"
    folder.mkdir()
    for file in NANO_FOLDER.iterdir():
        if file.suffix in {".json", ".safetensors"}:
            shutil.copy(file, folder)
    (folder / "modeling_sa2va_chat.py").write_text("raise SystemExit", encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with serving(Hub(folder)) as served:
        yield served


@pytest.fixture
def call(tmp_path, hub):
    """Run `pull` or `find_checkpoint` with this hub and an empty cache."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NO_PROXY": "127.0.0.1",
    }

    def run(command, model, wait=True, **more):
        words = [sys.executable, "-c", _PROGRAM, command, model]
        options = {"env": {**environment, **more}, "text": True, "cwd": tmp_path}
        if not wait:
            return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        return subprocess.run(words, capture_output=True, timeout=_PATIENCE_S, check=False, **options)

    return run


@pytest.fixture
def pull(call):
    return lambda model="test/tiny", **options: call("pull", model, **options)


def _snapshot(tmp_path) -> Path:
    return tmp_path / "hf" / "hub" / "models--test--tiny" / "snapshots" / COMMIT


def test_a_pulled_checkpoint_is_complete_and_found_by_its_id(tmp_path, hub, call, pull):
    refused = call("find", "test/tiny")
    assert refused.returncode == 1
    assert "sa2va pull test/tiny" in refused.stderr
    pulled = pull()
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.strip() == str(_snapshot(tmp_path))
    names = {path.name for path in _snapshot(tmp_path).iterdir()}
    assert {"config.json", WEIGHTS, "tokenizer.json"} <= names
    assert not names & {"modeling_sa2va_chat.py", "pytorch_model.bin"}
    assert (_snapshot(tmp_path) / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()
    found = call("find", "test/tiny", HF_HUB_OFFLINE="1")
    assert found.stdout == pulled.stdout
    hub.requests.clear()
    assert pull("test/tiny@main").returncode == 0
    assert not _starts(hub, WEIGHTS), "nothing is downloaded twice"


def _starts(hub, name) -> list[int]:
    """The first byte of each download of that file."""
    return [
        int((asked or "bytes=0-").removeprefix("bytes=").split("-")[0])
        for method, path, asked in hub.requests
        if method == "GET" and path.endswith(name)
    ]


def _add_shard(hub) -> Path:
    """A second file of weights, larger than the blocks in which a download is written."""
    path = hub.folder / "second.safetensors"
    path.write_bytes(os.urandom(48 * 2**20))
    return path


def test_a_broken_connection_is_resumed(tmp_path, hub, pull):
    shard = _add_shard(hub)
    hub.cut_after[shard.name] = 30 * 2**20
    pulled = pull()
    assert pulled.returncode == 0, pulled.stderr
    starts = _starts(hub, shard.name)
    assert starts[0] == 0
    assert starts[1:]
    assert min(starts[1:]) > 0
    assert (_snapshot(tmp_path) / shard.name).read_bytes() == shard.read_bytes()


def test_a_cancelled_download_leaves_no_whole_file_and_is_resumed(tmp_path, hub, pull):
    shard = _add_shard(hub)
    hub.hold_after[shard.name] = 30 * 2**20
    process = pull(wait=False)
    assert hub.is_holding.wait(_PATIENCE_S)
    process.send_signal(signal.SIGINT)
    hub.resume.set()
    _, errors = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 1 and "CancelledError" in errors
    assert not (_snapshot(tmp_path) / shard.name).exists()
    hub.requests.clear()
    assert pull().returncode == 0
    assert min(_starts(hub, shard.name)) > 0
    assert (_snapshot(tmp_path) / shard.name).read_bytes() == shard.read_bytes()


def test_a_corrupted_file_is_removed_and_named(tmp_path, hub, pull):
    hub.corrupted.add(WEIGHTS)
    failed = pull()
    assert failed.returncode == 1
    assert f"{WEIGHTS} of test/tiny does not match the hub's hash" in failed.stderr
    assert not (_snapshot(tmp_path) / WEIGHTS).exists()
    blobs = _snapshot(tmp_path).parents[1] / "blobs"
    assert all(path.stat().st_size < 100_000 for path in blobs.iterdir() if path.name != "config.json")
    hub.corrupted.clear()
    assert pull().returncode == 0


def test_a_name_without_an_owner_is_a_published_one_or_none():
    assert str(find_hub_reference("sa2va-4b@v2")) == "ByteDance/Sa2VA-4B@v2"
    assert find_hub_reference("tiny") is None


def test_an_unsupported_checkpoint_is_refused_before_its_weights(hub, pull):
    config = json.loads((hub.folder / "config.json").read_text(encoding="utf-8"))
    (hub.folder / "config.json").write_text(json.dumps(config | {"model_type": "llava"}), encoding="utf-8")
    failed = pull()
    assert failed.returncode == 1
    assert "llava" in failed.stderr
    assert not [path for method, path, _ in hub.requests if method == "GET" and path.endswith(WEIGHTS)]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("test/nothing", "There is no test/nothing"),
        ("test/not--allowed", "There is no test/not--allowed"),
        ("test/tiny@v9", "no revision 'v9'"),
    ],
)
def test_a_missing_repository_or_revision_is_named(pull, model, message):
    failed = pull(model)
    assert failed.returncode == 1
    assert failed.stderr.startswith("CheckpointNotFoundError: ")
    assert message in failed.stderr


def test_pickles_are_refused_with_the_reason(hub, pull):
    (hub.folder / WEIGHTS).unlink()
    failed = pull()
    assert failed.returncode == 1
    assert "can run code" in failed.stderr


def test_a_hub_that_cannot_be_reached_is_an_error_of_ours(pull):
    failed = pull(HF_ENDPOINT="http://127.0.0.1:9")
    assert failed.returncode == 1
    assert failed.stderr.startswith("CheckpointError: test/tiny could not be downloaded")


def test_a_mirror_without_hashes_in_its_listing_works(tmp_path, hub, pull):
    hub.bare = True
    pulled = pull()
    assert pulled.returncode == 0, pulled.stderr
    assert (_snapshot(tmp_path) / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()


def test_temporary_errors_of_the_server_are_retried(hub, pull):
    hub.fails[WEIGHTS] = [503, 429]
    pulled = pull()
    assert pulled.returncode == 0, pulled.stderr
    assert len(_starts(hub, WEIGHTS)) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_missing_access_to_a_file_is_about_tokens(hub, pull, status):
    hub.fails[WEIGHTS] = [status] * 9
    failed = pull()
    assert failed.returncode == 1
    assert "does not allow" in failed.stderr or "gated" in failed.stderr
    assert "HF_TOKEN" in failed.stderr


def test_a_part_that_is_longer_than_the_file_is_discarded(tmp_path, hub, pull):
    blobs = _snapshot(tmp_path).parents[1] / "blobs"
    blobs.mkdir(parents=True)
    whole = (hub.folder / WEIGHTS).read_bytes()
    (blobs / f"{hashlib.sha256(whole).hexdigest()}.part").write_bytes(whole + b"more")
    pulled = pull()
    assert pulled.returncode == 0 or "does not match the hub" in pulled.stderr
    assert pull().returncode == 0
    assert (_snapshot(tmp_path) / WEIGHTS).read_bytes() == whole


def test_offline_only_a_complete_checkpoint_is_found(tmp_path, hub, pull):
    refused = pull(HF_HUB_OFFLINE="1")
    assert refused.returncode == 1 and "HF_HUB_OFFLINE is set" in refused.stderr
    assert pull().returncode == 0
    hub.requests.clear()
    assert pull(HF_HUB_OFFLINE="1").returncode == 0
    assert not hub.requests


def test_a_cache_that_cannot_be_written_is_named(tmp_path, pull):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    failed = pull(HF_HOME=str(tmp_path / "file"))
    assert failed.returncode == 1
    assert "cannot be written" in failed.stderr and "HF_HOME" in failed.stderr
