"""The validity report's study: which seams it welds, and their statistics on disk.

Every family's defects stand on the same good base plans: defect k of a family is base seam k with a fault, so base
seam k is its good twin, and one file a base seam holds the twin's and the defects' statistics. A half that a family
leaves alone is not rendered again. Pairs are recombined from the halves of good seams of one program and session.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.digest import physics_digest
from drivers.sim.faults import FAULTS
from drivers.sim.plan import faulty
from drivers.sim.programs import PROGRAMS
from drivers.sim.randomness import generator
from drivers.sim.seam import IMAGE_PRESETS, Family, RenderedSeam, SeamPlan
from edged.bulk_pool import bulk_pool

__all__ = [
    "FULL_GOODS",
    "FULL_SEAMS",
    "GOODS_SEED",
    "QUICK_GOODS",
    "QUICK_SEAMS",
    "STUDY_FAMILIES",
    "STUDY_SEED",
    "Study",
    "fingerprint",
    "measure",
    "pair_plan",
    "plan_goods",
    "plan_study",
]

STUDY_SEED = 20_270_101
"""No corpus, demo or model uses it."""
GOODS_SEED = 20_270_103
FULL_SEAMS = 1050
FULL_GOODS, QUICK_GOODS = 2000, 500
QUICK_SEAMS = 600
SESSIONS = 48
STUDY_FAMILIES: tuple[Family, ...] = ("process", "result", "both", "drift")
"""Families with faults of their own; *pair* has none."""
PRESET = "small"
_HERE = Path(__file__).resolve()


@dataclasses.dataclass(frozen=True, slots=True)
class Study:
    """`base[k]`: good seam k; `defects[family][k]`: the same with a fault; `partner[k]`: whose bead pair k shows."""

    seed: int
    base: tuple[SeamPlan, ...]
    defects: Mapping[Family, tuple[SeamPlan, ...]]
    partner: tuple[int, ...]


def plan_study(seams: int, seed: int = STUDY_SEED, sessions: int = SESSIONS) -> Study:
    """A study of `seams` base seams over all programs; every fault type and severity of a family equally often.

    Raises ValueError when there are fewer than two seams.
    """
    if seams < 2:
        raise ValueError(f"a study of {seams} seams has no pairs; it needs 2 or more")
    base = _base(seams, seed, sessions)
    defects: dict[Family, tuple[SeamPlan, ...]] = {}
    for family in STUDY_FAMILIES:
        types = [row.type for row in FAULTS.values() if row.family == family]
        if types:
            defects[family] = _defects(base, types, generator(seed, "study", family))
    return Study(seed, base, defects, _partners(base, generator(seed, "study", "pair")))


def plan_goods(seams: int, seed: int = GOODS_SEED, sessions: int = SESSIONS) -> Study:
    """Good seams only, of a seed of their own: what a figure of good seams needs more of than the study has."""
    base = _base(seams, seed, sessions)
    return Study(seed, base, {}, _partners(base, generator(seed, "study", "pair")))


def pair_plan(study: Study, k: int) -> SeamPlan:
    """Pair k as a plan: the process of base seam k, the bead of its partner."""
    plan = study.base[k]
    return dataclasses.replace(plan, family="pair", pair_seed=study.base[study.partner[k]].seed)


def _base(seams: int, seed: int, sessions: int) -> tuple[SeamPlan, ...]:
    """Goods in time order. A session welds each of its programs at least twice, or nothing could be deranged."""
    rng = generator(seed, "study", "base")
    programs = list(PROGRAMS)
    used = max(min(sessions, seams // 2), 1)
    sizes = [seams // used + (s < seams % used) for s in range(used)]
    plans: list[SeamPlan] = []
    turn = 0
    for session, size in enumerate(sizes):
        kinds = max(min(size // 2, len(programs)), 1)
        chosen = [programs[(turn + k) % len(programs)] for k in range(kinds)]
        turn += kinds
        # Whoever gets the odd seam changes from session to session.
        order = [chosen[(k + session) % kinds] for k in range(size)]
        for k in rng.permutation(size):
            name = f"study-{seed}-{session:02d}"
            plans.append(SeamPlan(len(plans), order[k], name, int(rng.integers(1 << 62))))
    return tuple(plans)


def _defects(base: Sequence[SeamPlan], types: Sequence[str], rng: np.random.Generator) -> tuple[SeamPlan, ...]:
    """Base plan k with a fault, for every k; (type, severity) cells are dealt out program by program."""
    cells = [(name, severity) for name in types for severity in range(1, 6)]
    by_program = sorted(rng.permutation(len(base)), key=lambda k: base[k].program)
    out: dict[int, SeamPlan] = {}
    deck: list[int] = []
    for k in by_program:
        if not deck:
            deck = rng.permutation(len(cells)).tolist()
        name, severity = cells[deck.pop()]
        out[int(k)] = faulty(base[k], name, severity, rng)
    return tuple(out[k] for k in range(len(base)))


def _partners(base: Sequence[SeamPlan], rng: np.random.Generator) -> tuple[int, ...]:
    """A derangement within program and session: a ring over each group in random order."""
    groups: dict[tuple[str, str], list[int]] = {}
    for k, plan in enumerate(base):
        groups.setdefault((plan.program, plan.session), []).append(k)
    partner = [0] * len(base)
    for (program, session), members in groups.items():
        if len(members) < 2:
            raise ValueError(
                f"{session} welds {program} once; a derangement needs two seams of a program and session"
            )
        ring = [members[k] for k in rng.permutation(len(members))]
        for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
            partner[a] = b
    return tuple(partner)


def fingerprint(study: Study) -> str:
    """Digest of the plans, the physics and the code of the statistics: what is on disk belongs to it."""
    digest = hashlib.sha256(repr(study).encode() + physics_digest().encode())
    for name in ("process_statistics.py", "result_statistics.py", "study.py"):
        digest.update(_HERE.with_name(name).read_bytes())
    return digest.hexdigest()[:16]


def measure(
    study: Study, folder: Path, jobs: int, progress: Callable[[Iterator[Path], int], Any] = lambda paths, n: paths
) -> list[Path]:
    """Render and measure every base seam with its defects; files that are already there are kept.

    Returns one npz per base seam, in order. `progress` is given what is being made and how many that will be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"seam-{k:05d}.npz" for k in range(len(study.base))]
    todo = [k for k, path in enumerate(paths) if not path.exists()]
    work = [[study.base[k], *(plans[k] for plans in study.defects.values())] for k in todo]
    where = [paths[k] for k in todo]
    if not todo:
        return paths
    with bulk_pool(jobs, _one_thread) as pool:
        for _ in progress(pool.map(_measure_one, work, where), len(todo)):
            pass
    return paths


def _one_thread() -> None:
    import cv2
    from threadpoolctl import threadpool_limits

    os.nice(5)
    threadpool_limits(1)
    cv2.setNumThreads(1)


def _measure_one(plans: Sequence[SeamPlan], path: Path) -> Path:
    """Statistics of a base seam and of its defects, to one file, which is whole or absent."""
    from drivers.sim.render import render_process, render_result
    from edged.bench.process_statistics import process_statistics
    from edged.bench.result_statistics import result_statistics

    arrays: dict[str, NDArray[Any]] = {}
    preset = IMAGE_PRESETS[PRESET]
    twin_process: dict[str, Any] = {}
    twin_result: dict[str, Any] = {}
    for plan in plans:
        process, result = twin_process, twin_result
        if plan.family in ("good", "process", "both", "drift"):
            rendered = render_process(plan, preset)
            found = process_statistics(rendered)
            process = {
                "process": np.array(list(found.seam.values()), np.float32),
                "windows": found.windows,
                "process_meta": np.array(_process_meta(rendered), np.float32),
                "setpoints": _set_points(rendered.set_points),
                "truth": _truth(rendered.truth),
            }
            arrays["process_names"], arrays["window_names"] = np.array(list(found.seam)), np.array(found.window_names)
        if plan.family in ("good", "result", "both"):
            views, heights = render_result(plan, preset)
            numbers = result_statistics(views, heights)
            sizes = [len(heights), sum(len(view) for view in views.values())]
            result = {"result": np.array(list(numbers.values()), np.float32), "result_meta": np.array(sizes)}
            arrays["result_names"] = np.array(list(numbers))
        if plan.family == "good":
            twin_process, twin_result = process, result
        arrays |= {f"{plan.family}.{name}": values for name, values in (process | result).items()}
        # A result fault's extent is the plan's: its truth was not rendered.
        arrays[f"{plan.family}.extent"] = _extent(plan, float(twin_process["truth"][3]))
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, allow_pickle=False, **arrays)
    part.replace(path)
    return path


def _set_points(known: Mapping[str, float]) -> NDArray[np.float32]:
    """In the same order for every program; NaN where a program has none of that kind (pulses)."""
    names = dict.fromkeys(name for program in PROGRAMS.values() for name in program.set_points())
    return np.array([known.get(name, np.nan) for name in names], np.float32)


def _process_meta(rendered: RenderedSeam) -> list[float]:
    """What a file browser knows of a recording's process half: lengths, counts, bytes."""
    jpeg = [len(frame) for frame in rendered.frames]
    seconds = len(rendered.welder) / rendered.welder_hz
    counts = [len(rendered.welder), len(rendered.audio), len(rendered.frames), len(rendered.motion)]
    size = rendered.welder.nbytes + rendered.audio.nbytes + rendered.motion.nbytes + sum(jpeg)
    return [seconds, rendered.arc_s, *counts, sum(jpeg), float(np.mean(jpeg)), float(np.max(jpeg)), size]


def _truth(truth: Mapping[str, Any]) -> NDArray[np.float64]:
    """Bead width, height, area above the plate; arc time."""
    bead = truth["bead"]
    return np.array([bead["width_mm"], bead["height_mm"], bead["area_mm2"], truth["arc_s"]])


def _extent(plan: SeamPlan, arc_s: float) -> NDArray[np.float64]:
    """Onset and end of the fault, s after arc-on; NaN for a good seam."""
    if plan.fault is None:
        return np.array([np.nan, np.nan])
    return np.array([plan.fault.onset_s, min(plan.fault.end_s, arc_s)])
