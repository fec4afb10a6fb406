"""Runs in the layout of the Intel Robotic Welding Multimodal Dataset, with everything that is wrong with it."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

HEADER = (
    "Date,Time,Part No,Pressure,CO2 Weld Flow,Feed,Primary Weld Current,Wire Consumed,Secondary Weld Voltage,Remarks "
)
SOUND_HZ = 16_000
VIDEO_HZ = 29.8
HEADER_HZ = 31.0


@dataclasses.dataclass(frozen=True)
class Run:
    """One synthetic run; leads are how much earlier than the log a stream shows arc-on."""

    run_id: str = "12-21-22-0462-00"
    arc_s: float = 14.0
    idle_before_s: float = 6.0
    idle_after_s: float = 5.0
    sound_lead_s: float = 1.24
    video_lead_s: float = 0.3
    hiss: float = 1.0
    sound_s: float | None = None
    photos: int = 2
    seed: int = 0


def log_text(run: Run) -> str:
    """CSV rows at about 9 Hz with uneven steps, one field short of the header, with voltage spikes when idle."""
    rng = np.random.default_rng(run.seed)
    lines, t = [HEADER], 0.0
    end_s = run.idle_before_s + run.arc_s + run.idle_after_s
    while t < end_s:
        burning = run.idle_before_s <= t < run.idle_before_s + run.arc_s
        current = rng.normal(170, 12) if burning else 0.0
        voltage = rng.normal(20, 1.0) if burning else (82.0 if rng.random() < 0.05 else 0.0)
        stamp = 7124.169 + t
        clock = f"{int(stamp // 3600):02d}:{int(stamp // 60 % 60):02d}:{stamp % 60:06.3f}"
        flow = 12.0 if run.idle_before_s - 1 <= t < run.idle_before_s + run.arc_s + 1 else 0.0
        lines.append(f"12/21/2022,{clock},{run.run_id},3.45,{flow:.2f},0.31,{current:.2f},11.80,{voltage:.2f}")
        t += rng.choice([0.11, 0.12, 0.14, 0.20], p=[0.7, 0.15, 0.1, 0.05])
    return "\n".join(lines) + "\n"


def sound(run: Run) -> NDArray[np.int16]:
    """Room, gas hiss from 1 s before to 1 s after the arc, arc with short circuits; hammering when idle."""
    rng = np.random.default_rng(run.seed + 1)
    on_s = run.idle_before_s - run.sound_lead_s
    total_s = run.sound_s or run.idle_before_s + run.arc_s + run.idle_after_s - run.sound_lead_s
    t = np.arange(int(total_s * SOUND_HZ)) / SOUND_HZ
    signal = rng.normal(0, 40, len(t))
    gas = (t >= on_s - 1.0) & (t < on_s + run.arc_s + 1.0)
    signal[gas] += rng.normal(0, 1500 * run.hiss, int(gas.sum()))
    arc = (t >= on_s) & (t < on_s + run.arc_s)
    crackle = np.zeros(len(t))
    at = np.cumsum(rng.gamma(4, SOUND_HZ / 80 / 4, 80 * int(total_s))).astype(int)
    crackle[at[at < len(t)]] = rng.normal(0, 1, int((at < len(t)).sum())) * 30_000
    ring = np.exp(-np.arange(200) / 40) * np.sin(np.arange(200) * 2 * np.pi * 900 / SOUND_HZ)
    signal += np.where(arc, np.convolve(crackle, ring)[: len(t)] + rng.normal(0, 500, len(t)), 0.0)
    clang = int(1.5 * SOUND_HZ)
    signal[clang : clang + 800] += rng.normal(0, 20_000, 800)
    return np.clip(signal, -32768, 32767).astype(np.int16)


def light(run: Run) -> NDArray[np.float64]:
    """Mean brightness of every frame."""
    rng = np.random.default_rng(run.seed + 2)
    n = int((run.idle_before_s + run.arc_s + run.idle_after_s - run.video_lead_s) * VIDEO_HZ)
    t = np.arange(n) / VIDEO_HZ
    on_s = run.idle_before_s - run.video_lead_s
    burning = (t >= on_s) & (t < on_s + run.arc_s)
    return np.clip(np.where(burning, rng.normal(140, 25, n), rng.normal(12, 1, n)), 0, 255)


def photo(run: Run) -> NDArray[np.uint8]:
    """A plate with a bead and a white sticker that shows the class code, `(900, 2000, 3)`."""
    rng = np.random.default_rng(run.seed + 3)
    image = rng.normal(90, 8, (900, 2000, 3)).clip(0, 255).astype(np.uint8)
    cv2.ellipse(image, (1000, 450), (800, 40), 0, 0, 360, (150, 150, 160), -1)
    cv2.rectangle(image, (1500, 100), (1760, 240), (250, 250, 250), -1)
    cv2.putText(image, run.run_id[-2:], (1560, 205), cv2.FONT_HERSHEY_SIMPLEX, 3.0, (0, 0, 0), 8)
    return image


def write_run(folder: Path, run: Run, *, without: frozenset[str] = frozenset()) -> Path:
    """`folder/<run id>/` with its files but those named in `without` (log, sound, video, photos)."""
    where = folder / run.run_id
    (where / "images").mkdir(parents=True)
    if "log" not in without:
        (where / f"{run.run_id}.csv").write_text(log_text(run))
    if "sound" not in without:
        soundfile.write(where / f"{run.run_id}.flac", sound(run), SOUND_HZ)
    if "video" not in without:
        out = cv2.VideoWriter(
            str(where / f"{run.run_id}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), HEADER_HZ, (96, 60), True
        )
        for value in light(run):
            out.write(np.full((60, 96, 3), round(value), np.uint8))
        out.release()
    for k in range(0 if "photos" in without else run.photos):
        cv2.imwrite(str(where / "images" / f"{k}.jpg"), photo(run))
    return where
