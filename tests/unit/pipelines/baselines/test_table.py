"""The baselines' table."""

import subprocess
import sys

import pytest

from pipelines.baselines.table import BASELINES
from pipelines.grids import MODALITIES


@pytest.mark.parametrize("name", BASELINES)
def test_every_row_can_be_used(name: str) -> None:
    row = BASELINES[name]
    assert callable(row.fit)
    assert callable(row.restore)
    for preset in ("compat", "cell"):
        for size in ("cpu", "gpu"):
            assert type(row.config(preset, size)).__name__ == f"{row.class_name}Config"  # type: ignore[arg-type]
    if row.kind == "grid":
        assert {modality for taken in row.takes for modality in taken} <= set(MODALITIES)


def test_the_table_alone_loads_no_torch() -> None:
    code = "import sys, pipelines.baselines.table; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
