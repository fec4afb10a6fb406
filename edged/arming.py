"""Who armed or disarmed a program, when and for what: the record that a reboot does not forget.

The daemon alone writes it, into its journal. An arming names the model, the calibration, the budget and the
thresholds that it was given for; it holds for no others.
"""

import dataclasses
from typing import Literal

__all__ = ["ArmRecord"]


@dataclasses.dataclass(frozen=True, slots=True)
class ArmRecord:
    """One line of the table `arming`; `sequence` is the journal's last verdict before it.

    `budget` is the config's own false-alarm budget then, None where it left that to the thresholds.
    """

    program: str
    action: Literal["arm", "disarm"]
    by: str
    utc_ns: int
    sequence: int
    why: str = ""
    model_id: str = ""
    calibration_id: str = "none"
    budget: float | None = None
    threshold_ids: tuple[str, ...] = ()
