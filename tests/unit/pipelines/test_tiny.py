"""The backbone without weights: the same everywhere, and it sees."""

import sys

import numpy as np
import pytest

from pipelines.features import tiny
from pipelines.features.tiny import LAYERS, TinyBackbone, filters


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Vertical stripes, horizontal stripes, noise, a flat dark grey and a flat bright red."""
    rows = np.arange(224) // 8 % 2 * 200
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3))
    stripes = np.broadcast_to(rows[None, :, None], (224, 224, 3))
    red = np.broadcast_to(np.array([250, 20, 20]), (224, 224, 3))
    return np.stack([stripes, stripes.transpose(1, 0, 2), noise, np.full((224, 224, 3), 40), red]).astype(np.uint8)


def test_shapes_are_those_of_lite0(images: np.ndarray) -> None:
    backbone = TinyBackbone()
    found = (backbone(images), *backbone.middle(images))
    assert [m.shape for m in found] == [(5, 7, 7, 1280), (5, 28, 28, 40), (5, 14, 14, 112)]
    assert all(m.dtype == np.float32 and np.isfinite(m).all() and m.std() > 0.05 for m in found)


def test_filters_have_no_mean_but_the_first_eight_and_hes_variance() -> None:
    first, *rest = filters()
    assert np.abs(first[:, 8:].sum(0)).max() < 1e-5 < np.abs(first[:, :8].sum(0)).max()
    for weights, (kernel, _, c_in, _) in zip(rest, LAYERS[1:], strict=True):
        assert weights.std() == pytest.approx(np.sqrt(2.0 / (kernel * kernel * c_in)), rel=0.02)


def test_other_filters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    TinyBackbone()  # the digest holds here
    monkeypatch.setattr(tiny, "SEED", 1)
    with pytest.raises(ValueError, match="expected 2e56f509"):
        TinyBackbone()


def test_agrees_with_torch_convolutions(images: np.ndarray) -> None:
    import torch

    x = torch.from_numpy((images.astype(np.float32) - 127.0) / 128.0).permute(0, 3, 1, 2)
    for weights, (kernel, stride, c_in, c_out) in zip(filters(), LAYERS, strict=True):
        w = torch.from_numpy(weights.reshape(kernel, kernel, c_in, c_out)).permute(3, 2, 0, 1)
        x = torch.nn.functional.conv2d(x, w, stride=stride, padding=1 if kernel == 3 else 0).relu()
    np.testing.assert_allclose(TinyBackbone()(images), x.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_an_image_does_not_depend_on_its_batch(images: np.ndarray) -> None:
    np.testing.assert_allclose(TinyBackbone()(images)[2:3], TinyBackbone()(images[2:3]), atol=1e-5)


def test_moves_with_the_image_and_tells_textures_apart(images: np.ndarray) -> None:
    backbone = TinyBackbone()
    moved = np.roll(images[2:3], 32, axis=2)
    np.testing.assert_allclose(backbone(moved)[:, 2:-2, 3:-1], backbone(images[2:3])[:, 2:-2, 2:-2], atol=1e-4)
    pooled = backbone(images).mean((1, 2))
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    cosine = pooled @ pooled.T
    assert cosine[~np.eye(5, dtype=bool)].max() < 0.98


def test_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"\(1, 100, 224, 3\)"):
        TinyBackbone()(np.zeros((1, 100, 224, 3), np.uint8))


def test_needs_neither_torch_nor_onnx() -> None:
    import subprocess

    code = (
        "import sys, numpy, pipelines.features.tiny as t; "
        "t.TinyBackbone()(numpy.zeros((1, 224, 224, 3), numpy.uint8)); "
        "print({'torch', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
