"""The model that ships with edged scores alike, whichever form of the scan runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.causal_hm import CausalHM
from pipelines.models import DEMO_MODEL, load_detector
from pipelines.selective_scan import BackendError, forced_backend
from pipelines.selective_scan.choice import BACKENDS
from tests.support.backbone import TinyBackbone

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> CausalHM:
    with pytest.MonkeyPatch.context() as patch:  # no pictures are looked at here
        patch.setattr("pipelines.causal_hm.load_backbone", lambda *_: TinyBackbone())
        found = load_detector(Path(DEMO_MODEL), cache_dir=tmp_path_factory.mktemp("cache"))
    assert isinstance(found, CausalHM)
    return found


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "torch"])
def test_the_demo_models_process_states_and_prediction(demo: CausalHM, name: str) -> None:
    """Blocks of 1 s with the state carried, as live; then what the head makes of them."""
    net = demo.fitted.net.eval()
    walk = np.random.default_rng(4).standard_normal((1, 1600, net.config.sensor)).cumsum(1) / 20
    steps = torch.from_numpy(walk.astype(np.float32)).clamp(-8, 8)

    def states() -> torch.Tensor:
        state, parts = None, []
        with torch.inference_mode():
            for piece in steps.split(100, 1):
                part, state = net.sensor(piece, state)
                parts.append(part)
        return torch.cat(parts, 1)

    with forced_backend("torch"):
        wanted = states()
    try:
        with forced_backend(name):
            found = states()
    except BackendError as error:
        pytest.skip(str(error))
    assert float(wanted.std()) > 0.1  # not all the same anyway
    torch.testing.assert_close(found, wanted, atol=TOLERANCE, rtol=TOLERANCE)
