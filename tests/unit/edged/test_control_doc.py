"""docs/control.md names every op and every field that the control socket takes, and no other."""

import re
from pathlib import Path

from edged.messages import OPS, Arm, Disarm

DOC = Path(__file__).parents[3] / "docs" / "control.md"


def documented() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", DOC.read_text(encoding="utf-8"), re.M)
    return {op: set(re.findall(r"`(\w+)`", fields)) for op, fields in rows}


def test_every_op_is_documented_with_exactly_its_fields() -> None:
    found = documented()
    messages = {**OPS, "arm": Arm, "disarm": Disarm}
    assert set(found) == {*messages, "status", "programs"}
    for op, message in messages.items():
        assert found[op] == set(message.model_fields) - {"op"}, op


def test_the_readme_points_there() -> None:
    assert "docs/control.md" in (DOC.parents[1] / "README.md").read_text(encoding="utf-8")
