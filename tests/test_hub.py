"""`sa2va pull`, run as a user runs it, against a local server that plays the hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub, serving

from sa2va_tools.model.checkpoints import NANO_FOLDER

WEIGHTS = "model.safetensors"


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
def sa2va(tmp_path, hub):
    """Run a command with a cache of its own and this hub."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "SA2VA_"))},
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "SA2VA_STORE_DIR": str(tmp_path / "store"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "NO_PROXY": "127.0.0.1",
    }

    def run(*words, wait=True, **more):
        command = [sys.executable, "-m", "sa2va_server.cli", *words]
        options = {"env": {**environment, **more}, "text": True, "cwd": tmp_path}
        if not wait:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        return subprocess.run(command, capture_output=True, timeout=120, check=False, **options)

    return run


def _snapshot(tmp_path) -> Path:
    return tmp_path / "hf" / "hub" / "models--test--tiny" / "snapshots" / COMMIT


def test_a_checkpoint_comes_whole_and_is_used_by_its_id(tmp_path, hub, sa2va):
    refused = sa2va("models", "check", "test/tiny")
    assert refused.returncode == 1
    assert "sa2va pull test/tiny" in refused.stderr
    pulled = sa2va("pull", "test/tiny", "--json")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout) == {"model": "test/tiny", "folder": str(_snapshot(tmp_path))}
    names = {path.name for path in _snapshot(tmp_path).iterdir()}
    assert {"config.json", WEIGHTS, "tokenizer.json"} <= names
    assert not names & {"modeling_sa2va_chat.py", "pytorch_model.bin"}
    assert (_snapshot(tmp_path) / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()
    checked = sa2va("models", "check", "test/tiny", HF_HUB_OFFLINE="1")
    assert checked.returncode == 0, checked.stdout
    hub.asked.clear()
    assert sa2va("pull", "test/tiny@main").returncode == 0
    assert not [path for method, path, _ in hub.asked if method == "GET" and path.endswith(WEIGHTS)]


def _starts(hub, name) -> list[int]:
    """Where the downloads of that file began."""
    return [
        int((asked or "bytes=0-").removeprefix("bytes=").split("-")[0])
        for method, path, asked in hub.asked
        if method == "GET" and path.endswith(name)
    ]


def _add_shard(hub) -> Path:
    """A second file of weights, larger than the blocks in which a download is written."""
    path = hub.folder / "second.safetensors"
    path.write_bytes(os.urandom(48 * 2**20))
    return path


def test_after_a_cut_the_rest_comes_and_not_the_whole(tmp_path, hub, sa2va):
    shard = _add_shard(hub)
    hub.cut_after[shard.name] = 30 * 2**20
    pulled = sa2va("pull", "test/tiny")
    assert pulled.returncode == 0, pulled.stderr
    starts = _starts(hub, shard.name)
    assert starts[0] == 0
    assert starts[1:]
    assert min(starts[1:]) > 0
    assert (_snapshot(tmp_path) / shard.name).read_bytes() == shard.read_bytes()


def test_ctrl_c_leaves_nothing_that_looks_whole_and_the_next_call_goes_on(tmp_path, hub, sa2va):
    shard = _add_shard(hub)
    hub.pause_s = 0.1
    process = sa2va("pull", "test/tiny", wait=False)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in (tmp_path / "hf").rglob("*.part")) or not _starts(
        hub, shard.name
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert not (_snapshot(tmp_path) / shard.name).exists()
    hub.asked.clear()
    hub.pause_s = 0.0
    assert sa2va("pull", "test/tiny").returncode == 0
    assert min(_starts(hub, shard.name)) > 0
    assert (_snapshot(tmp_path) / shard.name).read_bytes() == shard.read_bytes()


def test_a_file_with_another_hash_is_removed_and_named(tmp_path, hub, sa2va):
    hub.spoilt.add(WEIGHTS)
    failed = sa2va("pull", "test/tiny")
    assert failed.returncode == 1
    assert f"{WEIGHTS} of test/tiny came with another hash" in failed.stderr
    assert not (_snapshot(tmp_path) / WEIGHTS).exists()
    blobs = _snapshot(tmp_path).parents[1] / "blobs"
    assert all(path.stat().st_size < 100_000 for path in blobs.iterdir() if path.name != "config.json")
    hub.spoilt.clear()
    assert sa2va("pull", "test/tiny").returncode == 0


def test_an_unsupported_checkpoint_is_refused_before_its_weights(hub, sa2va):
    config = json.loads((hub.folder / "config.json").read_text(encoding="utf-8"))
    (hub.folder / "config.json").write_text(json.dumps(config | {"model_type": "llava"}), encoding="utf-8")
    failed = sa2va("pull", "test/tiny")
    assert failed.returncode == 1
    assert "llava" in failed.stderr
    assert not [path for method, path, _ in hub.asked if method == "GET" and path.endswith(WEIGHTS)]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("test/nothing", "There is no test/nothing"),
        ("test/tiny@v9", "no revision 'v9'"),
        ("tiny", "no hub id"),
    ],
)
def test_what_is_not_there_is_said(sa2va, model, said):
    failed = sa2va("pull", model)
    assert failed.returncode in (1, 2)
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr


def test_pickles_alone_are_refused_with_the_reason(hub, sa2va):
    (hub.folder / WEIGHTS).unlink()
    failed = sa2va("pull", "test/tiny")
    assert failed.returncode == 1
    assert "can run code" in failed.stderr


def test_no_network_is_one_sentence(sa2va):
    failed = sa2va("pull", "test/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert failed.returncode == 1
    assert "could not be downloaded" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_mirror_that_lists_names_only_is_asked_file_by_file(tmp_path, hub, sa2va):
    hub.bare = True
    pulled = sa2va("pull", "test/tiny")
    assert pulled.returncode == 0, pulled.stderr
    assert (_snapshot(tmp_path) / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()


def test_a_server_that_stumbles_is_asked_again(hub, sa2va):
    hub.fails[WEIGHTS] = [503, 429]
    pulled = sa2va("pull", "test/tiny")
    assert pulled.returncode == 0, pulled.stderr
    assert len(_starts(hub, WEIGHTS)) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_no_leave_to_read_a_file_is_about_tokens(hub, sa2va, status):
    hub.fails[WEIGHTS] = [status] * 9
    failed = sa2va("pull", "test/tiny")
    assert failed.returncode == 1
    assert "no leave" in failed.stderr or "gated" in failed.stderr
    assert "HF_TOKEN" in failed.stderr


def test_a_rest_of_another_file_is_thrown_away(tmp_path, hub, sa2va):
    """What lies there is longer than the file: the server has nothing that follows it."""
    blobs = _snapshot(tmp_path).parents[1] / "blobs"
    blobs.mkdir(parents=True)
    whole = (hub.folder / WEIGHTS).read_bytes()
    (blobs / f"{hashlib.sha256(whole).hexdigest()}.part").write_bytes(whole + b"more")
    pulled = sa2va("pull", "test/tiny")
    assert pulled.returncode == 0 or "another hash" in pulled.stderr
    assert sa2va("pull", "test/tiny").returncode == 0
    assert (_snapshot(tmp_path) / WEIGHTS).read_bytes() == whole


def test_offline_a_whole_checkpoint_is_there_and_a_part_is_not(tmp_path, hub, sa2va):
    refused = sa2va("pull", "test/tiny", HF_HUB_OFFLINE="1")
    assert refused.returncode == 1 and "HF_HUB_OFFLINE is set" in refused.stderr
    assert sa2va("pull", "test/tiny").returncode == 0
    hub.asked.clear()
    assert sa2va("pull", "test/tiny", HF_HUB_OFFLINE="1").returncode == 0
    assert not hub.asked


def test_a_cache_that_cannot_be_written_is_said(tmp_path, sa2va):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    failed = sa2va("pull", "test/tiny", HF_HOME=str(tmp_path / "file"))
    assert failed.returncode == 1
    assert "cannot be written" in failed.stderr and "HF_HOME" in failed.stderr
