"""The clauses and their pages."""

import re
from pathlib import Path

from edged.plcsim.clauses import CLIENT, DAEMON, Outcome, as_report, markdown

DOCS = Path(__file__).parents[4] / "docs"


def test_every_rule_stands_in_the_specification() -> None:
    page = (DOCS / "verdict.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"\*\*(\d+\.\d+)\b", page)) | set(re.findall(r"^## (\d+) ", page, re.MULTILINE))
    named = {rule for clause in [*DAEMON.values(), *CLIENT.values()] for rule in clause.rules}
    assert named <= rules


def test_the_page_has_the_table_of_the_code() -> None:
    page = (DOCS / "plc-sim.md").read_text(encoding="utf-8")
    for clauses in (DAEMON, CLIENT):
        assert markdown(clauses) in page


def test_report() -> None:
    report = as_report(
        "client", "x", [Outcome("C1", "pass"), Outcome("C2", "fail", "2 missing"), Outcome("C11", "skip")]
    )
    assert (report["pass"], report["fail"], report["skip"]) == (1, 1, 1)
    assert report["clauses"][1]["detail"] == "2 missing"
    assert report["clauses"][1]["rules"] == CLIENT["C2"].rules
