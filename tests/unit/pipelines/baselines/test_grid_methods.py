"""Every baseline on cells of one modality: it finds broken laws, and keeps the contract of grid methods."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from pipelines.baselines.dinomaly import DinomalyConfig
from pipelines.baselines.efficientad import EfficientAdConfig
from pipelines.baselines.memae import MemAeConfig
from pipelines.baselines.patchcore import PatchCoreConfig
from pipelines.baselines.simplenet import SimpleNetConfig
from pipelines.baselines.table import BASELINES
from pipelines.loop import LoopConfig
from tests.unit.pipelines.baselines import law

SMALL: dict[str, Any] = {
    "patchcore": PatchCoreConfig(share=0.1),
    "dinomaly": DinomalyConfig(width=24, blocks=2, heads=2, split=(4,), easy_ramp=60),
    "simplenet": SimpleNetConfig(hidden=32),
    "efficientad": EfficientAdConfig(lower=4, hidden=24, code=4),
    "memae": MemAeConfig(32, 4, 128, sharpness=10.0),
}
LOOP = LoopConfig(epochs=15, batch=15, lr=8e-3, seed=1)


@pytest.fixture(scope="module", params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(name: str) -> Any:
    return BASELINES[name].fit(law.grids(60, 1), law.grids(12, 2), SMALL[name], LOOP, law.quiet)


def test_it_separates_broken_laws_from_good_ones(fitted: Any) -> None:
    good, bad = fitted.error_maps(law.grids(40, 3)), fitted.error_maps(law.grids(40, 4, bad=True))
    assert law.area(good["rgb"], bad["rgb"]) > 0.9
    patch = bad["rgb"][:, 1:4, 3:6].mean()
    assert patch > 1.5 * bad["rgb"][:, :, 7:].mean()  # and says where


def test_maps_are_finite_nowhere_negative_and_zero_where_not_valid(fitted: Any) -> None:
    data = law.grids(5, 6)
    data.valid[1] = False
    data.cells["rgb"][:, 0, 0] = 1e3  # what an unmeasured cell holds must not matter
    found = fitted.error_maps(data)["rgb"]
    assert found.shape == data.valid.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found[~data.valid] == 0).all()
    data.cells["rgb"][:, 0, 0] = -1e3
    np.testing.assert_array_equal(found, fitted.error_maps(data)["rgb"])


def test_a_restored_one_gives_the_same_maps(name: str, fitted: Any) -> None:
    data = law.grids(5, 6)
    about = json.loads(json.dumps(fitted.about()))
    again = BASELINES[name].restore(about, fitted.tensors())
    np.testing.assert_array_equal(fitted.error_maps(data)["rgb"], again.error_maps(data)["rgb"])
    assert fitted.state_mb > 0


def test_a_seed_gives_the_same_method_again(name: str) -> None:
    loop = dataclasses.replace(LOOP, epochs=2)
    train, held_out, data = law.grids(20, 1), law.grids(8, 2), law.grids(4, 3)
    one, two = (BASELINES[name].fit(train, held_out, SMALL[name], loop, law.quiet) for _ in range(2))
    np.testing.assert_array_equal(one.error_maps(data)["rgb"], two.error_maps(data)["rgb"])


def test_two_modalities_are_refused(name: str) -> None:
    data = law.grids(4, 1, pair=True)
    with pytest.raises(ValueError, match="rgb, geo"):
        BASELINES[name].fit(data, data, SMALL[name], LOOP, law.quiet)
