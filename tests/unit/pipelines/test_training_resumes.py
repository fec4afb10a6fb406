"""Causal-HM's training goes on from its checkpoint, and only with the seams that it was made for."""

import dataclasses
from pathlib import Path

import pytest

from pipelines.build import build_causal_hm
from pipelines.causal_hm import weights_id
from pipelines.features.extractor import SeamFeatures
from pipelines.loop import CheckpointError
from pipelines.training import TrainConfig
from tests.support.law_seams import goods

CONFIG = TrainConfig(epochs=3, d=16, d_sensor=8)


class _Killed(Exception):
    pass


def _killed(seams: list[SeamFeatures], out: Path, config: TrainConfig) -> None:
    def tell(stage: str, done: int, total: int, loss: float) -> None:
        if (stage, done) == ("network", 2):
            raise _Killed

    with pytest.raises(_Killed):
        build_causal_hm(seams, [{}] * len(seams), out, config, 0.2, tell)


def test_a_killed_training_gives_the_model_of_an_uninterrupted_one(tmp_path: Path) -> None:
    seams = goods(60)
    config = dataclasses.replace(CONFIG, checkpoint=tmp_path / "checkpoint")
    build_causal_hm(seams, [{}] * 60, tmp_path / "whole", CONFIG, 0.2)
    _killed(seams, tmp_path / "model", config)
    told: list[int] = []
    build_causal_hm(
        seams, [{}] * 60, tmp_path / "model", config, 0.2,
        lambda stage, done, total, loss: told.append(done) if stage == "network" else None,
    )  # fmt: skip
    assert told == [2, 3]
    assert weights_id(tmp_path / "model") == weights_id(tmp_path / "whole")
    assert not (tmp_path / "checkpoint").exists()


def test_other_seams_do_not_go_on_from_it(tmp_path: Path) -> None:
    seams = goods(60)
    config = dataclasses.replace(CONFIG, checkpoint=tmp_path / "checkpoint")
    _killed(seams, tmp_path / "model", config)
    with pytest.raises(CheckpointError, match=r"data was .*remove it"):
        build_causal_hm([*seams[:-1], dataclasses.replace(seams[-1], seam_id="X")], [{}] * 60, tmp_path, config, 0.2)
