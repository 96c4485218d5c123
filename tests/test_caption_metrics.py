"""Scores of the masks of grounded captions, compared with values worked out by hand and with COCO."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sa2va_tools.evaluation.caption_metrics import (
    GroundedPicture,
    average_precision,
    compare_masks,
    mask_recall,
    mean_mask_iou,
)
from sa2va_tools.evaluation.metrics import bootstrap
from sa2va_tools.masks.rle import encode

SIZE = (24, 32)


def columns(*ranges: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((len(ranges), 4, 20), bool)
    for mask, (x0, x1) in zip(masks, ranges, strict=True):
        mask[:, x0:x1] = True
    return masks


def test_every_mask_is_compared_with_every_true_mask():
    picture = compare_masks(columns((0, 4), (10, 12)), columns((0, 8), (2, 6), (19, 20)))
    # 4 of 8 columns; 2 of 6; none. The second mask overlaps with none.
    assert picture.ious == (pytest.approx((1 / 2, 1 / 3, 0)), (0, 0, 0))
    assert (picture.scores, picture.targets) == ((1.0, 1.0), 3)


def test_empty_masks_overlap_with_nothing():
    assert compare_masks(columns((0, 0)), columns((0, 0))).ious == ((0.0,),)


def test_masks_are_matched_one_to_one_best_first():
    # IoUs of predicted masks (rows) with true ones: 0.8 and 0.6; 0.7 and 0.1. The best match, 0.8, leaves 0.1
    # for the others, although 0.6 + 0.7 would be more. A third true mask has no match.
    picture = GroundedPicture(((0.8, 0.6, 0.0), (0.7, 0.1, 0.0)), (1.0, 1.0), 3)
    assert mean_mask_iou([picture]) == pytest.approx((0.8 + 0.1) / 2)
    assert mean_mask_iou([picture], count_missed=True) == pytest.approx((0.8 + 0.1) / 3)
    assert mask_recall([picture]) == pytest.approx(1 / 3)
    assert mask_recall([picture], threshold=0.1) == pytest.approx(2 / 3)


def test_a_repeated_mask_is_matched_once():
    picture = compare_masks(columns((0, 4), (0, 4)), columns((0, 4), (10, 14)))
    assert mask_recall([picture]) == pytest.approx(1 / 2)
    assert mean_mask_iou([picture], count_missed=True) == pytest.approx(1 / 2)


def test_giou_averages_over_pictures_and_recall_over_masks():
    right = compare_masks(columns((0, 4), (5, 9), (10, 14)), columns((0, 4), (5, 9), (10, 14)))
    missed = compare_masks(columns((0, 4)), columns((6, 8)))
    silent = compare_masks(columns(), columns((6, 8)))
    assert mean_mask_iou([right, missed, silent]) == pytest.approx(1 / 3)
    assert mask_recall([right, missed, silent]) == pytest.approx(3 / 5)


def test_pictures_without_true_masks():
    neither = compare_masks(columns(), columns())
    invented = compare_masks(columns((0, 4)), columns())
    assert (mean_mask_iou([neither]), mean_mask_iou([invented])) == (1.0, 0.0)
    for score in (mask_recall, average_precision):
        for pictures in ([], [neither, invented]):
            with pytest.raises(ValueError, match="at least one"):
                score(pictures)
    with pytest.raises(ValueError, match="at least one"):
        mean_mask_iou([])


def test_average_precision_by_hand():
    # Ranked: hit, miss, hit, of 4 true masks. Precision 1 up to recall 1/4 (levels 0 … 0.25: 26), then 2/3
    # up to 1/2 (levels 0.26 … 0.5: 25), then 0: (26 + 25 · 2/3) / 101.
    truth = columns((0, 2), (4, 6), (8, 10), (12, 14))
    predicted = columns((0, 2), (17, 19), (4, 6))
    first = average_precision([compare_masks(predicted, truth, [0.9, 0.8, 0.7])])
    assert first == pytest.approx((26 + 25 * 2 / 3) / 101)
    # The miss last: precision 1 up to recall 1/2, 51 levels.
    assert average_precision([compare_masks(predicted, truth, [0.9, 0.6, 0.7])]) == pytest.approx(51 / 101)


def test_average_precision_of_everything_and_of_nothing():
    truth = columns((0, 2), (4, 6))
    assert average_precision([compare_masks(truth, truth)]) == pytest.approx(1.0)
    assert average_precision([compare_masks(columns(), truth)]) == 0.0
    assert average_precision([compare_masks(columns((8, 9)), truth)]) == 0.0


def test_an_iou_of_exactly_half_is_a_hit():
    half, less = (
        compare_masks(columns((0, 4)), columns((0, 8))),
        compare_masks(columns((0, 3)), columns((0, 8))),
    )
    assert (average_precision([half]), average_precision([less])) == (pytest.approx(1.0), 0.0)
    assert (mask_recall([half]), mask_recall([less])) == (1.0, 0.0)


def coco_average_precision(pictures: Sequence[tuple[np.ndarray, np.ndarray, Sequence[float]]]) -> float:
    """AP50 of (predicted, true, scores) by pycocotools."""
    truths, found = [], []
    for i, (predicted, target, scores) in enumerate(pictures, 1):
        for mask in target:
            truths.append(
                {"image_id": i, "segmentation": encode(mask), "area": int(mask.sum()), "iscrowd": 0}
            )
        for mask, score in zip(predicted, scores, strict=True):
            found.append({"image_id": i, "category_id": 1, "segmentation": encode(mask), "score": score})
    for i, truth in enumerate(truths, 1):
        truth |= {"id": i, "category_id": 1}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(1, len(pictures) + 1)],
            "annotations": truths,
            "categories": [{"id": 1, "name": "object"}],
        }
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(found), "segm")
        judge.params.iouThrs = np.array([0.5])
        judge.evaluate()
        judge.accumulate()
    return float(judge.eval["precision"][0, :, 0, 0, -1].mean())


def some_pictures(seed: int, count: int = 12) -> list[tuple[np.ndarray, np.ndarray, list[float]]]:
    """True boxes, and predicted ones: shifted by a pixel or two, some missing, repeated or invented."""
    rng = np.random.default_rng(seed)

    def boxes(n: int) -> np.ndarray:
        masks = np.zeros((n, *SIZE), bool)
        for mask in masks:
            y, x = rng.integers(0, 16), rng.integers(0, 22)
            mask[y : y + rng.integers(3, 8), x : x + rng.integers(3, 10)] = True
        return masks

    pictures = []
    for _ in range(count):
        target = boxes(int(rng.integers(0, 5)))
        picked = target[rng.integers(0, len(target), int(rng.integers(0, 6)))] if len(target) else target
        moved = [np.roll(mask, tuple(rng.integers(-2, 3, 2)), (0, 1)) for mask in picked]
        predicted = np.concatenate(
            [np.array(moved).reshape(-1, *SIZE).astype(bool), boxes(int(rng.integers(0, 3)))]
        )
        pictures.append((predicted, target, rng.random(len(predicted)).tolist()))
    return pictures


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_equals_that_of_coco(seed: int):
    pictures = some_pictures(seed)
    predicted = average_precision([compare_masks(*picture) for picture in pictures])
    assert predicted == pytest.approx(coco_average_precision(pictures), abs=1e-9)
    assert 0 < predicted < 1


def test_masks_without_scores_are_ranked_as_in_coco():
    pictures = [(predicted, target, [1.0] * len(predicted)) for predicted, target, _ in some_pictures(20)]
    unscored = average_precision([compare_masks(predicted, target) for predicted, target, _ in pictures])
    assert unscored == pytest.approx(coco_average_precision(pictures), abs=1e-9)


def test_only_the_hundred_most_certain_masks_of_a_picture_count():
    target = np.zeros((1, *SIZE), bool)
    target[0, :4, :4] = True
    predicted = np.zeros((101, *SIZE), bool)
    predicted[:, 10:12, 10:12] = True
    predicted[100] = target[0]
    for last_score in (0.0, 5.5):
        scores = [*range(1, 101), last_score]
        expected = coco_average_precision([(predicted, target, scores)])
        assert average_precision([compare_masks(predicted, target, scores)]) == pytest.approx(
            expected, abs=1e-9
        )
    assert expected > 0


def test_pictures_can_be_resampled():
    pictures = [compare_masks(*picture) for picture in some_pictures(3)]
    for score in (mean_mask_iou, average_precision, mask_recall):
        interval = bootstrap(pictures, score, rounds=50)
        assert interval.low < interval.value < interval.high


def test_masks_that_cannot_be_compared_are_refused():
    two = columns((0, 4), (5, 9))
    with pytest.raises(ValueError, match="height or width"):
        compare_masks(two, np.zeros((2, 4, 8), bool))
    with pytest.raises(ValueError, match="height or width"):
        compare_masks(two[0], two[0])
    with pytest.raises(ValueError, match="1 scores for 2 masks"):
        compare_masks(two, two, [0.5])
    with pytest.raises(ValueError, match="bool"):
        compare_masks(two.astype(np.uint8), two.astype(np.uint8))
