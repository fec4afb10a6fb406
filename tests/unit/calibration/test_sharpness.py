"""The width of edges against blurs that were put there."""

import cv2
import numpy as np
import pytest

from calibration.sharpness import WIDEST_PX, edge_blur_px


def edge(blur_px: float, contrast: float = 160.0, noise: float = 1.0, turn_deg: float = 20.0) -> np.ndarray:
    y, x = np.mgrid[0:300, 0:400] - 150.0
    angle = np.radians(turn_deg)
    ideal = 40.0 + contrast * (x * np.cos(angle) + y * np.sin(angle) > 0)
    rng = np.random.default_rng(1)
    return np.clip(cv2.GaussianBlur(ideal, (0, 0), blur_px) + noise * rng.standard_normal(x.shape), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize("blur_px", [0.7, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("contrast", [60.0, 160.0])
def test_the_blur_is_measured_whatever_the_contrast(blur_px: float, contrast: float) -> None:
    assert edge_blur_px(edge(blur_px, contrast)) == pytest.approx(blur_px, abs=0.25 + 0.1 * blur_px)


def test_a_very_wide_edge_is_seen_as_wide() -> None:
    assert edge_blur_px(edge(9.0)) > 5.0


def test_only_where_it_is_told_to_look() -> None:
    picture = np.concatenate([edge(1.0), edge(5.0)])
    inside = np.zeros(picture.shape, np.bool_)
    inside[300:] = True
    assert edge_blur_px(picture, inside) == pytest.approx(5.0, abs=0.6)
    assert edge_blur_px(picture, ~inside) == pytest.approx(1.0, abs=0.3)


def test_nothing_to_see_is_the_widest() -> None:
    assert edge_blur_px(np.full((40, 60), 99, np.uint8)) == WIDEST_PX
    assert edge_blur_px(edge(1.0), np.zeros((300, 400), np.bool_)) == WIDEST_PX
