"""Numbers from the observed process streams of one seam: welder, sound, frames, motion; per 100 ms and per seam.

First stage of the validity report's measurements: rendered seam → statistics → probes and oracle. Only what a sensor
gave is read (int16, JPEG, float32), never the truth. A window's numbers come from samples within it, so they are
causal; a seam's are means, spreads, trends and half-second extremes of its windows.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.seam import RenderedSeam

__all__ = ["WINDOW_S", "ProcessStatistics", "process_statistics"]

Array = NDArray[np.float64]
Columns = dict[str, Array]

WINDOW_S = 0.1
EDGE_WINDOWS = 3
"""Windows at either end that strike and crater fill disturb; the extremes of the seam's body leave them out."""
SHORT_V = 8.0
FLOWING_A = 20.0
SOUND_EDGES_HZ = (60, 150, 300, 600, 1000, 1800, 3000, 5000, 8000, 12000, 16000, 20000, 24000)
WELDER_EDGES_HZ = (10, 40, 90, 160, 300, 600, 1200, 2500, 5000)
FRAME_CELLS = (4, 6)
EXPOSED_S = 0.02
"""A frame's exposure; a window takes a frame only when it ended within it."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ProcessStatistics:
    """`windows`: (n, k) float32, row w covers `WINDOW_S`·w … `WINDOW_S`·(w + 1); `seam`: name → number."""

    window_names: tuple[str, ...]
    windows: NDArray[np.float32]
    seam: dict[str, float]


def process_statistics(rendered: RenderedSeam) -> ProcessStatistics:
    """Statistics of the process half of a rendered seam. Raises ValueError when no current ever flows."""
    welder = rendered.welder * np.asarray(rendered.welder_scale)
    current, voltage = welder[:, 0], welder[:, 1]
    flowing = np.flatnonzero(current > FLOWING_A)
    if len(flowing) == 0:
        raise ValueError(f"seam {rendered.plan.index}: no sample is above {FLOWING_A} A; nothing was welded")
    on_s, off_s = flowing[0] / rendered.welder_hz, (flowing[-1] + 1) / rendered.welder_hz
    # To the last begun window: an arc that ends early is seen in it, never cut away.
    count = max(int(np.ceil((off_s - on_s) / WINDOW_S)), 1)
    moving_until_s = _moving_until(rendered)
    columns = _welder_columns(welder, round(on_s * rendered.welder_hz), count, rendered.welder_hz)
    columns |= _motion_columns(rendered, on_s, count)
    columns["area_mm2"] = 18.85 * columns["wire"] / np.maximum(columns["speed"], 1.0)
    columns["heat_j_mm"] = columns["power"] / np.maximum(columns["speed"], 1.0)
    columns["current_per_wire"] = columns["i_mean"] / np.maximum(columns["wire"], 0.3)
    columns |= _sound_columns(rendered, on_s, count)
    frames, per_seam = _frame_columns(rendered, on_s, off_s, count)
    columns |= frames
    windows = np.stack(list(columns.values()), axis=1)
    names = tuple(columns)
    seam = aggregate(names, windows, round(0.5 / WINDOW_S), EDGE_WINDOWS)
    seam |= {f"end {name}": float(value) for name, value in zip(names, windows[-EDGE_WINDOWS:].mean(0), strict=True)}
    seam |= per_seam | _bridges(current, voltage, rendered.welder_hz) | _acoustic_delay(rendered, welder, on_s, off_s)
    seam["burns after stop s"] = off_s - moving_until_s
    return ProcessStatistics(names, windows.astype(np.float32), seam)


def aggregate(names: tuple[str, ...], rows: Array, run: int, edge: int) -> dict[str, float]:
    """Mean, spread, trend and extremes over `run` rows against the median; `edge` rows at either end left out."""
    body = rows[edge:-edge] if len(rows) > 2 * edge + run else rows
    third = max(len(body) // 3, 1)
    run = min(run, len(body))
    total = np.cumsum(np.concatenate([np.zeros((1, body.shape[1])), body]), axis=0)
    smooth = (total[run:] - total[:-run]) / run
    median = np.median(body, axis=0)
    tables = {
        "mean": body.mean(0),
        "std": body.std(0),
        "trend": body[-third:].mean(0) - body[:third].mean(0),
        "high": smooth.max(0) - median,
        "low": smooth.min(0) - median,
    }
    return {f"{kind} {name}": float(v) for kind, row in tables.items() for name, v in zip(names, row, strict=True)}


def _cut(values: Array, start: int, count: int, per: int) -> Array:
    """(count, per) windows of `values` from sample `start`; missing samples at the end repeat the last one."""
    piece = values[start : start + count * per]
    return np.pad(piece, (0, count * per - len(piece)), mode="edge").reshape(count, per)


def _bands(spectrum: NDArray[Any], hz: NDArray[Any], edges: tuple[int, ...]) -> list[Array]:
    """log10 of the mean power between neighbouring edges, along the last axis."""
    at = np.searchsorted(hz, edges)
    total = np.concatenate([np.zeros((*spectrum.shape[:-1], 1)), np.cumsum(spectrum, axis=-1)], axis=-1)
    return [np.log10((total[..., b] - total[..., a]) / max(b - a, 1) + 1e-12) for a, b in itertools.pairwise(at)]


def _welder_columns(welder: Array, start: int, count: int, rate_hz: float) -> Columns:
    per = round(WINDOW_S * rate_hz)
    out: Columns = {}
    waves = {name: _cut(welder[:, k], start, count, per) for k, name in enumerate(("i", "u"))}
    for name, wave in waves.items():
        out |= {f"{name}_mean": wave.mean(1), f"{name}_std": wave.std(1)}
        low, middle, high, top = np.percentile(wave, (5, 50, 95, 99.5), axis=1)
        out |= {f"{name}_p05": low, f"{name}_p50": middle, f"{name}_p95": high, f"{name}_top": top}
        out[f"{name}_step"] = np.log10(np.abs(np.diff(wave, axis=1)).mean(1) + 1e-6)
        out[f"{name}_curve"] = np.log10(np.abs(np.diff(wave, 2, axis=1)).mean(1) + 1e-6)
        spectrum = np.abs(np.fft.rfft((wave - wave.mean(1, keepdims=True)) * np.hanning(per), axis=1)) ** 2
        hz = np.fft.rfftfreq(per, 1 / rate_hz)
        for edge, band in zip(WELDER_EDGES_HZ, _bands(spectrum, hz, WELDER_EDGES_HZ), strict=False):
            out[f"{name}_band_{edge}"] = band
        out[f"{name}_peak_hz"] = hz[spectrum[:, :80].argmax(1)]
    current, voltage = waves["i"], waves["u"]
    short = (voltage < SHORT_V) & (current > FLOWING_A)
    out["short_share"] = short.mean(1)
    out["short_rate"] = (np.diff(short.astype(np.int8), axis=1) == 1).sum(1) / WINDOW_S
    burning = (~short) & (current > FLOWING_A)
    many = np.maximum(burning.sum(1), 1)
    out["arc_u"] = (voltage * burning).sum(1) / many
    out["arc_i"] = (current * burning).sum(1) / many
    out["power"] = (current * voltage).mean(1)
    over = voltage - out["u_p50"][:, np.newaxis]
    out["restrikes"] = ((over[:, 1:] > 6.0) & (over[:, :-1] <= 6.0)).sum(1) / WINDOW_S
    # Voltage that follows the current: contact resistance and the source's own drop.
    centred = (current - current.mean(1, keepdims=True)) * burning
    out["slope_ohm"] = (centred * voltage).sum(1) / np.maximum((centred**2).sum(1), 1.0)
    out["jitter_u"] = np.log10((np.abs(np.diff(voltage, axis=1)) * burning[:, 1:]).sum(1) / many + 1e-6)
    # Milliseconds: where a flickering contact tip and gas bursts live.
    slow = voltage.reshape(count, -1, 10).mean(2)
    out["u_slow_step"] = np.log10(np.median(np.abs(np.diff(slow, axis=1)), axis=1) + 1e-6)
    out["wire"] = _cut(welder[:, 2], start, count, per).mean(1)
    return out


def _moving_until(rendered: RenderedSeam) -> float:
    speed = rendered.motion[:, 0]
    return float((np.flatnonzero(speed > 0.5 * np.max(speed))[-1] + 1) / rendered.motion_hz)


def _motion_columns(rendered: RenderedSeam, on_s: float, count: int) -> Columns:
    per = round(WINDOW_S * rendered.motion_hz)
    start = round(on_s * rendered.motion_hz)
    speed, gas = (_cut(rendered.motion[:, k].astype(np.float64), start, count, per) for k in (0, 2))
    return {"speed": speed.mean(1), "speed_std": speed.std(1), "gas": gas.mean(1)}


def _sound_columns(rendered: RenderedSeam, on_s: float, count: int) -> Columns:
    per = round(WINDOW_S * rendered.audio_hz)
    start = round(on_s * rendered.audio_hz)
    wave = _cut(rendered.audio[:, 0] / 32768.0, start, count, per)
    pieces = wave.reshape(count, 4, per // 4)
    spectrum = np.abs(np.fft.rfft(pieces * np.hanning(per // 4), axis=2)) ** 2
    hz = np.fft.rfftfreq(per // 4, 1 / rendered.audio_hz)
    out: Columns = {}
    for edge, band in zip(SOUND_EDGES_HZ, _bands(spectrum.mean(1), hz, SOUND_EDGES_HZ), strict=False):
        out[f"sound_band_{edge}"] = band
    quiet = spectrum[..., np.searchsorted(hz, 12000) :].mean(2).min(1)
    out["sound_hiss_floor"] = np.log10(quiet + 1e-12)
    rms = np.sqrt((wave**2).mean(1) + 1e-12)
    out["sound_rms"] = 20 * np.log10(rms)
    size = np.abs(wave)
    out["sound_crest"] = np.percentile(size, 99.9, axis=1) / rms
    out["sound_tail"] = (wave**4).mean(1) / rms**4
    loud = size.reshape(count, -1, 48).max(2) > 4 * rms[:, np.newaxis]
    out["sound_ticks"] = (loud[:, 1:] & ~loud[:, :-1]).sum(1) / WINDOW_S
    return out


def _frame_columns(rendered: RenderedSeam, on_s: float, off_s: float, count: int) -> tuple[Columns, dict[str, float]]:
    import cv2

    half_size = cv2.IMREAD_REDUCED_GRAYSCALE_2
    decoded: list[Any] = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), half_size) for jpeg in rendered.frames]
    stack: NDArray[np.uint8] = np.stack(decoded)
    starts_s = np.arange(len(stack)) / rendered.arc_fps - on_s
    table = _per_frame(stack)
    window = np.floor(starts_s / WINDOW_S).astype(int)
    late = starts_s + EXPOSED_S > (window + 1) * WINDOW_S
    usable = (window >= 0) & (window < count) & ~late
    members = np.bincount(window[usable], minlength=count)[:count]
    columns: Columns = {}
    for name, values in table.items():
        total = np.bincount(window[usable], values[usable], minlength=count)[:count]
        columns[f"frame_{name}"] = _hold(total / np.maximum(members, 1), members > 0)
    burning = stack[(starts_s > 0.4) & (starts_s < off_s - on_s - 0.4)]
    flicker = {"frame flicker": float(np.diff(table["mean"]).std())}
    return columns, flicker | (_glass(cv2, burning) if len(burning) >= 4 else {})


def _hold(values: Array, known: NDArray[np.bool_]) -> Array:
    """Values where known; else the last known one, or the first ahead of it."""
    if not known.any():
        return values
    at = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return np.asarray(values[np.where(at < 0, int(np.argmax(known)), at)])


def _per_frame(stack: NDArray[np.uint8]) -> dict[str, Array]:
    """One number a frame each: brightness as a whole and in cells, the bright area and its place, streaks."""
    n, rows, cols = stack.shape
    high, wide = FRAME_CELLS
    whole = stack[:, : rows // high * high, : cols // wide * wide]
    # Column sums in 32-bit integers: twice as fast as a mean over two axes.
    cells = whole.reshape(n, high, rows // high, -1).sum(2, dtype=np.uint32).reshape(n, high, wide, -1).sum(3)
    out: dict[str, Array] = {"mean": stack.mean((1, 2))}
    area = (rows // high) * (cols // wide)
    for r in range(high):
        for c in range(wide):
            out[f"cell_{r}{c}"] = np.log10(cells[:, r, c] / area + 0.5)
    for level in (60, 128, 250):
        bright = stack > level
        across, along = bright.sum(1, dtype=np.uint16), bright.sum(2, dtype=np.uint16)
        size = across.sum(1).astype(np.float64)
        out[f"above_{level}"] = np.sqrt(size)
        out[f"x_{level}"] = across @ np.arange(cols, dtype=np.float64) / np.maximum(size, 1)
        out[f"y_{level}"] = along @ np.arange(rows, dtype=np.float64) / np.maximum(size, 1)
        out[f"width_{level}"] = (across > 0).sum(1).astype(np.float64)
        out[f"height_{level}"] = (along > 0).sum(1).astype(np.float64)
    # Streaks and smoke: what differs sharply from its neighbour away from arc and pool.
    upper = stack[:, : rows // 2, :].astype(np.int16)
    edge = np.abs(upper[:, 2:, :] - upper[:, :-2, :])
    out["streaks"] = np.log10((edge > 30).mean((1, 2)) + 1e-4)
    ahead = stack[:, rows // 2 : 3 * rows // 4, 3 * cols // 4 :].mean(2)
    out["joint_dark"] = (np.median(ahead, axis=1) - ahead.min(1)) / np.maximum(np.median(ahead, axis=1), 1.0)
    below = np.median(ahead, axis=1, keepdims=True) * 0.9
    out["joint_wide"] = np.maximum(below - ahead, 0).sum(1) / np.maximum(below[:, 0], 1.0)
    return out


def _glass(cv2: Any, burning: NDArray[np.uint8]) -> dict[str, float]:
    """What stands still while everything moves: spots on the cover glass, and how they grew."""
    half = len(burning) // 2
    out: dict[str, float] = {}
    details = []
    for name, part in (("early", burning[:half]), ("late", burning[half:])):
        mean = part[:: max(len(part) // 40, 1)].mean(0, dtype=np.float32) + 1.0
        detail = np.log(mean) - np.log(cv2.GaussianBlur(mean, (0, 0), 5.0))
        details.append(detail)
        out[f"glass {name} std"] = float(np.log10(detail.std() + 1e-6))
        out[f"glass {name} p01"] = float(np.percentile(detail, 1))
        out[f"glass {name} spots"] = float((detail < -0.12).mean())
    change = details[1] - details[0]
    out["glass change std"] = float(np.log10(change.std() + 1e-6))
    out["glass change p01"] = float(np.percentile(change, 1))
    return out


def _bridges(current: Array, voltage: Array, rate_hz: float) -> dict[str, float]:
    """Durations and intervals of the short circuits of the whole seam, ms; rates too low to say give NaN."""
    short = np.concatenate([[0], ((voltage < SHORT_V) & (current > FLOWING_A)).astype(np.int8), [0]])
    edge = np.diff(short)
    begin, end = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)
    names = ("short ms", "short ms std", "short ms p95", "interval ms", "interval cv", "peak a", "peak a std")
    if len(begin) < 8:
        return dict.fromkeys(names, float("nan"))
    last, gap = (end - begin) / rate_hz * 1e3, np.diff(begin) / rate_hz * 1e3
    peaks = np.maximum.reduceat(current, begin)
    values = (last.mean(), last.std(), np.percentile(last, 95), np.median(gap), gap.std() / gap.mean(), peaks.mean(),
              peaks.std())  # fmt: skip
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _acoustic_delay(rendered: RenderedSeam, welder: Array, on_s: float, off_s: float) -> dict[str, float]:
    """By how many ms the sound lags the change of power: the microphone's distance, early and late in the seam."""
    start, stop = int(on_s * rendered.welder_hz), int(off_s * rendered.welder_hz)
    power = np.diff(welder[start:stop, 0] * welder[start:stop, 1], prepend=0.0)
    at = np.arange(start, stop) / rendered.welder_hz * rendered.audio_hz
    sound = np.interp(at, np.arange(len(rendered.audio)), rendered.audio[:, 0].astype(np.float64))
    out: dict[str, float] = {}
    half = len(power) // 2
    for name, piece in (("early", slice(0, half)), ("late", slice(half, 2 * half))):
        lag, height = _lag(power[piece], sound[piece], round(4e-3 * rendered.welder_hz))
        out |= {f"delay {name} ms": lag / rendered.welder_hz * 1e3, f"delay {name} corr": height}
    out["delay change ms"] = out["delay late ms"] - out["delay early ms"]
    return out


def _lag(cause: Array, effect: Array, most: int) -> tuple[float, float]:
    """Lag 0 … `most` samples of the strongest correlation, by parabola between samples, and that correlation."""
    size = 1 << int(np.ceil(np.log2(2 * len(cause))))
    product = np.conj(np.fft.rfft(cause - cause.mean(), size)) * np.fft.rfft(effect - effect.mean(), size)
    corr = np.fft.irfft(product, size)[: most + 2] / (cause.std() * effect.std() * len(cause) + 1e-12)
    k = int(np.clip(np.abs(corr[: most + 1]).argmax(), 1, most))
    a, b, c = np.abs(corr[k - 1 : k + 2])
    bend = a - 2 * b + c
    return float(k + (0.5 * (a - c) / bend if abs(bend) > 1e-12 else 0.0)), float(corr[k])
