"""The folder of a bulk simulation: only whole seams, in the order of their time, one kind, one run at a time."""

import json
import re
from pathlib import Path

import pytest

from edged.manifest import FEATURES_DATA, MANIFEST, TRUTH, read_manifest
from edged.simulated_folder import ABOUT_NAME, SCRATCH_NAME, SimulatedFolder, simulated_folder

ABOUT = {"sim_version": "1", "holds": "features"}


def add(folder: SimulatedFolder, seam_id: str) -> None:
    """What a process leaves of a seam, moved to its place."""
    room = folder.scratch / seam_id
    (room / "features").mkdir(parents=True)
    (room / FEATURES_DATA.format(seam_id)).write_text(f"features of {seam_id}")
    (room / MANIFEST).write_text(json.dumps({"seam_id": seam_id}) + "\n")
    folder.add(seam_id, room, {"family": seam_id})


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def whole(path: Path, *seams: str) -> dict[str, bytes]:
    with simulated_folder(path, FEATURES_DATA, ABOUT) as folder:
        for seam in seams:
            add(folder, seam)
    return content(path)


def test_what_is_there_does_not_depend_on_the_order_of_the_runs_that_added_it(tmp_path: Path) -> None:
    wanted = whole(tmp_path / "one", "A", "B", "C")
    whole(tmp_path / "two", "C")
    assert whole(tmp_path / "two", "A", "B") == wanted
    assert sorted(wanted) == ["features/A.safetensors", "features/B.safetensors", "features/C.safetensors",
                              MANIFEST, ABOUT_NAME, TRUTH]  # fmt: skip
    assert list(read_manifest(tmp_path / "two", FEATURES_DATA)) == ["A", "B", "C"]


@pytest.mark.parametrize("stage", ["scratch", "half manifest", "manifest", "half truth", "truth"])
def test_a_run_killed_while_it_added_a_seam_leaves_nothing_of_it_for_the_next(tmp_path: Path, stage: str) -> None:
    wanted = whole(tmp_path / "one", "A", "B")
    path = tmp_path / "two"
    whole(path, "A")
    line, truth = ('{"seam_id": "B"}\n', '{"seam_id": "B", "truth": {"family": "B"}}\n')
    left = {"scratch": ("", ""), "half manifest": (line[:9], ""), "manifest": (line, ""),
            "half truth": (line, truth[:20]), "truth": (line, truth)}[stage]  # fmt: skip
    for name, text in zip((MANIFEST, TRUTH), left, strict=True):
        with (path / name).open("a") as file:
            file.write(text)
    (path / SCRATCH_NAME / "B" / "features").mkdir(parents=True)
    (path / SCRATCH_NAME / "B" / "features" / "B.part").write_text("half")
    with simulated_folder(path, FEATURES_DATA, ABOUT) as folder:
        assert folder.known == {"A"}
        add(folder, "B")
    assert content(path) == wanted


def test_a_seam_whose_file_was_deleted_is_made_again(tmp_path: Path) -> None:
    wanted = whole(tmp_path, "A", "B")
    (tmp_path / FEATURES_DATA.format("A")).unlink()
    assert whole(tmp_path, "A") == wanted


def test_a_folder_of_another_kind_is_refused_saying_what_differs(tmp_path: Path) -> None:
    whole(tmp_path, "A")
    text = "sim_version is 1, not 2"
    with (
        pytest.raises(ValueError, match=re.escape(text)),
        simulated_folder(tmp_path, FEATURES_DATA, {**ABOUT, "sim_version": "2"}),
    ):
        pass
    assert whole(tmp_path)  # unharmed


def test_a_folder_of_real_recordings_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"seam_id": "real"}\n')
    with pytest.raises(ValueError, match="not simulated"), simulated_folder(tmp_path, FEATURES_DATA, ABOUT):
        pass
    assert content(tmp_path) == {MANIFEST: b'{"seam_id": "real"}\n'}


def test_two_runs_cannot_fill_one_folder_at_once(tmp_path: Path) -> None:
    with (
        simulated_folder(tmp_path, FEATURES_DATA, ABOUT),
        pytest.raises(ValueError, match="another simulation"),
        simulated_folder(tmp_path, FEATURES_DATA, ABOUT),
    ):
        pass
