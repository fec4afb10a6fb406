"""Loaders of the large backbones, on small random checkpoints of the published format, against transformers."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ASTModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ViTConfig,
    ViTModel,
    VJEPA2Config,
    VJEPA2Model,
)

from pipelines.features.checkpoints import CheckpointError
from pipelines.features.table import Place, load
from pipelines.features.transformers_backbones import Ast, DinoV3, DinoVit, VJepa2

SMALL = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 3}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four checkpoints, as transformers writes them and edged expects them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    made = {
        "dinov3": DINOv3ViTModel(DINOv3ViTConfig(**SMALL, num_hidden_layers=6, num_register_tokens=4)),
        "dino_vitb8": ViTModel(ViTConfig(**SMALL, num_hidden_layers=2, patch_size=8)),
        "vjepa2": VJEPA2Model(
            VJEPA2Config(
                hidden_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                crop_size=64,
                frames_per_clip=4,
                pred_hidden_size=12,
                pred_num_attention_heads=2,
                pred_num_hidden_layers=1,
            )
        ),
        "ast": ASTForAudioClassification(
            ASTConfig(**SMALL, num_hidden_layers=2, frequency_stride=14, time_stride=14)
        ),
    }
    for name, network in made.items():
        for parameter in network.parameters():  # initial zeros (positions, class tokens) would hide a wrong order
            torch.nn.init.normal_(parameter, std=0.2)
        network.save_pretrained(folder / name)
    ASTFeatureExtractor(mean=-4.0, std=4.5).save_pretrained(folder / "ast")
    return folder


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)


def _inputs(images: np.ndarray) -> torch.Tensor:
    return ((torch.from_numpy(images).float() / 255 - MEAN) / STD).movedim(-1, -3)


def _same(found: np.ndarray, expected: torch.Tensor) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)


def test_the_small_checkpoints_have_the_published_names(checkpoints: Path) -> None:
    published = {
        "dinov3": ("layer.0.attention.q_proj.weight", "embeddings.register_tokens", "norm.weight"),
        "dino_vitb8": ("encoder.layer.0.attention.attention.query.weight", "layernorm.weight"),
        "vjepa2": ("encoder.layer.0.attention.query.weight", "predictor.layernorm.weight"),
        "ast": ("audio_spectrogram_transformer.encoder.layer.0.output.dense.weight", "classifier.dense.weight"),
    }
    for name, keys in published.items():
        assert set(keys) <= load_file(checkpoints / name / "model.safetensors").keys()


def test_dinov3_against_transformers(checkpoints: Path, images: np.ndarray) -> None:
    direct = DINOv3ViTModel.from_pretrained(checkpoints / "dinov3")(_inputs(images), output_hidden_states=True)
    backbone = DinoV3(checkpoints / "dinov3")
    assert backbone.layers == (4, 6)
    assert backbone(images).shape == (2, 14, 14, 24)
    _same(backbone(images).reshape(2, 196, 24), direct.last_hidden_state[:, 5:])
    for found, layer in zip(backbone.hidden(images), (4, 6), strict=True):
        assert found.shape == (2, 201, 24)
        _same(found, direct.hidden_states[layer])
    earlier, _ = DinoV3(checkpoints / "dinov3", layers=(3, 5)).hidden(images)
    _same(earlier, direct.hidden_states[3])
    with pytest.raises(ValueError, match="blocks 1 to 6"):
        DinoV3(checkpoints / "dinov3", layers=(4, 7))


def test_dinov3_without_imagenets_mean_and_deviation(checkpoints: Path, images: np.ndarray) -> None:
    plain = torch.from_numpy(images).float().movedim(-1, 1) / 255
    direct = DINOv3ViTModel.from_pretrained(checkpoints / "dinov3")(plain).last_hidden_state[:, 5:]
    _same(DinoV3(checkpoints / "dinov3", normalise=False)(images).reshape(2, 196, 24), direct)


def test_dino_vitb8_against_transformers(checkpoints: Path, images: np.ndarray) -> None:
    direct = ViTModel.from_pretrained(checkpoints / "dino_vitb8")(_inputs(images)).last_hidden_state
    found = DinoVit(checkpoints / "dino_vitb8")(images)
    assert found.shape == (2, 28, 28, 24)
    _same(found.reshape(2, 784, 24), direct[:, 1:])
    with pytest.raises(ValueError, match=r"uint8 \(2, 112, 224, 3\)"):
        DinoVit(checkpoints / "dino_vitb8")(images[:, ::2])


def test_the_checkpoints_own_mean_and_deviation_win(checkpoints: Path, images: np.ndarray, tmp_path: Path) -> None:
    shutil.copytree(checkpoints / "dino_vitb8", tmp_path / "half")
    told = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (tmp_path / "half" / "preprocessor_config.json").write_text(json.dumps(told))
    plain = torch.from_numpy(images).float().movedim(-1, 1) / 255
    direct = ViTModel.from_pretrained(checkpoints / "dino_vitb8")(plain * 2 - 1).last_hidden_state
    _same(DinoVit(tmp_path / "half")(images).reshape(2, 784, 24), direct[:, 1:])


def test_vjepa2_against_transformers(checkpoints: Path) -> None:
    clips = np.random.default_rng(1).integers(0, 256, (2, 6, 64, 64, 3), dtype=np.uint8)
    direct = VJEPA2Model.from_pretrained(checkpoints / "vjepa2").get_vision_features(_inputs(clips))
    backbone = VJepa2(checkpoints / "vjepa2")
    assert backbone(clips).shape == (2, 3, 4, 4, 24)
    _same(backbone(clips).reshape(2, 48, 24), direct)
    assert backbone(np.repeat(clips, 2, axis=3)).shape == (2, 3, 4, 4, 24)
    _same(backbone(clips.repeat(2, 2).repeat(2, 3)).reshape(2, 48, 24), direct)  # resized back to the same frames
    with pytest.raises(ValueError, match="multiple of 2 frames, got 5"):
        backbone(clips[:, :5])


def test_ast_against_transformers(checkpoints: Path) -> None:
    sound = np.random.default_rng(2).uniform(-0.5, 0.5, (2, 40_000)).astype(np.float32)
    own = ASTFeatureExtractor.from_pretrained(checkpoints / "ast")
    spectra = own(list(sound), sampling_rate=16_000, return_tensors="pt")["input_values"]
    direct = ASTModel.from_pretrained(checkpoints / "ast")(spectra).last_hidden_state
    backbone = Ast(checkpoints / "ast")
    assert direct.shape[1] == 659  # as measured with the published strides of 14
    assert backbone(sound).shape == (2, 9, 73, 24)
    _same(backbone(sound).reshape(2, 657, 24), direct[:, 2:])


def test_ast_takes_neither_another_rate_nor_more_than_it_hears(checkpoints: Path) -> None:
    backbone = Ast(checkpoints / "ast")
    assert backbone(np.zeros((1, 164_080), np.float32)).shape == (1, 9, 73, 24)
    with pytest.raises(ValueError, match="48000 Hz; resample"):
        backbone(np.zeros((1, 16_000), np.float32), 48_000)
    for samples in (164_081, 399):
        with pytest.raises(ValueError, match="cut it into stretches"):
            backbone(np.zeros((1, samples), np.float32))


def test_axes_of_the_grids(tmp_path: Path, images: np.ndarray) -> None:
    """A network without blocks does not mix its tokens: a change in one place changes that cell and no other."""
    bare: dict[str, Any] = {**SMALL, "num_hidden_layers": 0}
    ViTModel(ViTConfig(**bare, patch_size=8)).save_pretrained(tmp_path / "image")
    VJEPA2Model(
        VJEPA2Config(hidden_size=24, num_hidden_layers=0, num_attention_heads=2, crop_size=64)
    ).save_pretrained(tmp_path / "video")
    ASTModel(ASTConfig(**bare, frequency_stride=14, time_stride=14)).save_pretrained(tmp_path / "audio")

    other = images.copy()
    other[:, 8:16, 40:48] ^= 255
    assert _changed_cells(DinoVit(tmp_path / "image"), images, other) == {(0, 1, 5), (1, 1, 5)}

    clips = np.random.default_rng(1).integers(0, 256, (1, 6, 64, 64, 3), dtype=np.uint8)
    later = clips.copy()
    later[:, 3, 16:32, 50:60] ^= 255
    assert _changed_cells(VJepa2(tmp_path / "video"), clips, later) == {(0, 1, 1, 3)}

    low = (0.1 * np.sin(2 * np.pi * 5000 * np.arange(32_000) / 16_000)).astype(np.float32)[None]
    louder = low.copy()
    louder[:, 8_000:8_400] *= 3  # from 0.5 s on: spectra 48 to 52, so columns 3 (42 to 57) and 2 (28 to 43) not
    columns = {cell[2] for cell in _changed_cells(Ast(tmp_path / "audio"), low, louder)}
    assert columns == {3}


def _changed_cells(backbone: Any, one: np.ndarray, other: np.ndarray) -> set[tuple[int, ...]]:
    differs = np.abs(backbone(one) - backbone(other)).max(-1) > 1e-4
    return {tuple(int(i) for i in cell) for cell in np.argwhere(differs)}


def test_published_sizes() -> None:
    """Parameters of the published architectures: 840 M, 86 M, 326 M (encoder 304 M), 86 M."""
    with torch.device("meta"):
        huge = DINOv3ViTConfig(
            hidden_size=1280,
            intermediate_size=5120,
            num_hidden_layers=32,
            num_attention_heads=20,
            use_gated_mlp=True,
            hidden_act="silu",
            num_register_tokens=4,
        )
        video = VJEPA2Model(VJEPA2Config())
        counts = [
            sum(p.numel() for p in network.parameters())
            for network in (
                DINOv3ViTModel(huge),
                ViTModel(ViTConfig(patch_size=8), add_pooling_layer=False),
                video,
                video.encoder,
                ASTModel(ASTConfig(frequency_stride=14, time_stride=14)),
            )
        ]
    assert counts == [840_592_640, 85_807_872, 325_971_328, 303_885_312, 85_761_024]


def test_the_table_loads_them_and_names_their_weights(checkpoints: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, checkpoints)
    loaded = [load(name, place) for name in ("dinov3", "dino_vitb8", "vjepa2", "ast")]
    assert [type(one.run) for one in loaded] == [DinoV3, DinoVit, VJepa2, Ast]
    assert len({one.weights_sha256 for one in loaded}) == 4
    assert not {"timm", "torchvision"} & set(sys.modules)


def _changed(checkpoints: Path, tmp_path: Path, change: str) -> Path:
    folder = tmp_path / "changed"
    shutil.copytree(checkpoints / "dino_vitb8", folder)
    weights = folder / "model.safetensors"
    state = load_file(weights)
    key = "encoder.layer.1.attention.attention.query.weight"
    if change == "missing":
        del state[key]
    elif change == "shape":
        state["embeddings.position_embeddings"] = torch.zeros(1, 197, 24)
    elif change == "deeper":
        state["encoder.layer.2.attention.attention.query.weight"] = state[key].clone()
    elif change == "other network":
        (folder / "config.json").write_text('{"model_type": "dinov2"}')
    elif change == "pickle":
        torch.save(state, folder / "pytorch_model.bin")
        weights.unlink()
        return folder
    elif change == "empty":
        weights.unlink()
        return folder
    elif change == "half a file":
        weights.write_bytes(weights.read_bytes()[:5000])
        return folder
    elif change == "torn":
        (folder / "config.json").write_text('{"model_type":')
    save_file(state, weights, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("missing", "1 tensors are missing"),
        ("shape", "position_embeddings"),
        ("deeper", "do not belong together"),
        ("other network", "model_type 'dinov2', DinoVit takes 'vit'"),
        ("pickle", "pytorch_model.bin is a pickle.*may run code.*edged convert-checkpoint"),
        ("empty", "no .safetensors file"),
        ("torn", "not JSON"),
        ("half a file", "copy it again"),
    ],
)
def test_a_wrong_checkpoint_is_refused(checkpoints: Path, tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        DinoVit(_changed(checkpoints, tmp_path, change))


def test_no_folder_means_no_download(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        DinoVit(tmp_path / "facebook" / "dino-vitb8")
