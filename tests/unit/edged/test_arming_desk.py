"""Arming in the daemon: refused with what is missing, recorded, bound to what it was given for, watched for drift."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.arming_desk import ArmingDesk
from edged.cell_thresholds import load_cell, thresholds_folder, write_cell
from edged.config import Config
from edged.journal import Journal
from edged.messages import ControlError
from edged.types import Label
from edged.wire import HealthMessage, decode, pack
from pipelines.thresholds import Threshold, calibrate
from tests.support.cell import config
from tests.support.models import write_band_model
from tests.support.verdicts import a_score, a_verdict

MODEL = "m1"
UTC = "2026-01-01T00:00:00+00:00"


class Box:
    """A cell's folder with a journal that can be closed and opened again, as by a reboot."""

    def __init__(self, root: Path, mode: str = "shadow", **program: Any) -> None:
        model = write_band_model(root / "model")
        fields = {"mode": mode, "model": str(model), **program}
        self.config: Config = config({"fillet": fields}, cell={"data_dir": str(root)})
        self.folder = thresholds_folder(root)
        self.models = {"fillet": MODEL}
        self.start()

    def start(self, models: dict[str, str] | None = None, calibration_id: str = "none") -> None:
        self.models = self.models if models is None else models
        self.journal = Journal(self.config.cell.data_dir / "journal.db", reserve_bytes=4096)
        self.desk = ArmingDesk(self.config, self.journal, lambda: self.models, calibration_id)

    def restart(self, **changes: Any) -> None:
        self.journal.close()
        self.start(**changes)

    def arm(self) -> dict[str, Any]:
        return dict(self.desk.arm({"op": "arm", "program": "fillet", "by": "ann"}))

    @property
    def mode(self) -> str:
        return self.desk.health()["fillet"].mode


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    found = Box(tmp_path)
    yield found
    found.journal.close()


def learned(goods: int = 99, sessions: int | None = 4, streams: tuple[str, ...] = ("welder",)) -> Threshold:
    row = calibrate(MODEL, "fillet", streams, [1 + i / goods for i in range(goods)], max(0.01, 1 / (goods + 1)))
    return dataclasses.replace(
        row, alpha=0.01, sessions=sessions, learned_utc=UTC, interval=(0.0, 0.03), interval_by_session=(0.0, 0.05)
    )


def test_armed_survives_a_reboot_and_says_who_and_when(box: Box) -> None:
    assert box.mode == "shadow"
    write_cell(box.folder, [learned(), learned(50, streams=("audio", "welder"))])
    answer = box.arm()
    assert [row["streams"] for row in answer["armed"]] == [("welder",)]
    assert answer["left_out"] == [
        {"streams": ("audio", "welder"), "lack": "needs 49 more goods for a budget of 1.00% (has 50)"}
    ]
    box.restart()
    line = box.desk.health()["fillet"]
    assert (line.mode, line.by, line.why) == ("armed", "ann", "")
    assert line.since_utc_ns is not None
    assert box.desk.warnings() == []
    box.desk.disarm({"op": "disarm", "program": "fillet", "by": "bob", "why": "new tip"})
    box.restart()
    line = box.desk.health()["fillet"]
    assert (line.mode, line.by, line.why) == ("shadow", "bob", "disarmed by bob: new tip")
    assert box.desk.warnings() == [], "somebody wanted it so"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "there is no threshold for m1; edged learn fillet"),
        ([learned(62)], "needs 37 more goods for a budget of 1.00% (has 62)"),
        ([learned(sessions=1)], "needs goods of at least 3 sessions (has 1)"),
        ([learned(sessions=None)], "nobody noted of how many sessions"),
        ([dataclasses.replace(learned(), calibration_id="c2")], "there is no threshold"),
        ([dataclasses.replace(learned(), signal="live")], "there is no threshold"),
        ([dataclasses.replace(learned(), model_id="m0")], "there is no threshold"),
    ],
)
def test_too_little_is_refused_with_what_is_missing(box: Box, rows: list[Threshold], words: str) -> None:
    if rows:
        write_cell(box.folder, rows)
    with pytest.raises(ControlError, match=r".*") as refused:
        box.arm()
    assert words in str(refused.value)
    assert box.mode == "shadow"


def test_what_cannot_be_armed_is_said(tmp_path: Path) -> None:
    box = Box(tmp_path, mode="collecting")
    write_cell(box.folder, [learned()])
    with pytest.raises(ControlError, match="the config says collecting"):
        box.arm()
    with pytest.raises(ControlError, match=r"'tee' is not configured \(known: fillet\)"):
        box.desk.arm({"op": "arm", "program": "tee", "by": "ann"})
    with pytest.raises(ControlError, match="by: Field required; colour: unknown field"):
        box.desk.arm({"op": "arm", "program": "fillet", "colour": "red"})
    box.models = {}
    box.restart()
    box.journal.close()


def test_a_model_that_is_not_loaded_cannot_be_armed(box: Box) -> None:
    box.models = {}
    with pytest.raises(ControlError, match="its model is not loaded"):
        box.arm()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": {"fillet": "m2"}}, "armed for model m1, now it is m2"),
        ({"calibration_id": "c2"}, "armed for calibration none, now it is c2"),
    ],
)
def test_another_model_or_calibration_is_shadow_with_a_warning(box: Box, changes: dict[str, Any], words: str) -> None:
    write_cell(box.folder, [learned()])
    box.arm()
    box.restart(**changes)
    assert box.mode == "shadow"
    (warning,) = box.desk.warnings()
    assert words in warning
    box.restart(models={"fillet": MODEL})
    assert box.mode == "armed", "back where it was armed for"


def test_learning_anew_is_shadow_until_somebody_arms_it_again(box: Box) -> None:
    write_cell(box.folder, [learned()])
    box.arm()
    write_cell(box.folder, [learned(120)])
    assert box.mode == "armed", "nobody has looked yet"
    box.desk.tick()
    assert box.mode == "shadow"
    assert "not those that were armed" in box.desk.warnings()[0]
    box.arm()
    assert box.mode == "armed"


def test_a_damaged_file_is_told_and_arms_nothing(box: Box) -> None:
    path = write_cell(box.folder, [learned()])
    box.arm()
    path.write_text("{")
    box.restart()
    assert box.mode == "shadow"
    assert str(path) in box.desk.warnings()[0]
    assert load_cell(box.folder)[1][0].endswith("learn it again with edged learn")


def test_health_goes_over_the_wire(box: Box) -> None:
    write_cell(box.folder, [learned()])
    box.arm()
    message = HealthMessage(
        journal_id="j", cell="c", state="ok", warnings=[], streams={}, worker={}, config_id="i", utc_ns=1,
        programs=box.desk.health(),
    )  # fmt: skip
    found = decode("health", pack({"schema": 1, **message.model_dump()}))
    assert isinstance(found, HealthMessage)
    line = found.programs["fillet"]
    assert (line.mode, line.goods, line.sessions, line.needed, line.false_alarm_budget) == ("armed", 99, 4, 99, 0.01)
    rows = box.desk.programs({})["programs"]["fillet"]["thresholds"]
    assert (rows[0]["interval"], rows[0]["is_armed"]) == ((0.0, 0.03), True)
    pack(box.desk.programs({}))


def test_the_interval_of_another_budget_is_not_shown(tmp_path: Path) -> None:
    box = Box(tmp_path, false_alarm_budget=0.05)
    write_cell(box.folder, [learned()])
    box.desk.tick()
    (row,) = box.desk.programs({})["programs"]["fillet"]["thresholds"]
    assert (row["interval"], row["needed"], row["limit"]) == (None, 19, learned().scores[94])
    box.journal.close()


def weld(box: Box, raw: float, number: int, threshold: Threshold, **changes: Any) -> None:
    score = a_score(raw=raw, threshold_id=threshold.threshold_id)
    verdict = a_verdict(f"seam-{number}", "fillet", score=score, **changes)
    box.desk.journaled(verdict, box.journal.append(verdict).sequence)


def test_drift_rings_before_false_alarms_and_survives_a_restart(box: Box) -> None:
    row = learned()
    write_cell(box.folder, [row])
    box.arm()
    for number in range(10):
        weld(box, 1.9, number, row)
        weld(box, 99.0, 1000 + number, row, label=Label.NOK)
    partly = box.desk.health()["fillet"].drift
    assert 0 < partly < 1
    box.restart()
    assert box.desk.health()["fillet"].drift == pytest.approx(partly)
    for number in range(10, 60):
        weld(box, 1.9, number, row)
    assert box.desk.health()["fillet"].drift == 1.0
    box.restart()
    (warning,) = box.desk.warnings()
    assert "score higher than those that its limit was learned from" in warning
    assert box.mode == "armed", "it warns; people decide"
    box.arm()
    assert box.desk.warnings() == [], "arming again says that somebody has looked"


def test_drift_is_watched_in_shadow_too(box: Box) -> None:
    row = learned()
    write_cell(box.folder, [row])
    box.desk.tick()
    for number in range(60):
        weld(box, 1.9, number, row, label=Label.INDETERMINATE, mode="shadow", shadow_label=Label.OK)
    assert box.desk.health()["fillet"].drift == 1.0
