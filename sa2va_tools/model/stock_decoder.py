"""SAM-2's own mask decoder out of a file or folder of stock SAM-2 weights.

Sa2VA's fine-tuning changed the decoder; mode `sa2va-i` propagates with the original (Sa2VA-i, arXiv
2509.19082). Both spellings are read: that of facebookresearch/sam2 and that of transformers.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sa2va_tools.errors import CheckpointMismatchError, CheckpointNotFoundError, UnsupportedCheckpointError
from sa2va_tools.model.fitting import STOCK_DECODER
from sa2va_tools.model.key_mapping import KeyMap
from sa2va_tools.model.sa2va import Sa2VA
from sa2va_tools.model.sam2_keys import STOCK_DECODER_RULES
from sa2va_tools.model.weight_files import read_tensors, weight_files

_HINT = "Give the safetensors of SAM 2 Hiera-L, e.g. facebook/sam2-hiera-large: the size that Sa2VA holds."
_PICKLES = (".pt", ".pth", ".bin", ".ckpt")
_TRANSFORMERS = "mask_decoder."


def stock_decoder(place: Path, modules: Sa2VA) -> dict[str, Tensor]:
    """Parameters by their names in `modules`. Raises CheckpointNotFoundError, CheckpointMismatchError where
    the decoder is not there or of another size, CheckpointError for broken files."""
    if not place.exists():
        raise CheckpointNotFoundError(f"There is no SAM-2 decoder at {place}.", hint=_HINT)
    if place.suffix in _PICKLES:
        raise UnsupportedCheckpointError(
            f"{place} is a pickle, which can run code when it is read.",
            hint="Give a *.safetensors file, such as model.safetensors of facebook/sam2-hiera-large.",
        )
    keys, found = KeyMap(STOCK_DECODER_RULES), dict[str, Tensor]()
    for file in weight_files(place) if place.is_dir() else [place]:
        for key, tensor in read_tensors(file):
            placement = keys.place(key)
            if placement is not None:
                found |= placement.pieces(tensor)
            elif key.startswith(_TRANSFORMERS):
                found[STOCK_DECODER + key.removeprefix(_TRANSFORMERS)] = tensor
    wanted = {
        name: value.shape for name, value in modules.state_dict().items() if name.startswith(STOCK_DECODER)
    }
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise CheckpointMismatchError(
            f"{place} lacks SAM-2's {missing[0]} ({len(missing)} in all).", hint=_HINT
        )
    wrong = [name for name, shape in wanted.items() if found[name].shape != shape]
    if wrong:
        raise CheckpointMismatchError(
            f"{place}: {wrong[0]} has the shape {list(found[wrong[0]].shape)}; "
            f"this checkpoint's SAM-2 wants {list(wanted[wrong[0]])}.",
            hint=_HINT,
        )
    return {name: found[name] for name in wanted}
