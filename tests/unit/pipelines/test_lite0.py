"""lite0 against real photographs and a second implementation, and ONNX Runtime against eager."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from pipelines.features.lite0 import load_backbone, load_network, preprocess

HALVING = {1, 3, 5, 11}
"""Blocks of stride 2 beside the stem: the first of stages 2, 3, 4 and 6 (arXiv 1905.11946, table 1)."""
State = dict[str, np.ndarray]


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


@pytest.mark.timeout(600)  # exports the graph, which a busy machine takes minutes for
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


def _norm(x: np.ndarray, state: State, name: str) -> np.ndarray:
    scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-3)
    return (x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]


def _conv(x: np.ndarray, w: np.ndarray, stride: int = 1) -> np.ndarray:
    """`(h, w, c)` by `(out, in, k, k)`, or depthwise by `(c, 1, k, k)`: shifted pictures, weighted and added."""
    k = w.shape[2]
    padded = np.pad(x, ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    height, width = -(-x.shape[0] // stride), -(-x.shape[1] // stride)
    depthwise = w.shape[1] == 1 and x.shape[2] > 1
    out = np.zeros((height, width, len(w)))
    for dy in range(k):
        for dx in range(k):
            part = padded[dy : dy + x.shape[0] : stride, dx : dx + x.shape[1] : stride]
            out += part * w[:, 0, dy, dx] if depthwise else part @ w[:, :, dy, dx].T
    return out


def _second(image: np.ndarray, state: State) -> list[np.ndarray]:
    """A second implementation, whose structure is in the shapes of the published tensors: the image → outputs of
    blocks 4 and 10, and the map of 1280 channels, each `(h, w, c)`."""

    def relu6(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0.0, 6.0)

    x = relu6(_norm(_conv((image - 127.0) / 128.0, state["_conv_stem.weight"], 2), state, "_bn0"))
    outputs = []
    for i in range(16):
        own = {k.removeprefix(f"_blocks.{i}."): v for k, v in state.items() if k.startswith(f"_blocks.{i}.")}
        y = x
        if "_expand_conv.weight" in own:
            y = relu6(_norm(_conv(y, own["_expand_conv.weight"]), own, "_bn0"))
        y = relu6(_norm(_conv(y, own["_depthwise_conv.weight"], 2 if i in HALVING else 1), own, "_bn1"))
        y = _norm(_conv(y, own["_project_conv.weight"]), own, "_bn2")
        x = x + y if i not in HALVING and y.shape == x.shape else y
        outputs.append(x)
    return [outputs[4], outputs[10], relu6(_norm(_conv(x, state["_conv_head.weight"]), state, "_bn1"))]


@pytest.mark.timeout(600)  # exports the graph, which a busy machine takes minutes for
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_agrees_with_a_second_implementation(cache_dir: Path) -> None:
    image = _square(load_sample_image("china.jpg"))
    network = load_network(cache_dir)
    state = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    expected = _second(image.astype(np.float64), state)

    backbone = load_backbone(cache_dir)
    runs = [*backbone.middle(image[None]), backbone(image[None])]
    for found, reference in zip(runs, expected, strict=True):
        assert found[0].shape == reference.shape
        # The bar of 1e-5 holds for the implementation, below, in double. ONNX Runtime's float32 stays within 1e-5
        # of the map's largest value (measured 4e-6): 2e-5 on the last map, whose values reach 6, 1e-4 where 47.
        np.testing.assert_allclose(found[0], reference, rtol=0, atol=1e-5 * np.abs(reference).max())

    exact = network.double()
    x = torch.from_numpy(preprocess(image[None])).double()
    for one, reference in zip((*exact.middle(x), exact(x)), expected, strict=True):
        np.testing.assert_allclose(one[0].permute(1, 2, 0).numpy(), reference, rtol=0, atol=1e-10)  # the bar: 1e-5


def test_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"\(1, 100, 224, 3\)"):
        preprocess(np.zeros((1, 100, 224, 3), np.uint8))


def test_refuses_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.features.lite0.WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="reinstall"):
        load_network(tmp_path)
