"""Other readings of battery-weld's protocol beside the named form: what the text leaves open, and what it does.

The protocol names PatchCore on lite0, scans normalised by their own median and MAD, a seam band and AUPRO. It says
not how a normalised height becomes a picture, whether scans are shrunk to lite0's size, how much of the cells a bank
keeps, how wide the band is, or up to which false-positive rate AUPRO is taken. The named form stays the one that
counts: none of these is chosen by its figures.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.bench.battery_cells import as_stored, cells_of, linear, picture
from edged.bench.battery_rows import Array, Preset, Scan, Tell, edge_prior, maps_of
from edged.bench.detection.page_marks import table
from pipelines.aupro import aupro, pixel_auroc
from pipelines.datasets.battery_weld import BAND_PX, seam_band
from pipelines.metrics import auroc

__all__ = ["BANDS_PX", "READINGS", "Reading", "markdown", "measure_readings"]

BANDS_PX = (BAND_PX // 2, BAND_PX, 2 * BAND_PX)


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """`differs`: from the named form. `draw`: height → what lite0 is shown; `whole`: shrunk to one picture;
    `preset`, `flags`: of PatchCore.
    """

    name: str
    differs: str
    draw: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = picture
    whole: bool = False
    preset: Preset = "cell"
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)


READINGS = (
    Reading("named", "–"),
    Reading("bank", "the bank keeps 10 % of the cells, as PatchCore's paper does, not 2 %", preset="compat"),
    Reading("unweighted", "a map holds plain distances, as the paper's, not weighted ones", flags={"reweight": 0}),
    Reading("shrunk", "a scan is shrunk to 224 × 224 px as a whole, not cut into tiles", whole=True),
    Reading("linear", "heights are drawn linearly to ±10 deviations, not by inverse hyperbolic sine", draw=linear),
    Reading("as stored", "grey levels as stored: no normalisation, against the protocol", draw=as_stored),
    Reading("as stored, bank", "as stored, and the bank of 10 %", draw=as_stored, preset="compat"),
)


def measure_readings(
    train: Sequence[Scan], test: Sequence[Scan], backbone: Any, seed: int, tell: Tell
) -> list[dict[str, Any]]:
    """Two rows a reading: `patchcore`, and `edge_prior × patchcore`."""
    prior = [edge_prior(scan.height) for scan in test]
    rows = []
    for reading in READINGS:
        known, tested = (
            [cells_of(scan.height, backbone, reading.draw, whole=reading.whole) for scan in scans]
            for scans in (train, test)
        )
        # PatchCore stops on nothing: the held-out scans are looked at by nobody.
        maps = maps_of("patchcore", known, known[:1], tested, seed, tell, reading.preset, **reading.flags)
        product = [p * m for p, m in zip(prior, maps, strict=True)]
        for name, found in (("patchcore", maps), ("edge_prior × patchcore", product)):
            rows.append({"reading": reading.name, "pipeline": name, **_figures(found, test)})
        tell("readings", len(rows) // 2, len(READINGS))
    return rows


def _figures(maps: Sequence[Array], test: Sequence[Scan]) -> dict[str, Any]:
    pairs = [(m, scan) for m, scan in zip(maps, test, strict=True) if not scan.item.is_good]
    found, masks = [m for m, _ in pairs], [scan.mask for _, scan in pairs]
    bad = [not scan.item.is_good for scan in test]
    return {
        "pixel_auroc": {
            str(px): pixel_auroc(found, masks, [seam_band(scan.height, px) for _, scan in pairs]) for px in BANDS_PX
        },
        "aupro": aupro(found, masks),
        "aupro_to_1": aupro(found, masks, 1.0),
        "auroc": auroc(bad, [float(m.max()) for m in maps], [scan.item.group for scan in test]).value,
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of the readings."""
    differs = {reading.name: reading.differs for reading in READINGS}
    head = ("reading", "row", *(f"AUROC, band {px} px" for px in BANDS_PX), "AUPRO", "AUPRO to rate 1", "image AUROC")
    lines = [
        [
            row["reading"],
            row["pipeline"],
            *(f"{row['pixel_auroc'][str(px)]:.3f}" for px in BANDS_PX),
            *(f"{row[name]:.3f}" for name in ("aupro", "aupro_to_1", "auroc")),
        ]
        for row in rows
    ]
    listed = "\n".join(f"- {name}: {what}" for name, what in differs.items() if what != "–")
    return f"Readings that the protocol's text allows, beside the named form:\n\n{listed}\n\n{table(head, lines)}\n"
