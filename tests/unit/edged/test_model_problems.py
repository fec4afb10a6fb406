"""What `edged check` says between a cell and its models, from model.toml alone."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edged.config import parse_config
from edged.model_problems import model_problems
from edged.virtual_cell import virtual_cell_config
from pipelines.features.extractor import FEATURES_VERSION
from pipelines.grids import requires_of
from pipelines.models import write_manifest

PROGRAM = "short-butt-3"


def model(folder: Path, pair: tuple[str, ...], **changes: Any) -> str:
    """A directory that says what it needs and holds no weights."""
    folder.mkdir()
    about = {
        "detector": "mafr",
        "features_version": FEATURES_VERSION,
        "pair": list(pair),
        "requires": list(requires_of(pair)),
    }
    (folder / "model.toml").write_text(tomli_w.dumps(about | changes))
    write_manifest(folder)
    return str(folder)


def problems(
    directory: str, profiler: bool = False, frame: Mapping[str, Any] | None = None, **program: Any
) -> list[str]:
    """Of a virtual cell with one program, changed; a value of None removes the key."""
    raw, _ = virtual_cell_config(Path("/nowhere"), "armed", directory, profiler=profiler)
    own = {**raw["programs"][PROGRAM], **program}
    own["frame"] = {k: v for k, v in {**own["frame"], **(frame or {})}.items() if v is not None}
    raw["programs"] = {PROGRAM: {k: v for k, v in own.items() if v is not None}}
    return model_problems(parse_config(raw))


@pytest.mark.parametrize(
    ("pair", "profiler"), [(("rgb", "proc"), False), (("geo", "proc"), True), (("rgb", "geo"), True)]
)
def test_a_cell_that_has_what_the_model_needs_is_fine(tmp_path: Path, pair: tuple[str, ...], profiler: bool) -> None:
    assert problems(model(tmp_path / "m", pair), profiler) == []


def test_without_a_profiler_the_pair_that_needs_none_is_named(tmp_path: Path) -> None:
    (said,) = [text for text in problems(model(tmp_path / "m", ("geo", "proc"))) if "laser profiler" in text]
    assert said.startswith(f"programs.{PROGRAM}.model: {tmp_path}/m (mafr of (geo,proc)) requires 'profile'")
    assert "use a model of the pair (rgb,proc)" in said


@pytest.mark.parametrize(
    ("pair", "changes", "says"),
    [
        (("geo", "proc"), {"views": ["top"]}, "requires 'profile', but the program lists no view that is a scan"),
        (("geo", "proc"), {"optional": ["motion", "profile"]}, "it is optional; remove it from optional"),
        (
            ("rgb", "proc"),
            {"views": ["scan"]},
            "'result', but the program lists no view that is a photograph",
        ),
        (("rgb", "proc"), {"optional": ["result"]}, "it is optional; remove it from optional"),
        (("rgb", "proc"), {"required": ["audio"]}, "add 'welder' to its required streams"),
        (("geo", "proc"), {"frame": {"scan": None}}, "add scan to the program's frame"),
        (("rgb", "proc"), {"frame": {"views": {}}}, "needs to know where the view 'top' lies"),
    ],
)
def test_what_the_program_lacks_is_named_with_the_fix(
    tmp_path: Path, pair: tuple[str, ...], changes: dict[str, Any], says: str
) -> None:
    (said,) = problems(model(tmp_path / "m", pair), profiler=True, **changes)
    assert f"programs.{PROGRAM}.model: {tmp_path}/m (mafr of ({','.join(pair)}))" in said
    assert says in said


def test_a_program_without_a_frame_is_told_so(tmp_path: Path) -> None:
    raw, _ = virtual_cell_config(Path("/nowhere"), "armed", model(tmp_path / "m", ("rgb", "proc")))
    del raw["programs"][PROGRAM]["frame"]
    (said,) = model_problems(parse_config(raw))
    assert "add the program's frame" in said


def test_a_model_of_other_features_an_unknown_detector_and_a_changed_file(tmp_path: Path) -> None:
    (old,) = problems(model(tmp_path / "old", ("rgb", "proc"), features_version="1"))
    assert f"features_version is '1', this edged makes {FEATURES_VERSION!r}; train the model again" in old
    (unknown,) = problems(model(tmp_path / "unknown", ("rgb", "proc"), detector="oracle"))
    assert "no detector 'oracle'; known: causal_hm, cfm," in unknown
    changed = model(tmp_path / "changed", ("rgb", "proc"))
    with (Path(changed) / "model.toml").open("a") as file:
        file.write("\n")
    (said,) = problems(changed)
    assert "model.toml has changed; copy the model again" in said
    (missing,) = problems("demo:nothing")
    assert "is this a model?" in missing


def test_checking_imports_no_torch(tmp_path: Path) -> None:
    """A cell's computer checks in a second, and without the worker's libraries."""
    directory = model(tmp_path / "m", ("rgb", "proc"))
    script = (
        "import sys; from pathlib import Path; from edged.virtual_cell import virtual_cell_config\n"
        "from edged.model_problems import model_problems\n"
        f"_, config = virtual_cell_config(Path('/nowhere'), 'armed', {directory!r})\n"
        "assert model_problems(config) == []\n"
        "sys.exit(' '.join(name for name in ('torch', 'cv2', 'onnxruntime', 'sklearn') if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
