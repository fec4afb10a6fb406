"""What `make bench-far` writes into docs/results.md."""

from pathlib import Path

import pytest

from edged.bench_far import _replace, far_markdown, mixed_markdown
from edged.demo import DemoError


def test_only_the_marked_part_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("before\n<!-- begin far -->\nold\n<!-- end far -->\nafter\n")
    _replace(path, "far", "new\n")
    assert path.read_text() == "before\n<!-- begin far -->\nnew\n<!-- end far -->\nafter\n"


def test_a_file_without_markers_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("nothing here\n")
    with pytest.raises(DemoError, match="begin far"):
        _replace(path, "far", "new\n")
    assert path.read_text() == "nothing here\n"


def test_both_parts_name_command_seed_and_model() -> None:
    row = {"auroc": 0.8, "ci": [0.7, 0.9], "n": 20}
    mixed = {
        **row, "n_good": 100, "n_bad": 20, "indeterminate": 1, "model": "demo",
        "by_family": {"pair": row}, "by_type": {"oil": {**row, "ci": None}},
        "components": {"s_P": {**row, "by_family": {"pair": row}}},
        "setpoint_knn": {"auroc": 0.5, "ci": [0.5, 0.5], "by_family": {"pair": {"auroc": None, "ci": None, "n": 20}}},
        "far": {"value": 0.01, "ci": [0.0, 0.03], "n": 100, "budget": 0.01},
    }  # fmt: skip
    text = mixed_markdown(mixed)
    assert "| pair | 20 | 0.800 [0.70, 0.90] | 0.800 [0.70, 0.90] | – |" in text
    assert "bench_far" in text
    far = {
        "seams": [{}] * 300, "false_alarms": 3, "indeterminate": 0, "far": {"value": 0.01, "ci": (0.002, 0.03)},
        "published": 600, "received": 600, "streams": {}, "latency_median_ms": 60.0, "latency_worst_ms": 90.0,
        "cpu_percent": 50.0, "peak_mb": 900.0, "model_id": "m", "seed": 3,
    }  # fmt: skip
    assert "0.0100 [0.0020, 0.0300]" in far_markdown(far)
