"""What `make bench-far` writes into docs/results.md."""

from pathlib import Path

import pytest

from edged.bench.far import far_markdown
from edged.bench.results_part import write_part


def test_only_the_marked_part_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("before\n<!-- begin far -->\nold\n<!-- end far -->\nafter\n")
    write_part(path, "far", "new\n")
    assert path.read_text() == "before\n<!-- begin far -->\nnew\n<!-- end far -->\nafter\n"


def test_a_file_without_markers_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("nothing here\n")
    with pytest.raises(ValueError, match="begin far"):
        write_part(path, "far", "new\n")
    assert path.read_text() == "nothing here\n"


def test_the_part_names_command_seed_and_model() -> None:
    far = {
        "seams": [{}] * 300, "false_alarms": 3, "indeterminate": 0, "far": {"value": 0.01, "ci": (0.002, 0.03)},
        "published": 600, "received": 600, "streams": {}, "latency_median_ms": 60.0, "latency_worst_ms": 90.0,
        "cpu_percent": 50.0, "peak_mb": 900.0, "model_id": "m", "seed": 3,
    }  # fmt: skip
    assert "0.0100 [0.0020, 0.0300]" in far_markdown(far)
    assert "edged bench far" in far_markdown(far)
