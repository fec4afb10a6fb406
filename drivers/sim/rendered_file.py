"""Plans and rendered seams as files: how the cell, its renderer process and the demo hand them to each other."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.seam import Fault, RenderedSeam, SeamPlan

__all__ = ["load_rendered", "plan_from_dict", "plans_from_json", "plans_to_json", "save_rendered"]

ARRAYS = ("welder", "audio", "motion", "profile")
SCALARS = ("lead_s", "arc_s", "tail_s", "welder_hz", "audio_hz", "arc_fps", "motion_hz", "profile_mm_per_row")


def plans_to_json(plans: list[SeamPlan]) -> str:
    """The plans as a JSON list."""
    return json.dumps([dataclasses.asdict(plan) for plan in plans], indent=1) + "\n"


def plans_from_json(text: str) -> list[SeamPlan]:
    """The plans of a JSON list, or of an object's list `seams`. Raises ValueError, TypeError or KeyError."""
    raw = json.loads(text)
    return [plan_from_dict(item) for item in (raw["seams"] if isinstance(raw, dict) else raw)]


def plan_from_dict(raw: dict[str, Any]) -> SeamPlan:
    """One plan from its fields."""
    fault = raw.get("fault")
    return SeamPlan(**{**raw, "fault": None if fault is None else Fault(**fault)})


def save_rendered(path: Path, rendered: RenderedSeam) -> None:
    """Write `rendered` so that the file appears whole or not at all."""
    views = dict(rendered.views)
    header = {
        **{name: getattr(rendered, name) for name in SCALARS},
        "plan": dataclasses.asdict(rendered.plan),
        "welder_scale": rendered.welder_scale,
        "set_points": dict(rendered.set_points),
        "truth": dict(rendered.truth),
        "views": list(views),
    }
    images = [*rendered.frames, *views.values()]
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(
            file,
            header=np.frombuffer(json.dumps(header).encode(), np.uint8),
            image_sizes=np.array([len(image) for image in images], np.int64),
            images=np.frombuffer(b"".join(images), np.uint8),
            **{name: getattr(rendered, name) for name in ARRAYS},
        )
    part.rename(path)


def load_rendered(path: Path) -> RenderedSeam:
    """What `save_rendered` wrote."""
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        images = _split(file["images"], file["image_sizes"])
        arrays = {name: file[name] for name in ARRAYS}
    names = header["views"]
    frames = images[: len(images) - len(names)]
    return RenderedSeam(
        plan=plan_from_dict(header["plan"]),
        frames=tuple(frames),
        views=dict(zip(names, images[len(frames) :], strict=True)),
        welder_scale=tuple(header["welder_scale"]),
        set_points=header["set_points"],
        truth=header["truth"],
        **arrays,
        **{name: header[name] for name in SCALARS},
    )


def _split(data: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[bytes]:
    ends = np.cumsum(sizes)
    return [data[end - size : end].tobytes() for end, size in zip(ends, sizes, strict=True)]
