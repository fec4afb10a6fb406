"""docs/virtual-cell.md from the report of `edged bench cell`: figures from the report only, text from `page_text.py`.

`write_page` adds the pictures. A row that does not hold is printed in bold as failed, and counted at the top.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from drivers.sim import arc, bead, sound
from drivers.sim.faults import FAULTS
from drivers.sim.programs import PROGRAMS
from edged.bench.gallery import draw_galleries, draw_oracle
from edged.bench.oracle import ORACLE_SPAN, span, spans
from edged.bench.page_text import TEMPLATE
from edged.bench.sources import SOURCES, source_keys

__all__ = ["page", "write_page"]

EASY = 0.98
FAILED = "**failed**"

Row = Mapping[str, Any]
Report = Mapping[str, Any]


def page(report: Report) -> str:
    """The page as Markdown. Raises KeyError naming what the report lacks."""
    lacking = [key for key in ("physics", "probes", "oracle", "pair_bayes_auroc", "r2") if key not in report]
    if lacking:
        raise KeyError(f"the report has no {', '.join(lacking)}; make it with `edged bench cell --json F`")
    return Template(TEMPLATE).substitute(
        sim_version=report.get("sim_version", "?"),
        digest=str(report.get("digest", "?"))[:16],
        quick=" --quick" if report.get("quick") else "",
        made=_made(report),
        verdict=_verdict(report),
        constants=_constants(),
        programs=_programs(),
        physics=_physics(report["physics"]),
        sources=_sources(report["physics"]),
        probes=_probes(report["probes"]),
        pair=_number(report["pair_bayes_auroc"]),
        r2=_r2(report["r2"]),
        span=_span(report["oracle"]),
        faults=_faults(report["oracle"]),
        easy=_easy(report["oracle"]),
    )


def write_page(report: Report, docs: Path) -> Path:
    """Write `docs`/virtual-cell.md and the pictures that it shows, in `docs`/img; returns the page's path."""
    pictures = docs / "img"
    draw_galleries(pictures)
    draw_oracle(report["oracle"], pictures / "cell-oracle.png")
    path = docs / "virtual-cell.md"
    path.write_text(page(report), encoding="utf-8")
    return path


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    """Three significant figures, plainly."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _ok(holds: bool | None) -> str:
    """What a row says of its rule; None: no rule is about it."""
    return "no rule" if holds is None else "yes" if holds else FAILED


def _interval(row: Row) -> str:
    low, high = row["ci"]
    return f"{row['auroc']:.3f} ({low:.3f}–{high:.3f})"


def _made(report: Report) -> str:
    goods = [row["n_per_side"] for row in report["probes"]]
    labelled = sum(row["n"] for row in report["oracle"])
    return f"probes of {min(goods)} seams a side, oracle of {labelled} labelled seams" if goods else "no probes"


def _verdict(report: Report) -> str:
    failed = [f"physics: {row['name']}" for row in report["physics"] if not row["ok"]]
    failed += [f"probe: {row['family']}, {row['probe']}" for row in report["probes"] if row["ok"] is False]
    failed += [f"R²: {row['program']}, {row['quantity']}" for row in report["r2"] if row["ok"] is False]
    if not failed:
        return f"All {len(report['physics'])} physics rows, all validity probes and all R² hold."
    return f"{len(failed)} rows do not hold:\n\n" + "\n".join(f"- {FAILED} {name}" for name in failed)


def _constants() -> str:
    rows = (
        ("melting rate, 1.2 mm wire", f"{bead.ALPHA_I} mm/(A·s) · I + {bead.BETA_I} /(A²·s) · L_e I²", "practice"),
        ("arc voltage", f"{arc.ARC_FALL_V} V + {arc.ARC_V_PER_MM} V/mm + {1e3 * arc.ARC_OHM:.0f} mΩ · I", "(m)"),
        ("electrical model", f"{arc.ARC_HZ / 1e3:.0f} kHz, to the welder's {arc.WELDER_HZ / 1e3:.0f} kHz", "(m)"),
        ("sound", f"{sound.AUDIO_HZ / 1e3:.0f} kHz, pressure follows d(UI)/dt after distance / 343 m/s", "arc-sound"),
        ("deposition", f"{bead.DEPOSITION} of the wire", "lincoln-gmaw"),
        (
            "variation per seam",
            "wire 3 %, travel 3 %, contact tip 1.5 mm, lateral 0.3 mm, plate 20–150 °C",
            "practice",
        ),
        ("gas shield", "sigmoid: an 80/20 mix stays sound down to about 5 L/min at the nozzle", "bitharas"),
        ("pool", "an oscillator near the short-circuit rate", "hermans"),
    )
    return _table(("what", "value", "source"), rows)


def _programs() -> str:
    rows = (
        (
            p.name, p.transfer, p.joint, f"{p.plate_mm:g}", f"{p.current_a:g}", f"{p.voltage_v:g}",
            f"{p.wire_feed_m_min:g}", f"{p.travel_mm_s:g}", f"{p.ctwd_mm:g}", f"{p.gas_l_min:g}", ", ".join(p.views),
        )
        for p in PROGRAMS.values()
    )  # fmt: skip
    head = "program, transfer, joint, plate mm, A, V, wire m/min, travel mm/s, tip mm, gas L/min, views"
    return _table(head.split(", "), rows)


def _physics(rows: Sequence[Row]) -> str:
    return _table(
        ("what", "here", "range", "unit", "source", "holds"),
        (
            (row["name"], _number(row["value"]), f"{_number(row['low'])} to {_number(row['high'])}", row["unit"],
             row["source"], _ok(row["ok"]))
            for row in rows
        ),
    )  # fmt: skip


def _sources(rows: Sequence[Row]) -> str:
    # The constants' table names two that no row measures.
    used = {key for row in rows for key in source_keys(row["source"])} | {"arc-sound", "hermans"}
    lines = ((key, source.reference, source.says) for key, source in SOURCES.items() if key in used)
    return _table(("key", "reference", "what it says"), lines)


def _probes(rows: Sequence[Row]) -> str:
    return _table(
        ("family", "probe", "AUROC (95 %)", "seams a side", "holds"),
        ((r["family"], r["probe"], _interval(r), str(r["n_per_side"]), _ok(r["ok"])) for r in rows),
    )


def _r2(rows: Sequence[Row]) -> str:
    quantities = list(dict.fromkeys(row["quantity"] for row in rows))
    found = {(row["program"], row["quantity"]): row for row in rows}

    def cell(program: str, quantity: str) -> str:
        row = found.get((program, quantity))
        if row is None:
            return ""
        low, high = row["ci"]
        return f"{row['r2']:.2f} ({low:.2f}–{high:.2f}){'' if row['ok'] else f' {FAILED}'}"

    programs = list(dict.fromkeys(row["program"] for row in rows))
    return _table(("program", *quantities), ([p, *(cell(p, q) for q in quantities)] for p in programs))


def _span(rows: Sequence[Row]) -> str:
    low, high = span(rows)
    wanted = f"{ORACLE_SPAN[0]} to {ORACLE_SPAN[1]}"
    return f"Over the grid it spans {low:.2f} to {high:.2f}; {wanted} is wanted: {_ok(spans(low, high))}."


def _faults(rows: Sequence[Row]) -> str:
    found = {(row["type"], int(row["severity"])): row for row in rows}
    types = list(dict.fromkeys([*FAULTS, *(row["type"] for row in rows)]))

    def cell(name: str, severity: int) -> str:
        parts = [f"{FAULTS[name].severities[severity - 1]:g}"] if name in FAULTS else []
        row = found.get((name, severity))
        if row is not None and row["auroc"] is not None:
            parts.append(_interval(row))
            if row.get("delay_s_p50") is not None:
                parts.append(f"{row['delay_s_p50']:.1f} s")
        return "<br>".join(parts)

    def family(name: str) -> str:
        if name in FAULTS:
            return FAULTS[name].family
        return next(str(row["family"]) for row in rows if row["type"] == name)

    return _table(
        ("type", "family", "unit", "1", "2", "3", "4", "5"),
        (
            (name, family(name), FAULTS[name].unit if name in FAULTS else "σ", *(cell(name, k) for k in range(1, 6)))
            for name in types
        ),
    )


def _easy(rows: Sequence[Row]) -> str:
    easy = [f"{row['type']} {row['severity']}" for row in rows if (row["auroc"] or 0) >= EASY]
    if not easy:
        return f"No fault reaches an oracle AUROC of {EASY}."
    return f"Faults that the oracle finds at {EASY} or better, which the demo may draw from: {', '.join(easy)}."
