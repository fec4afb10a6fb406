"""The seams that detection is measured on: goods in four parts by session, and defects that are faults of test goods.

Sessions are ordered in time and belong to one part only: the first third trains and fits, the second calibrates, the
last tests. Every defect is a test good with a fault, so it has a good twin in the same session; a *pair* is the
process of one test good and the bead of another of its program and session.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from drivers.sim.faults import FAULTS
from drivers.sim.plan import derange, faulty
from drivers.sim.programs import PROGRAMS
from drivers.sim.randomness import generator
from drivers.sim.seam import SeamPlan
from edged.progress import progress_bars
from edged.simulate import Progressing, session_names_of, simulate_features

__all__ = ["CORPUS_SEEDS", "FULL", "QUICK", "Corpus", "Size", "corpus_in", "plan_corpus", "render_corpus"]

CORPUS_SEEDS = {0: 20_270_200, 1: 20_270_201, 2: 20_270_202}
"""Corpus 0 is for development: whatever was looked at while detectors were built. 1 and 2 measure."""
PAIRS_A_ROUND = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """Goods per program and part; `per_cell` defects of each type and severity, over all programs."""

    name: str
    train: int
    fit: int
    calibration: int
    test: int
    per_cell: int
    programs: tuple[str, ...] = tuple(PROGRAMS)
    sessions: int = 48


FULL = Size("full", 60, 30, 100, 60, 30)
QUICK = Size(
    "quick", 40, 20, 100, 40, 4, ("globular-fillet-6", "pulsed-lap-4", "short-butt-3", "spray-lap-5"), sessions=24
)
"""One program of each transfer mode."""


@dataclasses.dataclass(frozen=True, slots=True)
class Corpus:
    """`parts[k]` is the part of `plans[k]`: train, fit, calibration, test (goods), or defect."""

    number: int
    size: Size
    plans: tuple[SeamPlan, ...]
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its folders."""
        return f"corpus-{self.number}-{self.size.name}"


def plan_corpus(number: int, size: Size) -> Corpus:
    """The plan of a corpus; the same for the same arguments. Raises ValueError for an unknown number."""
    if number not in CORPUS_SEEDS:
        raise ValueError(f"there is no corpus {number}; known: {', '.join(map(str, CORPUS_SEEDS))}")
    seed = CORPUS_SEEDS[number]
    rng = generator(seed, "corpus", size.name)
    third = size.sessions // 3
    names = session_names_of(seed, 3 * third)
    thirds = {"train": names[:third], "calibration": names[third : 2 * third], "test": names[2 * third :]}
    goods: list[tuple[str, SeamPlan]] = []
    for where, count in (("train", size.train + size.fit), ("calibration", size.calibration), ("test", size.test)):
        sessions = thirds[where]
        order = [(sessions[k * len(sessions) // count], program) for k in range(count) for program in size.programs]
        for session, program in order:
            goods.append((where, SeamPlan(len(goods), program, session, int(rng.integers(1 << 62)))))
    parts = [part for part, _ in goods]
    # Of the first third whole sessions go to fit, so that what is fitted never saw its own session.
    fitting = set(thirds["train"][1::3])
    parts = ["fit" if plan.session in fitting else part for part, plan in goods]
    bases = [plan for part, plan in goods if part == "test"]
    defects = _defects(bases, size, rng, first=len(goods))
    plans = [plan for _, plan in goods] + defects
    return Corpus(number, size, tuple(plans), (*parts, *["defect"] * len(defects)))


def _defects(bases: Sequence[SeamPlan], size: Size, rng: np.random.Generator, first: int) -> list[SeamPlan]:
    """In rounds, each with every type at every severity once and some pairs: fewer rounds are a smaller corpus."""
    out: list[SeamPlan] = []
    deck: list[int] = []
    pairs = _pairs(bases, rng)
    for _ in range(size.per_cell):
        for name in FAULTS:
            for severity in range(1, 6):
                if not deck:
                    deck = rng.permutation(len(bases)).tolist()
                out.append(faulty(bases[deck.pop()], name, severity, rng))
        out += [pairs.pop() for _ in range(min(PAIRS_A_ROUND, len(pairs)))]
    return [dataclasses.replace(plan, index=first + k) for k, plan in enumerate(out)]


def _pairs(bases: Sequence[SeamPlan], rng: np.random.Generator) -> list[SeamPlan]:
    """Every test good's process with the bead of the next one of a ring over its program and session."""
    asked = [dataclasses.replace(base, family="pair") for base in bases]
    count = Counter((base.program, base.session) for base in bases)
    order = rng.permutation(len(bases)).tolist()
    mixed = derange([asked[k] for k in order], rng)
    return [plan for plan in mixed if count[plan.program, plan.session] > 1]


def corpus_in(work: Path, corpus: Corpus, jobs: int, cache_dir: Path, console: Console) -> Path:
    """The corpus' folder below `work`, rendered to its end, with a bar. Raises ValueError as `render_corpus`."""
    folder = work / corpus.name
    with progress_bars(console) as bars:
        title = f"simulating corpus {corpus.number}"
        render_corpus(corpus, folder, jobs, cache_dir.expanduser(), lambda it: bars.track(it, description=title))
    return folder


def render_corpus(corpus: Corpus, folder: Path, jobs: int, cache_dir: Path, progress: Progressing = iter) -> int:
    """Simulate what `folder` lacks, with a laser scan; returns how many seams were made.

    Raises ValueError where the folder holds something else.
    """
    return simulate_features(corpus.plans, folder, jobs, cache_dir, progress, profiler=True)
