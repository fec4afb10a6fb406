"""lite0 against real photographs, and ONNX Runtime against eager."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from pipelines.features.lite0 import load_backbone, load_network, preprocess


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _square(photo: np.ndarray) -> np.ndarray:
    import cv2

    side = min(photo.shape[:2])
    top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
    return cv2.resize(photo[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(("name", "imagenet_class"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_names_real_photographs(cache_dir: Path, name: str, imagenet_class: int) -> None:
    image = _square(load_sample_image(name))[None]
    logits = load_network(cache_dir).classify(torch.from_numpy(preprocess(image)))[0]
    assert int(logits.argmax()) == imagenet_class


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_agrees_with_eager_for_any_batch(cache_dir: Path) -> None:
    images = np.stack([_square(load_sample_image(name)) for name in ("china.jpg", "flower.jpg", "china.jpg")])
    images[2] = images[2][:, ::-1]
    eager = load_network(cache_dir)(torch.from_numpy(preprocess(images))).permute(0, 2, 3, 1).numpy()
    backbone = load_backbone(cache_dir)
    np.testing.assert_allclose(backbone(images), eager, atol=1e-4)
    np.testing.assert_allclose(backbone(images[1:2]), eager[1:2], atol=1e-4)
    levels = load_network(cache_dir).middle(torch.from_numpy(preprocess(images)))
    for found, expected, shape in zip(backbone.middle(images), levels, ((28, 28, 40), (14, 14, 112)), strict=True):
        assert found.shape == (3, *shape)
        np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-3)


def test_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"\(1, 100, 224, 3\)"):
        preprocess(np.zeros((1, 100, 224, 3), np.uint8))


def test_refuses_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.features.lite0.WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="reinstall"):
        load_network(tmp_path)
