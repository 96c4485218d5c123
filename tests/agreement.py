"""How nearly two computations of the same masks have to agree.

The same object may be computed in other company: with other objects or frames in one batch, from features
that were cached, by another processor's kernels. Sums then run in another order and logits differ: by 1e-5,
and by up to 1e-3 on tracked frames, since memories are stored in bfloat16 and may round the other way. A
pixel whose logit is that near to the threshold may fall on either side. Such pixels are rare (with torch's
plain kernels instead of AVX2, 9 pixels changed in 1617 masks of these tests): one in a thousand of a mask is
allowed, and one in any mask, however small.

Scores are means of probabilities and differ even less, but for one case: of SAM-2's candidate masks the one
with the highest predicted IoU is taken, and two candidates that are nearly alike may be nearly tied (1e-5
apart in some of these clips). The other one has the same pixels, and mask scores that differ by 0.002.
"""

from __future__ import annotations

import re

import numpy as np

from sa2va_tools.engine.mask_object import MaskObject
from sa2va_tools.masks.track import MaskTrack

PIXEL_SHARE = 1e-3
"""Of the pixels that either mask has, those that may differ."""
SCORE = 5e-3


def assert_same_masks(ours: MaskTrack, theirs: MaskTrack) -> None:
    """Both cover the same frames, with nearly the same pixels and scores."""
    assert ours.frame_indices == theirs.frame_indices
    for frame in ours.frame_indices:
        one, other = ours.mask(frame), theirs.mask(frame)
        different, either = int((one != other).sum()), int((one | other).sum())
        assert different <= max(1, PIXEL_SHARE * either), f"frame {frame}: {different} of {either} pixels"
    np.testing.assert_allclose(ours.object_scores, theirs.object_scores, atol=SCORE, rtol=0)
    np.testing.assert_allclose(ours.mask_scores, theirs.mask_scores, atol=SCORE, rtol=0)


def assert_same_object(ours: MaskObject, theirs: MaskObject) -> None:
    """Both were found or not for the same reason, with nearly the same masks; their handles are equal just
    where their pixels are."""
    assert (ours.label, ours.found) == (theirs.label, theirs.found)
    assert re.sub(r"[\d.]+", "#", ours.reason) == re.sub(r"[\d.]+", "#", theirs.reason)  # it may tell a score
    assert (ours.track is None) == (theirs.track is None)
    if ours.track is None or theirs.track is None:
        assert ours.handle is theirs.handle is None
        return
    assert_same_masks(ours.track, theirs.track)
    assert (ours.handle == theirs.handle) == (ours.track.rles == theirs.track.rles)
