"""End to end in the bench: the extractor over a whole seam, measured, and the head after it."""

import json
from pathlib import Path

import pytest

from drivers.sim.plan import plan_seams
from edged.bench.detection import extraction
from edged.bench.detection.answers import _with_latency
from edged.bench.detection.corpus import Size, plan_corpus
from edged.bench.detection.data import CorpusData
from edged.bench.detection.extraction import extraction_of
from edged.simulated_seam import Bulk, extraction_ms

TINY = Size("tiny", 2, 1, 1, 4, 1, ("short-butt-3",), sessions=3)


@pytest.mark.timeout(600)  # renders real seams
def test_the_extractor_is_timed_over_real_seams_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "SEAMS", 1)
    corpus = plan_corpus(1, TINY)
    found = extraction_of(corpus, tmp_path, tmp_path, tier="tiny")
    (row,) = json.loads((tmp_path / "extraction.json").read_text())
    assert row["push_ms"] > 1.0
    assert row["finish_ms"] > 1.0
    assert found == pytest.approx(row["push_ms"] + row["finish_ms"])
    (tmp_path / "extraction.json").write_text('[{"push_ms": 2.0, "finish_ms": 1.0}]')
    assert extraction_of(corpus, tmp_path, tmp_path, tier="tiny") == 3.0


def test_recordings_have_no_extractor_to_time(tmp_path: Path) -> None:
    (plan, *_) = plan_seams(1, 1)
    with pytest.raises(ValueError, match="give Bulk a cache_dir"):
        extraction_ms(plan, Bulk(), tmp_path)


def _data(extract_ms: float | None) -> CorpusData:
    return CorpusData(None, [], None, None, (), [], extract_ms)  # type: ignore[arg-type]


def test_end_to_end_is_extractor_and_head_where_both_are_known() -> None:
    assert _with_latency(_data(100.0), {"head_ms_p50": 5.0})["latency_ms_p50"] == 105.0
    assert "latency_ms_p50" not in _with_latency(_data(None), {"head_ms_p50": 5.0})
    assert "latency_ms_p50" not in _with_latency(_data(100.0), {"train_s": 5.0})


def test_a_pipeline_that_needs_no_features_keeps_its_own() -> None:
    assert _with_latency(_data(100.0), {"head_ms_p50": 5.0, "latency_ms_p50": 5.0})["latency_ms_p50"] == 5.0
