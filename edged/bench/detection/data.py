"""A rendered corpus in memory: features of every seam, which part it belongs to, and what the truth says of it."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.sim.seam import SeamPlan
from edged.bench.detection.corpus import Corpus
from edged.bench.detection.scored import TestSeam
from edged.manifest import FEATURES_DATA, TRUTH
from edged.recorded import list_features
from edged.simulated_seam import seam_id_of
from pipelines.features.extractor import SeamFeatures, load_features
from pipelines.training import Split

__all__ = ["CorpusData", "load_corpus", "load_seams"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CorpusData:
    """`split` and `test` are rows of `features`; `seams[k]` says what `features[test[k]]` is.

    `set_points[i]`: what the program told the machine in seam i. `extract_ms`: what the features of a seam take, None
    where it was not measured.
    """

    corpus: Corpus
    features: Sequence[SeamFeatures]
    split: Split
    test: NDArray[np.int64]
    seams: tuple[TestSeam, ...]
    set_points: Sequence[Mapping[str, float]]
    extract_ms: float | None = None

    @property
    def programs(self) -> tuple[str, ...]:
        """The welding programs, sorted."""
        return tuple(sorted({f.program for f in self.features}))

    def testing(self) -> list[SeamFeatures]:
        """Features of the test seams, in the order of `seams`."""
        return [self.features[i] for i in self.test]


def load_corpus(corpus: Corpus, folder: Path) -> CorpusData:
    """Read what `render_corpus` wrote. Raises ValueError where seams are missing."""
    features = load_seams(corpus.plans, folder)
    ids = [found.seam_id for found in features]
    truth = _truth(folder / TRUTH)
    parts = np.array(corpus.parts)
    test = np.flatnonzero((parts == "test") | (parts == "defect"))
    split = Split(*(np.flatnonzero(parts == part) for part in ("train", "fit", "calibration")))
    seams = tuple(_seam(features[i], truth[ids[i]]) for i in test)
    known = {seam.seam_id: seam.set_points for seam in list_features(folder)}
    return CorpusData(corpus, features, split, test, seams, [known[seam_id] for seam_id in ids])


def load_seams(plans: Sequence[SeamPlan], folder: Path) -> list[SeamFeatures]:
    """Features of planned seams. Raises ValueError where some are missing."""
    ids = [seam_id_of(plan) for plan in plans]
    lacking = [seam_id for seam_id in ids if not (folder / FEATURES_DATA.format(seam_id)).exists()]
    if lacking:
        raise ValueError(f"{folder}: {len(lacking)} of {len(ids)} seams are missing; render the corpus to its end")
    features = []
    for plan, seam_id in zip(plans, ids, strict=True):
        found = load_features(folder / FEATURES_DATA.format(seam_id))
        features.append(dataclasses.replace(found, session=plan.session, seam_id=seam_id))
    return features


def _seam(features: SeamFeatures, about: dict[str, object]) -> TestSeam:
    names = ("family", "type", "severity", "value", "unit", "onset_mm", "end_mm")
    return TestSeam(features.seam_id, features.program, features.session, **{n: about[n] for n in names})  # type: ignore[arg-type]


def _truth(path: Path) -> dict[str, dict[str, object]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return {line["seam_id"]: line["truth"] for line in lines}
