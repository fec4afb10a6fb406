"""What a run of one pipeline over one corpus gives: a score per test seam, and which seam that was.

Everything that is printed or drawn is computed from these and from nothing else, so a figure can be made anew
without scoring again.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROW_FIELDS", "Run", "TestSeam", "load_run", "save_run"]

ROW_FIELDS = (
    "pipeline", "preset", "size", "tier", "pair", "fusion", "ablation", "streams", "sensor_rate",
    "seed", "corpus", "schedule", "sim_version",
)  # fmt: skip
"""What tells one run from another; null: all, or not applicable."""

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class TestSeam:
    """`family` "good" has no type; `value` in `unit` is the severity in physical units, `severity` 1–5.

    `onset_mm`, `end_mm`: where the fault shows along the seam, None where the truth gives no place.
    """

    __test__: ClassVar[bool] = False  # the name begins like a test's, and pytest would collect it

    seam_id: str
    program: str
    session: str
    family: str
    type: str | None = None
    severity: int | None = None
    value: float | None = None
    unit: str | None = None
    onset_mm: float | None = None
    end_mm: float | None = None

    @property
    def bad(self) -> bool:
        """Whether the truth names a fault."""
        return self.family != "good"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One pipeline's answers.

    `row`: a value for each of `ROW_FIELDS`. `score` (n,): raw / threshold of the seam's program, so that more than 1
    is flagged at the budget; higher is more anomalous. `parts`: further scores of the same seams, by name (s_P, s_R,
    s_RP, …), any scale. `rows` (n, W): score along the seam where the pipeline has one, over `rows_mm` (n, 2), the
    seam frame's ends; None otherwise. `costs`: latency_ms_p50, head_ms_p50, peak_mb, state_mb, train_s.
    """

    row: Mapping[str, Any]
    seams: tuple[TestSeam, ...]
    score: Array
    parts: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    rows: Array | None = None
    rows_mm: Array | None = None
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)


def save_run(run: Run, path: Path) -> None:
    """Write to an npz file; whole or not at all."""
    about = {"row": dict(run.row), "seams": [dataclasses.asdict(s) for s in run.seams], "costs": dict(run.costs)}
    arrays = {f"part.{name}": values for name, values in run.parts.items()}
    if run.rows is not None and run.rows_mm is not None:
        arrays |= {"rows": run.rows, "rows_mm": run.rows_mm}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, about=np.array(json.dumps(about)), score=run.score, **arrays, allow_pickle=False)
    part.replace(path)


def load_run(path: Path) -> Run:
    """Read what `save_run` wrote."""
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        return Run(
            row=about["row"],
            seams=tuple(TestSeam(**seam) for seam in about["seams"]),
            score=file["score"],
            parts={name.removeprefix("part."): file[name] for name in file.files if name.startswith("part.")},
            rows=file["rows"] if "rows" in file.files else None,
            rows_mm=file["rows_mm"] if "rows_mm" in file.files else None,
            costs=about["costs"],
        )
