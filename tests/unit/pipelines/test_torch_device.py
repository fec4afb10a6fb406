"""Device and precision of trainings: refused before any work, honoured by every detector's networks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from edged.cli import app
from pipelines import cfm, ib_iumad, mafr, uni_rcm
from pipelines.causal_net import CausalNet, NetConfig, ProcessBatch
from pipelines.features.extractor import SeamFeatures
from pipelines.grid_build import GridOptions
from pipelines.grid_nets import GridTensors
from pipelines.grids import GridData
from pipelines.model_files import read_tensors
from pipelines.models import ModelError, load_detector
from pipelines.table import GRID_DETECTORS, trainer
from pipelines.torch_device import check_compute, torch_device
from pipelines.training import TrainConfig, on_device
from tests.support import law_seams
from tests.support.law_grids import laid_goods
from tests.support.one_device import OneDevice

TINY = {"ib_iumad": {"d": 16, "feed_forward": 16, "heads": 2, "levels": 1, "bottleneck": 8}}
DETECTORS = (*GRID_DETECTORS, "causal_hm")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("device", "amp", "says"),
    [
        ("tpu", "off", "device 'tpu' is not known; known: cpu, cuda"),
        ("cuda", "off", 'device "cuda": torch .*; use "cpu", or install'),
        ("cpu", "fp16", '"fp16" needs device "cuda"'),
        ("cpu", "half", "mixed precision 'half' is not known; known: off, bf16, fp16"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_with_the_fix(
    no_gpu: None, device: str, amp: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        check_compute(device, amp)
    # Before recordings are looked for: there are none.
    given = ["train", "--recordings", str(tmp_path / "none"), "--out", str(tmp_path / "m")]
    found = CliRunner().invoke(app, [*given, "--device", device, "--amp", amp])
    assert found.exit_code == 2
    assert " ".join(says.split()[:2]).replace(".*", "") in " ".join(found.output.split())


@pytest.mark.parametrize("model", ["demo", "demo:mafr-rgb-proc"])
def test_a_model_for_a_gpu_that_is_not_there_is_refused_by_name(no_gpu: None, model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'demo_model.*device "cuda".*worker\.device in the configuration'):
        load_detector(model, "cuda", cache_dir=tmp_path)


@pytest.fixture(scope="module")
def goods() -> list[SeamFeatures]:
    return laid_goods(60)


def _weights(detector: str, goods: list[SeamFeatures], out: Path, config: TrainConfig, tell: Any = None) -> None:
    options = GridOptions(pair=("rgb", "proc"), shape=(6, 8), epochs=1, flags=TINY.get(detector, {}))
    further: dict[str, Any] = {} if detector == "causal_hm" else {"options": options}
    seams = law_seams.goods(40) if detector == "causal_hm" else goods  # its own take a fifth of the time
    report = trainer(detector)(seams, [{}] * len(seams), out, config, 0.2, tell, **further)
    assert report["model_id"].startswith(detector)
    assert (report["training"]["device"], report["training"]["amp"]) == (config.device, config.amp)
    assert report["training"]["peak_mb"] > 50


@pytest.mark.parametrize("detector", DETECTORS)
def test_bf16_trains_every_detector(detector: str, goods: list[SeamFeatures], tmp_path: Path) -> None:
    """And is honoured: other losses or weights come of it than in full precision, in which weights are stored."""
    full = TrainConfig(epochs=1, d=16, d_sensor=8, patience=0)
    losses: dict[str, list[float]] = {"off": [], "bf16": []}
    for amp, seen in losses.items():
        config = dataclasses.replace(full, amp=amp)
        _weights(detector, goods, tmp_path / amp, config, lambda *said, seen=seen: seen.append(said[-1]))
    exact, found = (read_tensors(tmp_path / amp) for amp in losses)
    # A net that did not get better in its one epoch is stored as it was: then its losses tell.
    assert losses["off"] != losses["bf16"] or any(not np.array_equal(exact[name], found[name]) for name in exact)
    assert all(np.isfinite(value).all() for value in found.values())
    assert {v.dtype for n, v in found.items() if n.startswith(("net.", "method."))} >= {np.dtype(np.float32)}


def test_the_device_reaches_the_loop(no_gpu: None, goods: list[SeamFeatures], tmp_path: Path) -> None:
    """Every trainer hands it on: none of them quietly trains elsewhere first."""
    told: list[str] = []
    for detector in DETECTORS:
        config = TrainConfig(epochs=1, d=16, d_sensor=8, device="cuda")
        with pytest.raises(ValueError, match='device "cuda"'):
            _weights(detector, goods, tmp_path / detector, config, lambda stage, *_: told.append(stage))
    assert "network" not in told


@pytest.fixture
def grids() -> GridData:
    rng = np.random.default_rng(0)
    cells = {"rgb": rng.normal(size=(4, 6, 8, 5)), "proc": rng.normal(size=(4, 6, 8, 7))}
    valid = np.ones((4, 6, 8), np.bool_)
    return GridData({n: c.astype(np.float32) for n, c in cells.items()}, valid, np.array([0, 1, 0, 1]), 2)


ROWS = np.arange(2)


def _cfm(data: GridData) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    seams = GridTensors(data)
    net = cfm.CfmNet(seams.channels, 2, cfm.CfmConfig())
    return net, lambda net: cfm.cfm_loss(net, seams.batch(ROWS, torch.device("meta")))


def _mafr(data: GridData) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    seams, config = GridTensors(data), mafr.MafrConfig.preset("cell", "cpu")
    net = mafr.MafrNet(seams.channels, 2, config)
    return net, lambda net: mafr.mafr_loss(net, seams.batch(ROWS, torch.device("meta")), config)


def _uni_rcm(data: GridData) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    config = uni_rcm.UniRcmConfig.preset("cell", "cpu")
    net = uni_rcm._nets(config, {"rgb": 5, "proc": 7}, (6, 8), 2)
    return net, lambda net: uni_rcm._loss(net, data, ROWS, 0.5)


def _ib_iumad(data: GridData) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    config = ib_iumad.IbIumadConfig(**TINY["ib_iumad"])  # type: ignore[arg-type]
    tokens = ib_iumad.pool(data, config.max_tokens).take(ROWS).to(torch.device("meta"))
    net = ib_iumad.IbNet(ib_iumad._net_config(config, {"rgb": 5, "proc": 7}, (6, 8), 2))

    def loss(net: nn.Module) -> Tensor:
        out = net(tokens.maps, tokens.seen)  # its loss picks tokens by their values, which "meta" has none of
        found: Tensor = torch.stack([m.square().mean() for m in out.maps.values()]).sum() + out.fused.sum()
        return found

    return net, loss


@pytest.mark.parametrize("make", [_cfm, _mafr, _uni_rcm, _ib_iumad])
def test_no_step_of_a_training_mixes_devices(make: Any, grids: GridData) -> None:
    net, loss = make(grids)
    net.to("meta").train()
    with OneDevice():
        loss(net).backward()
    assert {p.grad.device.type for p in net.parameters() if p.grad is not None} == {"meta"}


def test_causal_hm_follows_its_network() -> None:
    net = CausalNet(NetConfig(sensor=6, video=4, audio=3, targets=5, queries=7, programs=2, d=16, d_sensor=8))
    batch = ProcessBatch(
        torch.zeros(2, 30, 6), torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3, 3),
        torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, dtype=torch.long),
        torch.ones(2, dtype=torch.bool),
    )  # fmt: skip
    net.to("meta").train()
    with OneDevice():
        found = net(on_device(batch, torch.device("meta")))
        found.sum().backward()
    assert found.device.type == "meta"


def test_the_check_sees_a_mixture() -> None:
    with OneDevice(), pytest.raises(AssertionError, match="cpu and meta"):
        torch.zeros(2) + torch.zeros(2, device="meta")


def test_cpu_is_always_there() -> None:
    assert torch_device("cpu") == torch.device("cpu")
