"""The primary contrasts, fixed before any detector was trained, with paired intervals and Holm's correction.

A contrast is a signed sum of AUROCs. Points 2 and 5 of the protocol each ask two questions, so eight p-values are
corrected together; one that could not be computed counts as 1 and spares the others nothing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from edged.bench.detection.arms import MARGINAL, PRODUCT, Arm, corpora_of, pair_name, side_of, title, variants
from edged.bench.detection.clusters import BOOTSTRAPS
from edged.bench.detection.paired import Wanted, combine, points_of
from edged.bench.detection.scored import Run, TestSeam

__all__ = ["CONTRASTS", "Best", "Contrast", "contrast_rows", "holm", "wanted_of"]

NOISE = "sensor_noise:0.3"


@dataclasses.dataclass(frozen=True, slots=True)
class Best:
    """Of these, the one with the highest AUROC on the first corpus, in the families of the contrast."""

    arms: tuple[Arm, ...]
    what: str
    joint: bool
    """Whether its runs see both halves; else those that see one."""

    def __str__(self) -> str:
        return f"best {self.what}"


@dataclasses.dataclass(frozen=True, slots=True)
class Contrast:
    """Σ sign · AUROC(arm) + constant over seams of `families` (None: all of them) and all goods."""

    name: str
    terms: tuple[tuple[float, Arm | Best], ...]
    families: tuple[str, ...] | None = None
    constant: float = 0.0
    primary: bool = True


JOINT = Best(
    (Arm("cfm"), Arm("mafr"), Arm("uni_rcm", pair="geo,proc"), Arm("memory_bank_concat")),
    "joint baseline",
    True,
)
CONTRASTS = (
    Contrast(
        "1 causal_hm_full − best marginal baseline",
        ((1, Arm(PRODUCT)), (-1, Best(tuple(Arm(name) for name in MARGINAL), "marginal baseline", False))),
    ),
    Contrast("2a causal_hm_mismatch − 0.5 on pair", ((1, Arm("causal_hm_mismatch")),), ("pair",), -0.5),
    Contrast(
        "2b causal_hm_mismatch − best joint baseline on pair",
        ((1, Arm("causal_hm_mismatch")), (-1, JOINT)),
        ("pair",),
    ),
    Contrast(
        "3 P→R − R→P",
        ((1, Arm("causal_hm", "direction:p_to_r")), (-1, Arm("causal_hm", "direction:r_to_p"))),
    ),
    Contrast(
        "4 with − without anti-generalisation", ((1, Arm(PRODUCT)), (-1, Arm(PRODUCT, "anti_generalisation:off")))
    ),
    Contrast(
        "5a with − without the sensor stream on process", ((1, Arm(PRODUCT)), (-1, Arm(PRODUCT, "sensor:off"))),
        ("process",),
    ),
    Contrast(
        "5b with − without the sensor stream on both",
        ((1, Arm(PRODUCT)), (-1, Arm(PRODUCT, "sensor:off"))),
        ("both",),
    ),
    Contrast(
        "6 AUROC lost at sensor noise 0.3: memory bank − causal_hm_full",
        ((1, Arm("memory_bank")), (-1, Arm("memory_bank", NOISE)), (-1, Arm(PRODUCT)), (1, Arm(PRODUCT, NOISE))),
    ),
    Contrast(
        "3, beside: symmetric sum − P→R",
        ((1, Arm("causal_hm", "direction:symmetric")), (-1, Arm("causal_hm", "direction:p_to_r"))),
        primary=False,
    ),
)  # fmt: skip

Row = dict[str, Any]


def contrast_rows(runs: Sequence[Run], replicates: int = 4 * BOOTSTRAPS) -> list[Row]:
    """Every contrast as `{name, difference, ci, p, p_holm, n_good, n_bad, corpora, seeds, selected_on, …}`.

    One whose runs are missing has null figures and a `reason`; `points` holds each corpus and seed by itself.
    """
    rows = [_row(runs, contrast, replicates) for contrast in CONTRASTS]
    primaries = [row for row in rows if row["primary"]]
    for row, p in zip(primaries, holm([row["p"] for row in primaries]), strict=True):
        row["p_holm"] = p
    return rows


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over all of `p`; a None takes part as 1 and stays None."""
    counted = [1.0 if value is None else value for value in p]
    order = sorted(range(len(p)), key=counted.__getitem__)
    out: list[float | None] = [None] * len(p)
    reached = 0.0
    for rank, k in enumerate(order):
        reached = max(reached, min(1.0, (len(p) - rank) * counted[k]))
        out[k] = None if p[k] is None else reached
    return out


def wanted_of(families: Sequence[str] | None) -> Wanted:
    """Bad seams of these families; None: of any."""

    def wanted(seam: TestSeam) -> bool:
        return families is None or seam.family in families

    return wanted


def _row(runs: Sequence[Run], contrast: Contrast, replicates: int) -> Row:
    row: Row = {"name": contrast.name, "difference": None, "ci": None, "p": None, "p_holm": None}
    row |= {"n_good": 0, "n_bad": 0, "corpora": [], "seeds": [], "selected_on": None, "arms": []}
    row |= {"families": contrast.families, "primary": contrast.primary, "points": [], "reason": None}
    wanted = wanted_of(contrast.families)
    fixed = {k: variants(runs, arm) for k, (_, arm) in enumerate(contrast.terms) if isinstance(arm, Arm)}
    missing = [str(contrast.terms[k][1]) for k, found in fixed.items() if not found]
    missing += [str(arm) for _, arm in contrast.terms if isinstance(arm, Best) and not _candidates(runs, arm)]
    if missing:
        return row | {"reason": f"no run of {', '.join(missing)}"}
    arms: list[list[Run]] = []
    corpora = None
    for k, (_, arm) in enumerate(contrast.terms):
        if isinstance(arm, Arm):
            arms.append(_same_pair(fixed[k], arms))
            continue
        own = corpora_of(arms[0])
        picked, said = _pick(_candidates(runs, arm), own, wanted)
        if picked is None:
            return row | {"reason": f"{arm}: {said}"}
        arms.append(picked)
        corpora, row["selected_on"] = own[1:] or own, said
    row["arms"] = [title(arm[0].row) for arm in arms]
    points = points_of(arms, corpora)
    if not points:
        return row | {"reason": f"no corpus and seed that {' and '.join(row['arms'])} have in common"}
    found = combine(points, [sign for sign, _ in contrast.terms], wanted, contrast.constant, replicates)
    return row | {
        "difference": found.value, "ci": found.ci, "p": found.p, "n_good": found.n_good, "n_bad": found.n_bad,
        "corpora": list(found.corpora), "seeds": list(found.seeds), "points": list(found.points), "reason": found.why,
    }  # fmt: skip


def _candidates(runs: Sequence[Run], best: Best) -> list[list[Run]]:
    found = (group for arm in best.arms for group in variants(runs, arm))
    return [group for group in found if (side_of(group[0].row) == "joint") == best.joint]


def _same_pair(found: Sequence[list[Run]], arms: Sequence[Sequence[Run]]) -> list[Run]:
    """The variant over the pair of the arm before it where there is one: a contrast changes one thing."""
    if arms:
        pair = pair_name(arms[0][0].row)
        return next((group for group in found if pair_name(group[0].row) == pair), found[0])
    return found[0]


def _pick(candidates: Sequence[list[Run]], corpora: Sequence[str], wanted: Wanted) -> tuple[list[Run] | None, str]:
    """The best on the first of `corpora` among those that ran on the others too; and where that was, in words."""
    first, others = corpora[0], corpora[1:]
    # One replicate: selection looks at the figure alone.
    figures = [combine(points_of([c], [first]), [1.0], wanted, replicates=1).value for c in candidates]
    ranked = sorted(
        ((value, k) for k, value in enumerate(figures) if value is not None), key=lambda found: (-found[0], found[1])
    )
    if not ranked:
        return None, f"none has seams of the families asked for on corpus {first}"
    tested = [candidates[k] for _, k in ranked if set(others) <= set(corpora_of(candidates[k]))]
    if not tested:
        return None, f"none ran on corpus {first} and on corpus {', '.join(others)}"
    said = f"corpus {first}" + ("" if others else ", the only one, and tested on it too")
    if tested[0] is not candidates[ranked[0][1]]:
        higher = title(candidates[ranked[0][1]][0].row)
        said += f"; {higher} was higher there but did not run on corpus {', '.join(others)}"
    return tested[0], said
