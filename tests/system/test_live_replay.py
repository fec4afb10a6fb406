"""The live score of a recorded seam: a replay publishes what was published while the arc burned."""

from pathlib import Path
from typing import Any

import pytest

from drivers.sim.plan import plan_seams
from drivers.sim.render import render_seam
from drivers.sim.seam import IMAGE_PRESETS
from edged.cell_thresholds import thresholds_folder, write_cell
from edged.local_scorer import LocalScorer
from edged.recording import SeamRecorder, config_metadata
from edged.replay import CACHE_DIR, local_engine
from edged.replay_engine import replay_recording
from edged.scoring import LiveReply
from edged.simulated_seam import Bulk, _config, _header, _start_ns, _through_engine
from edged.wire import TimePair
from edged.wire_encode import encode_live
from pipelines.models import load_detector, model_directory
from pipelines.thresholds import ThresholdTable, calibrate
from pipelines.window import LivePoint, Seam

PROGRAM = "short-butt-3"
KINDS = ("audio", "video", "welder")


class Tapped(LocalScorer):
    """Keeps the points as the engine takes them."""

    told: list[LivePoint]

    def live(self) -> list[LiveReply]:
        replies = super().live()
        self.told = [*getattr(self, "told", []), *(point for reply in replies for point in reply.points)]
        return replies


def published(seam: Seam, point: LivePoint) -> dict[str, Any]:
    message = encode_live(seam, point, TimePair(0, 0), is_simulated=True).model_dump()
    numbers = {name: message[name] for name in ("t_s", "mm", "score", "raw_score")}
    return {**numbers, **message["components"], **dict.fromkeys(message["without"], 1.0)}


@pytest.mark.slow
def test_a_replay_publishes_the_same_points_and_holds_them_against_the_cells_limit(tmp_path: Path) -> None:
    bulk = Bulk()
    (plan,) = plan_seams(1, 23, "good", (PROGRAM,), sessions=("live-replay",))
    config = _config(plan, bulk)
    detector = load_detector("demo", cache_dir=CACHE_DIR)
    scorer = Tapped(dict.fromkeys(config.programs, detector))
    config = config.model_copy(
        update={
            "cell": config.cell.model_copy(update={"data_dir": tmp_path}),
            "programs": {k: v.model_copy(update={"model": "demo"}) for k, v in config.programs.items()},
        }
    )
    recorder = SeamRecorder(tmp_path, lambda: _header(config, _start_ns(plan)), config_metadata(config))
    verdict, said = _through_engine(render_seam(plan, IMAGE_PRESETS["small"]), bulk, config, scorer, recorder)
    recorder.close()
    assert verdict is not None, said

    def replayed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        factory = local_engine(on_live=lambda seam, point: found.append(published(seam, point)))
        replay_recording(Path(verdict.recording or ""), factory)
        return found

    live = [published(verdict.seam, point) for point in scorer.told]
    assert len(live) > 20
    again = replayed()
    assert len(again) == len(live)
    for then, now in zip(live, again, strict=True):
        assert now == pytest.approx(then, rel=1e-4, abs=1e-4)
    own = ThresholdTable.load(model_directory("demo") / "thresholds.json")
    limit = own.find(detector.model_id, PROGRAM, KINDS, signal="live")
    assert limit is not None
    assert all(row["score"] == pytest.approx(row["raw_score"] / limit.value, rel=1e-6) for row in live)

    raw = [50.0 + k for k in range(99)]
    write_cell(thresholds_folder(tmp_path), [calibrate(detector.model_id, PROGRAM, KINDS, raw, 0.01, signal="live")])
    assert all(row["score"] == pytest.approx(row["raw_score"] / 148.0, rel=1e-6) for row in replayed())
