"""What clients complete while somebody types: the id of a stored mask in the URI of its resource."""

from __future__ import annotations

from collections.abc import Callable

from mcp.types import Completion, CompletionArgument, PromptReference, ResourceTemplateReference

MASK_URI = "sa2va://masks/{mask_id}/rle.json"
_MAX_VALUES = 100
"""As many as the protocol allows."""


def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    find_handles: Callable[[str], tuple[str, ...]],
) -> Completion:
    """Ids of masks that begin with what was typed, newest first; none for anything else. `find_handles` finds
    handles by their beginning."""
    is_mask_id = isinstance(ref, ResourceTemplateReference) and ref.uri == MASK_URI
    if not is_mask_id or argument.name != "mask_id":
        return Completion(values=[], total=0, has_more=False)
    ids = [handle.partition(":")[2] for handle in find_handles(f"mask:{argument.value}")]
    return Completion(values=ids[:_MAX_VALUES], total=len(ids), has_more=len(ids) > _MAX_VALUES)
