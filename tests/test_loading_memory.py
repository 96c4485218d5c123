"""Loading streams: in addition to the model, no more than about one shard is in memory at any time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sa2va_tools.model.checkpoints.config_file import parse_config
from sa2va_tools.model.checkpoints.loader import save_checkpoint
from sa2va_tools.model.hub.names import NANO_FOLDER
from sa2va_tools.model.sa2va import build_empty

SHARDS = 6
_LOAD = """
import json, os, sys
import torch
from pathlib import Path
from sa2va_tools.model.checkpoints.loader import load_checkpoint
from sa2va_tools.run import Run

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def peak():
    return int([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]) * 1024

torch.set_num_threads(1)
cpu = (torch.device("cpu"),)
load_checkpoint(Path(sys.argv[3]), devices=cpu, dtype=torch.float32, run=Run())  # imports everything
before = resident()
open("/proc/self/clear_refs", "w").write("5")
loaded = load_checkpoint(Path(sys.argv[1]), devices=cpu, dtype=getattr(torch, sys.argv[2]), run=Run())
model = sum(p.numel() * p.element_size() for p in loaded.modules.parameters())
print(json.dumps({"before": before, "peak": peak(), "model": model}))
"""


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    """A checkpoint of some 150 million parameters in shards of equal size, with an index."""
    folder = tmp_path_factory.mktemp("sharded")
    for file in NANO_FOLDER.glob("tokenizer*.json"):
        shutil.copy(file, folder)
    raw = json.loads((NANO_FOLDER / "config.json").read_text(encoding="utf-8"))
    raw["llm_config"] |= {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 10}
    modules = build_empty(parse_config(raw)).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in modules.parameters():
            parameter.fill_(0.5)
    save_checkpoint(modules, raw, folder, dtype=torch.float32)
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    share = sum(tensor.nbytes for tensor in tensors.values()) / SHARDS
    groups = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if filled >= share and len(groups) < SHARDS:
            groups.append({})
            filled = 0
        groups[-1][name] = tensor
        filled += tensor.nbytes
    index = {}
    for number, group in enumerate(groups, start=1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        save_file(group, folder / file)
        index |= dict.fromkeys(group, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    return folder


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_peak_is_the_model_and_about_one_shard(sharded, dtype):
    shard = max(path.stat().st_size for path in sharded.glob("*.safetensors"))
    run = subprocess.run(
        [sys.executable, "-c", _LOAD, str(sharded), dtype, str(NANO_FOLDER)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(run.stdout)
    above = found["peak"] - found["before"] - found["model"]
    assert found["model"] > 4 * shard * (1 if dtype == "float32" else 0.5)
    assert above <= 1.2 * shard, f"{above / 1e6:.0f} MB above the model; a shard has {shard / 1e6:.0f} MB"
