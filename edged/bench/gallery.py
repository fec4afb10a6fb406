"""Pictures of the virtual cell for its page: what each transfer mode and each fault looks and sounds like.

`draw_galleries` renders the same seams the detectors see (preset `small`), puts the good twin at the left of each
row and labels every picture with its physical value; `draw_oracle` draws detectability against severity.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.faults import FAULTS
from drivers.sim.views import FIELD_MM
from edged.bench.gallery_seams import Specimen, modes, specimen, types_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GALLERIES", "Gallery", "draw_galleries", "draw_oracle"]

ALL = (0, 1, 2, 3, 4, 5)
"""Columns: the good twin, then the severities."""
SOME = (0, 1, 3, 5)
WAVE_S = 0.2
DPI = 90
RED, GREY = "#c0392b", "#7f8c8d"
BEAD_HALF_MM = (15.0, 7.5)
"""Half size of a bead's picture, along and across."""

Columns = Sequence[int]


def draw_galleries(out: Path, types: Sequence[str] | None = None, columns: Columns | None = None) -> list[Path]:
    """Write the galleries to `out` and return their paths.

    `types` narrows the fault types, `columns` the severities (0 is the good twin): for a quick look.
    Raises ValueError for a type the cell does not have.
    """
    out.mkdir(parents=True, exist_ok=True)
    unknown = set(types or ()) - set(FAULTS)
    if unknown:
        raise ValueError(f"no such fault types: {', '.join(sorted(unknown))}")
    paths = []
    for name, row in GALLERIES.items():
        chosen = [t for t in types_of(*row.families) if t not in row.without and (types is None or t in types)]
        shown = [specimen(t) for t in chosen] if row.families else modes()
        if shown:
            figure = row.draw(shown, [c for c in row.columns if columns is None or c in columns])
            path = out / name
            figure.savefig(path, dpi=DPI, pil_kwargs={"quality": 78} if path.suffix == ".jpg" else None)
            paths.append(path)
    return paths


def _grid(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple["Figure", NDArray[Any]]:
    """A figure of rows × columns axes of `width` × `height` inches each; axes as an object array."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def _picture(axes: "Axes", image: NDArray[Any], title: str, row: str = "", **options: Any) -> None:
    axes.imshow(image, aspect=options.pop("aspect", "equal"), **options)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8, pad=2)
    if row:
        axes.set_ylabel(row, fontsize=8)


def _named(shown: Specimen) -> str:
    return f"{shown.type or shown.program.transfer}\n{shown.program.name}"


def _mode_frames(shown: Sequence[Specimen], columns: Columns) -> "Figure":
    figure, axes = _grid(len(shown), 4, 2.6, 1.75)
    for row, seam in zip(axes, shown, strict=True):
        for k, cell in enumerate(row):
            at_s = 1.0 + 0.5 * k
            _picture(
                cell, seam.frame(0, at_s), f"{at_s:.1f} s", _named(seam) if k == 0 else "", cmap="gray", vmax=255
            )
    return figure


def _fault_frames(shown: Sequence[Specimen], columns: Columns) -> "Figure":
    figure, axes = _grid(len(shown), len(columns), 2.1, 1.45)
    for row, seam in zip(axes, shown, strict=True):
        for cell, severity in zip(row, columns, strict=True):
            label = _named(seam) if severity == columns[0] else ""
            _picture(cell, seam.frame(severity), seam.label(severity), label, cmap="gray", vmin=0, vmax=255)
    return figure


def bead_crop(seam: Specimen, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bead around the fault, from the photograph from above."""
    rows, cols = image.shape[:2]
    scale = cols / FIELD_MM[0]
    centre = cols / 2 + (seam.look_mm - seam.program.length_mm / 2) * scale
    half_x, half_y = (round(v * scale) for v in BEAD_HALF_MM)
    left = int(np.clip(centre - half_x, 0, cols - 2 * half_x))
    top = max(rows // 2 - half_y, 0)
    return image[top : top + 2 * half_y, left : left + 2 * half_x]


def _beads(shown: Sequence[Specimen], columns: Columns) -> "Figure":
    figure, axes = _grid(len(shown), len(columns), 2.6, 1.55)
    for row, seam in zip(axes, shown, strict=True):
        for cell, severity in zip(row, columns, strict=True):
            label = _named(seam) if severity == columns[0] else ""
            _picture(cell, bead_crop(seam, seam.result(severity)[0]["top"]), seam.label(severity), label)
    return figure


def _wave(seam: Specimen, severity: int, channel: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Milliseconds and values of the welder's current (channel 0) or voltage (1) at the moment of the fault."""
    rendered = seam.process(severity)
    begin = round((rendered.lead_s + seam.look_s - WAVE_S / 2) * rendered.welder_hz)
    values = rendered.welder[begin : begin + round(WAVE_S * rendered.welder_hz), channel].astype(float)
    return np.arange(len(values)) / rendered.welder_hz * 1e3, values * rendered.welder_scale[channel]


CHANNELS = ((0, "I, A", (0, 520)), (1, "U, V", (0, 45)))


def _waves(shown: Sequence[Specimen], columns: Columns, width: float = 2.2) -> "Figure":
    faults = [c for c in columns if c > 0] or [0]
    figure, axes = _grid(len(shown), 2 * len(faults), width, 1.05, sharex=True, sharey="col")
    for row, seam in zip(axes, shown, strict=True):
        cells = iter(row)
        for channel, unit, limits in CHANNELS:
            for severity in faults:
                cell = next(cells)
                if severity:
                    cell.plot(*_wave(seam, 0, channel), color=GREY, linewidth=0.5)
                cell.plot(*_wave(seam, severity, channel), color=RED if severity else "black", linewidth=0.6)
                cell.set_ylim(*limits)
                cell.tick_params(labelsize=6)
                title = f"{unit}  ·  {seam.label(severity)}" if severity else unit
                cell.set_title(title, fontsize=7, pad=2)
        row[0].set_ylabel(_named(seam), fontsize=7)
    for cell in axes[-1]:
        cell.set_xlabel("ms", fontsize=6)
    return figure


def _mode_waves(shown: Sequence[Specimen], columns: Columns) -> "Figure":
    return _waves(shown, (0,), width=5.0)


def _spectrogram(seam: Specimen, severity: int) -> NDArray[np.float64]:
    """Level in dB of the whole seam's sound, low frequencies at the bottom, 0–16 kHz."""
    from scipy.signal import spectrogram

    rendered = seam.process(severity)
    sound = rendered.audio[:, 0].astype(float) / 32768
    frequency, _, power = spectrogram(sound, rendered.audio_hz, nperseg=1024, noverlap=256)
    return np.asarray(10 * np.log10(power[frequency <= 16000][::-1] + 1e-14))


def _spectrograms(shown: Sequence[Specimen], columns: Columns, width: float = 2.8) -> "Figure":
    figure, axes = _grid(len(shown), len(columns), width, 1.3)
    for row, seam in zip(axes, shown, strict=True):
        for cell, severity in zip(row, columns, strict=True):
            rendered, image = seam.process(severity), _spectrogram(seam, severity)
            extent = (-rendered.lead_s, rendered.arc_s + rendered.tail_s, 0, 16)
            cell.imshow(image, aspect="auto", extent=extent, vmin=-110, vmax=-55, cmap="magma")
            cell.set_title(seam.label(severity) if seam.type else "", fontsize=8, pad=2)
            cell.tick_params(labelsize=6)
        row[0].set_ylabel(f"{_named(seam)}\nkHz", fontsize=7)
    for cell in axes[-1]:
        cell.set_xlabel("s after arc-on", fontsize=7)
    return figure


def _mode_sound(shown: Sequence[Specimen], columns: Columns) -> "Figure":
    return _spectrograms(shown, (0,), width=8.0)


def _heights(shown: Sequence[Specimen], columns: Columns) -> "Figure":
    figure, axes = _grid(len(shown), len(columns), 2.6, 1.35)
    image = None
    for row, seam in zip(axes, shown, strict=True):
        for cell, severity in zip(row, columns, strict=True):
            heights = seam.result(severity)[1].T
            image = cell.imshow(
                heights, extent=(0, seam.program.length_mm, -12, 12), vmin=-1.5, vmax=3.5, cmap="viridis"
            )
            cell.set_title(seam.label(severity), fontsize=8, pad=2)
            cell.tick_params(labelsize=6)
        row[0].set_ylabel(f"{_named(seam)}\nmm", fontsize=7)
    if image is not None:
        figure.colorbar(image, ax=axes, shrink=0.5, label="mm above the plate")
    return figure


def _views(shown: Sequence[Specimen], columns: Columns) -> "Figure":
    from drivers.sim.programs import PROGRAMS

    program = max(PROGRAMS.values(), key=lambda p: len(p.views))
    views = Specimen(None, program, shown[0].session).result(0)[0]
    figure, axes = _grid(len(views), 1, 8.0, 2.75)
    for cell, (name, image) in zip(axes[:, 0], views.items(), strict=True):
        _picture(cell, image, f"{program.name}: {name}")
    return figure


@dataclasses.dataclass(frozen=True, slots=True)
class Gallery:
    """`families` of the types shown (none: one good seam a transfer mode), `without` those that this sense misses."""

    draw: Callable[[Sequence[Specimen], Columns], "Figure"]
    columns: Columns
    families: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


GALLERIES: Mapping[str, Gallery] = {
    "cell-frames-modes.jpg": Gallery(_mode_frames, (0,)),
    "cell-frames.jpg": Gallery(
        _fault_frames, ALL, ("both", "process", "drift"), ("current_gain", "microphone_moved")
    ),
    "cell-beads.jpg": Gallery(_beads, ALL, ("both", "result")),
    "cell-heights.jpg": Gallery(_heights, SOME, ("both", "result"), ("oil",)),
    "cell-waves-modes.png": Gallery(_mode_waves, (0,)),
    "cell-waves.png": Gallery(_waves, SOME, ("both", "process", "drift"), ("lens_spatter", "microphone_moved")),
    "cell-sound-modes.jpg": Gallery(_mode_sound, (0,)),
    "cell-sound.jpg": Gallery(_spectrograms, SOME, ("both", "process", "drift"), ("lens_spatter", "current_gain")),
    "cell-views.jpg": Gallery(_views, (0,)),
}
"""By file name."""


def draw_oracle(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """AUROC of the oracle against severity, a panel for each family, intervals as bands: like a POD curve.

    `rows`: {type, family, severity, auroc, ci}. Raises ValueError when there is none.
    """
    if not rows:
        raise ValueError("the report has no oracle rows; there is no detectability to draw")
    families = list(dict.fromkeys(str(row["family"]) for row in rows))
    figure, axes = _grid(1, len(families), 3.0, 2.7, sharey=True)
    for cell, family in zip(axes[0], families, strict=True):
        for name in dict.fromkeys(str(row["type"]) for row in rows if row["family"] == family):
            mine = sorted((r for r in rows if r["type"] == name), key=lambda r: int(r["severity"]))
            severity, auroc = [r["severity"] for r in mine], [r["auroc"] for r in mine]
            (line,) = cell.plot(severity, auroc, marker="o", markersize=3, linewidth=1, label=name)
            low, high = zip(*(r["ci"] for r in mine), strict=True)
            cell.fill_between(severity, low, high, color=line.get_color(), alpha=0.12)
        cell.axhline(0.5, color=GREY, linewidth=0.6)
        cell.set_title(family, fontsize=9)
        cell.set_xlabel("severity", fontsize=8)
        cell.set_ylim(0.4, 1.02)
        cell.tick_params(labelsize=7)
        cell.legend(fontsize=6, loc="lower right")
    axes[0][0].set_ylabel("oracle AUROC against good twins", fontsize=8)
    figure.savefig(path, dpi=DPI)
    return path
