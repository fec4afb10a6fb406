"""The large frozen backbones of the tier `full`, from checkpoints on the disk, through transformers (extra
`backbones`).

    DINOv3 ViT (arXiv 2508.10104)     image (b, 224, 224, 3) → (b, 14, 14, d), and two hidden states with all tokens
    DINO ViT-B/8 (arXiv 2104.14294)   image (b, 224, 224, 3) → (b, 28, 28, 768)
    V-JEPA 2 ViT-L (arXiv 2506.09985) clip (b, t, h, w, 3)   → (b, t/2, 16, 16, 1024)
    AST (arXiv 2104.01778)            sound (b, n) at 16 kHz → (b, 9, 73, 768) for strides of 14, notes × time

Nothing is fetched and no code of a checkpoint is run: local folders and safetensors only. A checkpoint whose tensors
are not exactly the network's is refused, since transformers would fill in what is missing with random numbers.
Sizes above are those of the published checkpoints; the folder's `config.json` decides. torchvision and timm are not
used.
"""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipelines.features.checkpoints import CheckpointError, digest, folder_weights
from pipelines.features.lite0 import INPUT_PX

if TYPE_CHECKING:
    import torch

__all__ = ["Ast", "DinoV3", "DinoVit", "VJepa2"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
AST_RATE_HZ = 16_000


class _Local:
    """A frozen network from a folder: what the four have in common."""

    network_class: ClassVar[str]
    model_type: ClassVar[str]
    unused: ClassVar[tuple[str, ...]] = ()
    """Tensors a published checkpoint may hold beside the network's: heads that are not asked."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        files = folder_weights(folder)
        self._folder, self._device = folder, device
        self._network = self._load()
        self._config = self._network.config
        self.weights_sha256 = digest(files)

    def _load(self) -> Any:
        found = _read_json(self._folder / "config.json").get("model_type")
        if found != self.model_type:
            raise CheckpointError(
                f"{self._folder}: config.json says model_type {found!r}, {type(self).__name__} takes "
                f"{self.model_type!r}"
            )
        transformers, torch = _transformers()
        from safetensors import SafetensorError

        with _quiet(transformers):
            try:
                network, report = getattr(transformers, self.network_class).from_pretrained(
                    self._folder,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # reported then, and refused below
                    dtype=torch.float32,
                    **self._options(),
                )
            except (RuntimeError, SafetensorError) as error:
                raise CheckpointError(f"{self._folder}: cannot be read ({error}); copy it again") from error
        stray = sorted(k for k in report["unexpected_keys"] if not k.startswith(self.unused))
        wrong = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"]) + stray
        if wrong:
            raise CheckpointError(
                f"{self._folder}: {len(wrong)} tensors are missing, of another shape or of another network: "
                f"{', '.join(wrong[:3])}; config.json and the weights do not belong together"
            )
        return network.eval().requires_grad_(False).to(self._device)

    def _options(self) -> dict[str, Any]:
        return {}

    def _scaled(self, images: NDArray[np.uint8], normalise: bool = True) -> "torch.Tensor":
        """uint8 `(..., h, w, 3)` → float32 `(..., 3, h, w)` in [0, 1], then by the checkpoint's mean and
        deviation."""
        import torch

        x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3))).to(self._device).float() / 255.0
        if not normalise:
            return x
        # The file's name in older and newer folders; a folder without it was trained on ImageNet's, as all four were.
        for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
            told = _read_json(self._folder / name) if (self._folder / name).is_file() else {}
            if "image_mean" in told:
                break
        mean, std = (
            torch.tensor(told.get(key, default), device=self._device).view(3, 1, 1)
            for key, default in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD))
        )
        return (x - mean) / std


class DinoV3(_Local):
    """DINOv3's vision transformer (ViT-S, B, L, H+ or 7B: the folder says which).

    `layers` are the two hidden states that `hidden` gives, counted in blocks from 1. The default is the block at two
    thirds of the depth and the last one, which is (21, 32) for ViT-H+; (20, 31) is what the development code of
    Causal-HM reads. `normalise=False` leaves images in [0, 1], as that code does.
    """

    network_class, model_type, unused = "DINOv3ViTModel", "dinov3_vit", ()

    def __init__(
        self, folder: Path, device: str = "cpu", layers: tuple[int, int] | None = None, normalise: bool = True
    ) -> None:
        super().__init__(folder, device)
        depth = self._config.num_hidden_layers
        self.layers = layers or (round(depth * 2 / 3), depth)
        if not all(1 <= layer <= depth for layer in self.layers):
            raise ValueError(f"layers {self.layers}: {folder} has blocks 1 to {depth}")
        self._normalise = normalise

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(b, 224, 224, 3)` uint8 RGB → `(b, 224/p, 224/p, d)`: patch tokens after the last norm, p = 16."""
        tokens = self._run(images).last_hidden_state[:, 1 + self._config.num_register_tokens :]
        return _grid(tokens, INPUT_PX // self._config.patch_size)

    def hidden(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The two hidden states `(b, 1 + registers + patches, d)` at `layers`: class token first, before any norm."""
        states = self._run(images, output_hidden_states=True).hidden_states
        middle, last = (np.asarray(states[layer].cpu().numpy()) for layer in self.layers)
        return middle, last

    def _run(self, images: NDArray[np.uint8], **wanted: bool) -> Any:
        import torch

        _check_images(images)
        with torch.inference_mode():
            return self._network(self._scaled(images, self._normalise), **wanted)


class DinoVit(_Local):
    """DINO's ViT-B/8 as the CFM family uses it: every block and the last norm, class token dropped."""

    network_class, model_type, unused = "ViTModel", "vit", ("pooler.", "embeddings.mask_token")

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(b, 224, 224, 3)` uint8 RGB → `(b, 224/p, 224/p, d)` float32; p = 8, d = 768 as published."""
        import torch

        _check_images(images)
        with torch.inference_mode():
            tokens = self._network(self._scaled(images)).last_hidden_state[:, 1:]
        return _grid(tokens, INPUT_PX // self._config.patch_size)

    def _options(self) -> dict[str, Any]:
        return {"add_pooling_layer": False}


class VJepa2(_Local):
    """V-JEPA 2's encoder; the predictor is not run."""

    network_class, model_type, unused = "VJEPA2Model", "vjepa2", ("pooler.", "classifier.")

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(b, t, h, w, 3)` uint8 RGB → `(b, t/2, g, g, d)` float32, g = 16 and d = 1024 as published.

        Whole frames are resized to the checkpoint's size (256 px): at any other size its rotary positions, which are
        counted by that size's grid, would name wrong places. Raises ValueError when t is not a multiple of the
        tubelet (2 frames).
        """
        import torch

        px, tubelet = self._config.crop_size, self._config.tubelet_size
        if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != np.uint8:
            raise ValueError(f"V-JEPA 2 takes uint8 clips of shape (b, t, h, w, 3), got {clips.dtype} {clips.shape}")
        b, t = clips.shape[:2]
        if t == 0 or t % tubelet:
            raise ValueError(f"V-JEPA 2 takes clips of a multiple of {tubelet} frames, got {t}; leave frames out")
        with torch.inference_mode():
            tokens = self._network(self._scaled(_resized(clips, px)), skip_predictor=True).last_hidden_state
        side = px // self._config.patch_size
        return np.asarray(tokens.reshape(b, t // tubelet, side, side, -1).cpu().numpy())


class Ast(_Local):
    """The audio spectrogram transformer, with its own published preprocessing.

    Kaldi's log-mel energies (16 kHz, Hann windows of 25 ms each 10 ms, 128 bands from 20 Hz), AudioSet's mean and
    deviation, 1024 spectra (10.24 s); shorter sound is padded with zeros after the logarithm, as in training.
    """

    network_class, model_type, unused = "ASTModel", "audio-spectrogram-transformer", ("classifier.",)

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        super().__init__(folder, device)
        transformers, _ = _transformers()
        told = folder / "preprocessor_config.json"
        options = {k: v for k, v in (_read_json(told) if told.is_file() else {}).items() if k in _AST_OPTIONS}
        agreed = {"num_mel_bins": self._config.num_mel_bins, "max_length": self._config.max_length}
        with warnings.catch_warnings():
            # Two of 128 mel bands are narrower than a bin of the spectrum, in training as here.
            warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
            self._spectra = transformers.ASTFeatureExtractor(**{**options, **agreed})

    def __call__(self, sound: NDArray[np.float32], rate_hz: int = AST_RATE_HZ) -> NDArray[np.float32]:
        """`(b, n)` float32 in [-1, 1] → `(b, f, t, d)` float32, notes × time; class and distillation token dropped.

        Raises ValueError on another rate, on less than a window (25 ms) or on more than fits (10.24 s): it would be
        cut off.
        """
        import torch

        if rate_hz != self._spectra.sampling_rate:
            raise ValueError(f"AST takes sound at {self._spectra.sampling_rate} Hz, got {rate_hz} Hz; resample it")
        longest = 400 + 160 * (self._config.max_length - 1)
        if sound.ndim != 2 or not 400 <= sound.shape[1] <= longest:
            raise ValueError(
                f"AST takes sound of shape (b, 400 to {longest}), got {sound.shape}; cut it into stretches"
            )
        features = np.stack([self._spectra(one, sampling_rate=rate_hz)["input_values"][0] for one in sound])
        with torch.inference_mode():
            tokens = self._network(torch.from_numpy(features).float().to(self._device)).last_hidden_state[:, 2:]
        patch, c = self._config.patch_size, self._config
        notes = (c.num_mel_bins - patch) // c.frequency_stride + 1
        return np.asarray(tokens.reshape(len(sound), notes, -1, c.hidden_size).cpu().numpy())


_AST_OPTIONS = ("sampling_rate", "do_normalize", "mean", "std", "feature_size", "padding_value")


def _transformers() -> tuple[Any, Any]:
    """transformers and torch. Raises ImportError naming the extra."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError("backbones of the tier `full` need transformers: pip install 'edged[backbones]'") from error
    import torch

    return transformers, torch


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Loading draws a bar and prints a table of what it did not find; we read that table ourselves."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error}); copy it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: not a JSON object; copy it again")
    return found


def _check_images(images: NDArray[np.uint8]) -> None:
    if images.ndim != 4 or images.shape[1:] != (INPUT_PX, INPUT_PX, 3) or images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 (b, {INPUT_PX}, {INPUT_PX}, 3), got {images.dtype} {images.shape}")


def _grid(tokens: "torch.Tensor", side: int) -> NDArray[np.float32]:
    """`(b, side · side, d)` → `(b, side, side, d)`."""
    return np.asarray(tokens.reshape(len(tokens), side, side, -1).cpu().numpy())


def _resized(clips: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """`(b, t, h, w, 3)` → `(b, t, px, px, 3)`, averaging over areas."""
    import cv2

    if clips.shape[2:4] == (px, px):
        return clips
    frames: list[Any] = [
        cv2.resize(frame, (px, px), interpolation=cv2.INTER_AREA) for clip in clips for frame in clip
    ]
    return np.stack(frames).reshape(*clips.shape[:2], px, px, 3)
