"""Detectors of a pair of modalities in the real worker process, and the same scores from `edged replay`."""

import json
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from drivers.sim.plan import plan_seams
from edged.cli import app
from edged.demo import DemoError, run_plan, shipped_model
from edged.recorded import list_recorded, rescore
from edged.scoring import ScoreReply
from edged.simulate import session_names_of, simulate_recordings
from edged.worker import WorkerSettings
from edged.worker_client import WorkerClient
from pipelines.grid_build import GridOptions, build_grid
from pipelines.training import TrainConfig
from pipelines.window import SeamWindow
from tests.support.cell import FakeScorer
from tests.support.law_grids import laid_goods

PROGRAM = "short-butt-3"
SEED = 11
PATIENCE_S = 400.0


def made_up_model(folder: Path, detector: str, pair: tuple[str, ...]) -> Path:
    """Learned from made-up seams: its scores mean nothing, but they are the detector's."""
    goods = laid_goods(60, programs=(PROGRAM, "other"))
    options = GridOptions(pair=pair, shape=(6, 8), epochs=1)  # type: ignore[arg-type]
    build_grid(detector, goods, [{}] * len(goods), folder / "model", TrainConfig(), 0.2, options=options)
    return folder / "model"


def by_the_worker(model: Path, seen: FakeScorer, folder: Path) -> ScoreReply:
    """What the scoring process answers to the very calls that a daemon's engine made."""
    settings = WorkerSettings(models={PROGRAM: str(model)}, device="cpu", threads=1, cache_dir=folder / "cache")
    client = WorkerClient(
        settings,
        folder / "run",
        finish_timeout_s=PATIENCE_S,
        start_timeout_s=PATIENCE_S,
        silence_timeout_s=PATIENCE_S,
    )
    try:
        (window,) = seen.windows
        assert isinstance(window, SeamWindow)
        client.begin(seen.begun[0], window.streams)
        for chunk in seen.pushed[window.seam.seam_id]:
            client.push(window.seam.seam_id, chunk)
        client.finish(window)
        end = time.monotonic() + PATIENCE_S
        while not (replies := client.poll()):
            assert time.monotonic() < end, client.health()
            if client.socket is not None:
                client.socket.poll(20)
        return replies[0]
    finally:
        client.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("detector", "pair"), [("mafr", ("rgb", "proc")), ("uni_rcm", ("geo", "proc"))])
def test_replay_gives_the_scores_of_the_worker_again(tmp_path: Path, detector: str, pair: tuple[str, ...]) -> None:
    model = made_up_model(tmp_path, detector, pair)
    plans = plan_seams(1, SEED, "good", [PROGRAM], sessions=session_names_of(SEED, 1))
    simulate_recordings(plans, tmp_path / "recordings", jobs=1, profiler="geo" in pair)
    (seam,) = list_recorded(tmp_path / "recordings")
    seen = FakeScorer()
    rescore(seam.path, seen, str(model))
    live = by_the_worker(model, seen, tmp_path)
    assert live.score is not None, live.detail
    assert live.score.model_id.startswith(f"{detector}-")
    assert live.score.score is not None
    assert live.score.score > 0

    command = ["replay", str(seam.path), "--model", str(model), "--json", str(tmp_path / "r.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (line,) = json.loads((tmp_path / "r.json").read_text())["seams"]
    assert line["model_id"] == live.score.model_id
    assert line["score"] == pytest.approx(live.score.score, rel=1e-4)


def test_a_cell_without_a_profiler_does_not_start_with_a_model_that_needs_one(tmp_path: Path) -> None:
    model = made_up_model(tmp_path, "cfm", ("geo", "proc"))
    plan = plan_seams(1, SEED, "good", [PROGRAM], sessions=session_names_of(SEED, 1))
    with pytest.raises(DemoError, match=r"use a model of the pair \(rgb,proc\)"):
        run_plan(plan, SEED, tmp_path / "out", str(model), Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_a_model_that_does_not_ship_is_told_how_to_make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipelines.models.DEMO_MODELS", tmp_path)
    assert shipped_model("causal_hm", profiler=True) == "demo"
    with pytest.raises(DemoError, match=r"--pipeline mafr --pair geo,proc .* and give --model DIR"):
        shipped_model("mafr", profiler=True)
    with pytest.raises(DemoError, match="no pipeline 'oracle'; known: causal_hm, cfm, ib_iumad"):
        shipped_model("oracle", profiler=False)
    (tmp_path / "mafr-rgb-proc").mkdir()
    assert shipped_model("mafr", profiler=False) == "demo:mafr-rgb-proc"
