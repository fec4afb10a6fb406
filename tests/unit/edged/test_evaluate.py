"""The figures of `edged eval` from scored seams, and what it and `edged train` refuse."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edged.cli import app
from edged.evaluate import ScoredSeam, evaluation, read_truth


def scored(i: int, family: str, type_: str | None, score: float | None, flagged: bool = False) -> ScoredSeam:
    parts = {} if score is None else {"s_P": score, "s_R": -score, "s_RP": 0.0}
    return ScoredSeam(f"s{i}", "p1", f"session{i % 6}", family, type_, score, flagged, parts, float(family == "both"))


def test_figures_of_a_known_case() -> None:
    rng = np.random.default_rng(0)
    seams = [scored(i, "good", None, float(rng.random()), flagged=i == 0) for i in range(60)]
    seams += [scored(100 + i, "process", "tip_wear", 2.0 + i, flagged=True) for i in range(12)]
    seams += [scored(200 + i, "both", "gas_loss", -1.0) for i in range(12)]
    seams += [scored(300, "result", "oil", None), scored(301, "good", None, None)]
    report = evaluation(seams, 0.01)
    assert (report["n_good"], report["n_bad"], report["indeterminate"]) == (61, 25, 2)
    assert report["by_family"]["process"]["auroc"] == 1.0
    assert report["by_family"]["process"]["ci"] == pytest.approx([1.0, 1.0])
    assert report["by_family"]["process"]["n"] == 12
    assert report["by_type"]["gas_loss"]["auroc"] == 0.0
    assert report["auroc"] == pytest.approx(0.5)
    assert set(report["components"]) == {"s_P", "s_R", "s_RP"}
    assert report["components"]["s_R"]["by_family"]["process"]["auroc"] == 0.0
    assert report["components"]["s_RP"]["auroc"] == 0.5
    assert report["setpoint_knn"]["auroc"] == 0.75
    assert report["setpoint_knn"]["by_family"]["both"]["auroc"] == 1.0
    assert report["far"]["value"] == pytest.approx(1 / 60)
    assert (report["far"]["n"], report["far"]["budget"]) == (60, 0.01)
    assert "result" not in report["by_family"]


def test_without_bads_there_is_no_auroc() -> None:
    report = evaluation([scored(i, "good", None, 1.0) for i in range(5)], None)
    assert (report["auroc"], report["by_family"], report["far"]["value"]) == (None, {}, 0.0)


def test_truth_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs to know which seams are bad"):
        read_truth(tmp_path / "truth.jsonl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--recordings", "{dir}", "--out", "{dir}/m"], "no recordings there"),
        (["train", "--recordings", "{dir}", "--out", "{dir}/m", "--pipeline", "magic"], "no pipeline 'magic'"),
        (["eval", "--recordings", "{dir}", "--model", "{dir}/m"], "no recordings there"),
    ],
)
def test_bad_arguments_exit_2_with_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    found = CliRunner().invoke(app, [a.format(dir=tmp_path) for a in arguments])
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())
