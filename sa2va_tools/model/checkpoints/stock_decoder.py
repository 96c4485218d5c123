"""SAM-2's own mask decoder, from a file or folder of stock SAM-2 weights.

Sa2VA's fine-tuning changed the decoder; mode `sa2va-i` propagates with the original (Sa2VA-i, arXiv
2509.19082). Parameter names of facebookresearch/sam2 and of transformers are both understood.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sa2va_tools.errors import CheckpointMismatchError, CheckpointNotFoundError, UnsupportedCheckpointError
from sa2va_tools.model.checkpoints.safetensors_files import find_weight_files, read_tensors
from sa2va_tools.model.checkpoints.validation import STOCK_DECODER
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.model.sam2.key_rules import STOCK_DECODER_RULES

_HINT = "Give the safetensors of SAM 2 Hiera-L, such as facebook/sam2-hiera-large: the size that Sa2VA uses."
_PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_TRANSFORMERS_PREFIX = "mask_decoder."


def read_stock_decoder(path: Path, modules: Sa2VA) -> dict[str, Tensor]:
    """The decoder's parameters by their names in `modules`. CheckpointNotFoundError, CheckpointMismatchError
    for a missing decoder or another size, CheckpointError for broken files."""
    if not path.exists():
        raise CheckpointNotFoundError(f"There is no SAM-2 decoder at {path}.", hint=_HINT)
    if path.suffix in _PICKLE_SUFFIXES:
        raise UnsupportedCheckpointError(
            f"{path} is a pickle, which can run code when it is read.",
            hint="Give a *.safetensors file, such as model.safetensors of facebook/sam2-hiera-large.",
        )
    found = _read_decoder_tensors(path)
    expected = {
        name: value.shape for name, value in modules.state_dict().items() if name.startswith(STOCK_DECODER)
    }
    missing = sorted(set(expected) - set(found))
    if missing:
        raise CheckpointMismatchError(
            f"{path} lacks {len(missing)} parameter(s) of SAM-2, such as {missing[0]}.", hint=_HINT
        )
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise CheckpointMismatchError(
                f"{path}: {name} has the shape {list(found[name].shape)}; "
                f"this checkpoint's SAM-2 needs {list(shape)}.",
                hint=_HINT,
            )
    return {name: found[name] for name in expected}


def _read_decoder_tensors(path: Path) -> dict[str, Tensor]:
    keys = KeyMap(STOCK_DECODER_RULES)
    tensors: dict[str, Tensor] = {}
    for file in find_weight_files(path) if path.is_dir() else [path]:
        for key, tensor in read_tensors(file):
            placement = keys.place(key)
            if placement is not None:
                tensors |= placement.pieces(tensor)
            elif key.startswith(_TRANSFORMERS_PREFIX):
                tensors[STOCK_DECODER + key.removeprefix(_TRANSFORMERS_PREFIX)] = tensor
    return tensors
