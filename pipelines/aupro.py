"""Where an anomaly is, measured: AUPRO and pixel AUROC over anomaly maps.

PRO at a threshold is the mean, over the connected regions of the ground truth, of the share of a region that scores
above it (Bergmann et al., "The MVTec 3D-AD Dataset", VISAPP 2022, section 4); AUPRO is its area over the
false-positive rate of the good pixels from 0 to a limit, divided by the limit. Both areas here are the same curve
with other weights of the anomalous pixels: 1 / (regions · size of its region), or 1 / anomalous pixels.

The exact curve has a point at every distinct score. Between two scores of anomalous pixels only good pixels can
cross the threshold, so it is enough to count good pixels per interval: memory grows with the anomalous pixels and
one map, never with all pixels, when `maps` and `masks` are sequences that read lazily.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMPAT_THRESHOLDS", "aupro", "aupro_compat", "pixel_auroc"]

COMPAT_THRESHOLDS = 99
"""What the published code of the CFM family takes; IB-IUMAD takes 100."""
_EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)

Maps = Sequence[NDArray[np.floating]]
Masks = Sequence[NDArray[np.bool_]]


def aupro(maps: Maps, masks: Masks, limit: float = 0.3) -> float:
    """Exact AUPRO in 0–1 up to false-positive rate `limit`; a score that knows nothing gets `limit` / 2.

    `maps`: (H, W) scores, higher = more anomalous; `masks`: (H, W), true = anomalous, sizes may differ from pair to
    pair. Read twice. Raises ValueError for sizes that do not match, a NaN or infinite score, no region, no good
    pixel, or a limit outside (0, 1].
    """
    _check_limit(limit)
    parts, regions = [], 0
    for score, mask in _pairs(maps, masks):
        labels, count = _regions(mask)
        found = labels[labels > 0]
        parts.append((score[labels > 0], 1.0 / np.bincount(found, minlength=count + 1)[found]))
        regions += count
    scores, weights = _joined(parts, "region")
    fpr, pro = _curve(scores, weights / regions, (score[~mask] for score, mask in _pairs(maps, masks)))
    return _area(fpr, pro, limit) / limit


def pixel_auroc(maps: Maps, masks: Masks, within: Masks | None = None) -> float:
    """Exact AUROC over the pixels of all maps pooled; with `within` only the pixels where that is true count.

    Arguments and errors as `aupro`.
    """
    if within is not None and len(within) != len(maps):
        raise ValueError(f"{len(maps)} maps but {len(within)} areas `within`; give one for each map")

    def pairs() -> Iterator[tuple[NDArray[np.floating], NDArray[np.bool_]]]:
        for index, (score, mask) in enumerate(_pairs(maps, masks)):
            area = np.ones(mask.shape, np.bool_) if within is None else np.asarray(within[index], np.bool_)
            if area.shape != mask.shape:
                raise ValueError(f"map {index} is {mask.shape} but its area `within` is {area.shape}; same size")
            yield score[area], mask[area]

    scores, weights = _joined([(score[mask], np.ones(int(mask.sum()))) for score, mask in pairs()], "anomalous pixel")
    fpr, tpr = _curve(scores, weights / len(scores), (score[~mask] for score, mask in pairs()))
    return _area(fpr, tpr, 1.0)


def aupro_compat(maps: Maps, masks: Masks, limit: float = 0.3, thresholds: int = COMPAT_THRESHOLDS) -> float:
    """AUPRO as the published code of MVTec 3D-AD and the CFM family computes it, to compare with its numbers only.

    Thresholds are good pixels' scores at ranks spaced evenly from lowest to highest, a rank also stands for the
    false-positive rate (ties are not looked at), and the rate is cut at `limit` by linear interpolation. With 99 of
    them about one lies below a limit of 1 %. Keeps the scores of all good pixels. Arguments and errors as `aupro`.
    """
    _check_limit(limit)
    if thresholds < 2:
        raise ValueError(f"thresholds = {thresholds}; at least 2 are needed, 99 is what was published")
    good, regions = [], []
    for score, mask in _pairs(maps, masks):
        labels, count = _regions(mask)
        good.append(score[labels == 0])
        regions += [np.sort(score[labels == label]) for label in range(1, count + 1)]
    if not regions:
        raise ValueError("no mask has an anomalous region: AUPRO needs one; give the maps of defective images too")
    goods = np.sort(np.concatenate(good))
    if len(goods) == 0:
        raise ValueError("every pixel of every mask is anomalous: a false-positive rate needs good pixels")
    ranks = np.linspace(0, len(goods) - 1, num=thresholds, dtype=np.int64)
    above = [1.0 - np.searchsorted(region, goods[ranks], side="right") / len(region) for region in regions]
    fpr = np.append(1.0 - (ranks[::-1] + 1) / len(goods), 1.0)
    pro = np.append(np.mean(above, axis=0)[::-1], 1.0)
    return _area(fpr, pro, limit) / limit


def _pairs(maps: Maps, masks: Masks) -> Iterator[tuple[NDArray[np.floating], NDArray[np.bool_]]]:
    if len(maps) != len(masks):
        raise ValueError(f"{len(maps)} maps but {len(masks)} masks; give one mask, all false for a good image, a map")
    for index in range(len(maps)):
        score, mask = np.asarray(maps[index]), np.asarray(masks[index], np.bool_)
        if score.ndim != 2 or score.shape != mask.shape:
            raise ValueError(f"map {index} is {score.shape}, its mask {mask.shape}; both must be the same (H, W)")
        if not np.isfinite(score).all():
            bad = int((~np.isfinite(score)).sum())
            raise ValueError(f"map {index} has {bad} scores that are NaN or infinite; a score must order pixels")
        yield score, mask


def _regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    from scipy.ndimage import label

    labels, count = label(mask, structure=_EIGHT_NEIGHBOURS)
    return labels, int(count)


def _joined(
    parts: list[tuple[NDArray[np.floating], NDArray[np.float64]]], what: str
) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    scores = np.concatenate([score for score, _ in parts]) if parts else np.empty(0)
    if len(scores) == 0:
        raise ValueError(f"no mask has an anomalous {what}: give the maps of defective images too")
    return scores, np.concatenate([weight for _, weight in parts])


def _curve(
    scores: NDArray[np.floating], weights: NDArray[np.float64], goods: Iterator[NDArray[np.floating]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(false-positive rate, weight above): from (0, 0) to (1, 1), thresholds from high to low."""
    distinct, index = np.unique(scores, return_inverse=True)
    weight = np.bincount(index, weights)
    between, equal = np.zeros(len(distinct) + 1), np.zeros(len(distinct))
    for good in goods:
        low, high = np.searchsorted(distinct, good, "left"), np.searchsorted(distinct, good, "right")
        between += np.bincount(low[low == high], minlength=len(distinct) + 1)
        equal += np.bincount(low[low != high], minlength=len(distinct))
    total = between.sum() + equal.sum()
    if total == 0:
        raise ValueError("no good pixel is left: a false-positive rate needs some; widen the masks' surroundings")
    # Downwards: the good pixels above a score are a level step, then those equal to it rise with its weight.
    steps = np.empty(2 * len(distinct) + 1)
    steps[0::2], steps[1::2] = between[::-1], equal[::-1]
    rises = np.zeros_like(steps)
    rises[1::2] = weight[::-1]
    fpr, above = np.append(0.0, np.cumsum(steps)) / total, np.append(0.0, np.cumsum(rises))
    return fpr, above / above[-1]


def _area(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> float:
    """Area below the line through (x, y), x not falling, from 0 to `limit`."""
    inside = x <= limit
    last = int(inside.sum()) - 1
    area = float(np.sum((y[1 : last + 1] + y[:last]) * np.diff(x[: last + 1])) / 2)
    if last + 1 < len(x):
        slope = (y[last + 1] - y[last]) / (x[last + 1] - x[last])
        width = limit - x[last]
        area += float(width * (y[last] + slope * width / 2))
    return area


def _check_limit(limit: float) -> None:
    if not 0.0 < limit <= 1.0:
        raise ValueError(f"limit = {limit}; the false-positive rate must end in (0, 1], 0.3 is usual")
