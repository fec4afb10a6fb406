"""The figures of `edged bench live` and `edged bench latency`: what counts as a warning, and how late is late."""

import threading
from pathlib import Path

import pytest

from edged.bench.latency import BARS_MS, NoOp, _Seen, figures_of, latency_markdown
from edged.bench.live import Alarm, delay_s, live_markdown
from edged.bench.live import figures_of as live_figures
from edged.bench.results_part import write_part


def test_an_alarm_before_the_onset_is_none() -> None:
    assert delay_s([0.5, 1.2, 1.3], 1.0) == pytest.approx(0.2)
    assert delay_s([0.5], 1.0) is None
    assert delay_s([], 1.0) is None


def test_the_median_is_of_what_the_oracle_knows_soon_and_never_is_longest() -> None:
    oracle = {("undercut", 5): 0.1, ("overlap", 1): 1.0, ("gas_loss", 1): None}
    alarms = [Alarm("undercut", 5, "p", delay) for delay in (0.2, 0.4, None)]
    alarms += [Alarm("overlap", 1, "p", None), Alarm("gas_loss", 1, "p", None)]
    report = live_figures(alarms, [(False, "a"), (True, "b")] * 50, oracle)
    assert (report["median_delay_s"], report["holds"]) == (0.4, True)
    assert (report["severities"], report["severities_within_bar"]) == (1, 1)
    assert report["false_alarms"]["value"] == 0.5
    edge = live_figures([Alarm("undercut", 5, "p", None)], [(False, "a")], {("undercut", 5): 0.1 + 0.2})
    assert edge["severities"] == 1  # 0.30000000000000004
    never = live_figures([*alarms, *(Alarm("undercut", 5, "p", None) for _ in range(3))], [(False, "a")] * 9, oracle)
    assert (never["median_delay_s"], never["holds"]) == (None, False)
    about = {"command": "c", "corpus": "k", "train": 1, "calibration": 1, "defects": 5}
    assert "| undercut | 5 | 3 | 0.10 | 0.40 | 67% |" in live_markdown(report | about)
    assert "overlap" not in live_markdown(report | about)


def test_latencies_run_from_the_signal_to_the_subscriber(tmp_path: Path) -> None:
    seen = _Seen()
    for late_ms in (10, 20, 30):
        seen.add("live", {"t_s": late_ms / 25, "until_utc_ns": 0, "received_utc_ns": late_ms * 1_000_000})
    verdict = {"latency_from_last_input_ms": 40.0, "decided_utc_ns": 0, "received_utc_ns": 5_000_000}
    seen.add("verdict/x", verdict | {"stage_ms": {"result": 30.0}})
    seen.add("verdict/x", verdict | {"latency_from_last_input_ms": None, "stage_ms": {}})
    found = figures_of(seen, [1.0, 2.0], {"cpu_seconds_per_seam": 1.5, "model_id": "m"})
    assert set(BARS_MS) <= found.keys()
    assert (found["live_ms_p50"], found["verdict_ms_p50"]) == (20.0, 45.0)
    assert found["stages"]["decision_to_subscriber"]["p50"] == 5.0
    assert found["stages"]["live_first_half_second"]["max"] == 10.0
    assert found["stages"]["live_later"]["p50"] == 25.0
    assert found["n"] == {"verdicts": 1, "live": 3, "noop": 2}
    page = tmp_path / "results.md"
    page.write_text("before\n<!-- begin latency -->\nold\n<!-- end latency -->\nafter\n")
    text = latency_markdown(found | {"command": "c", "machine": {"cores": 2, "load_1min_before": 0.1}})
    write_part(page, "latency", text)
    assert "| 20.0 |" in page.read_text()
    assert "old" not in page.read_text()
    with pytest.raises(ValueError, match="no markers <!-- begin live -->"):
        write_part(page, "live", text)


def test_the_no_op_measures_while_it_stands() -> None:
    before = threading.active_count()
    with NoOp() as noop:
        assert threading.active_count() == before + 1
    assert all(late_ms >= 0 for late_ms in noop.late_ms)
    assert threading.active_count() == before
