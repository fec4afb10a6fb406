"""Good welds make room first; what may matter stays as long as there is room."""

import os
from collections import namedtuple
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from drivers.mcap_codec import RecordingHeader, RecordingWriter
from edged.config import RecordingConfig
from edged.manifest import MANIFEST, append_manifest, read_manifest
from edged.retention import GB, Kept, enforce, plan

DiskUsage = namedtuple("DiskUsage", "total used free")


def kept(name: str, size: int, age: int, is_ok: bool) -> Kept:
    return Kept(Path(f"/r/{name}.mcap"), size, -age, is_ok)


def test_oldest_ok_ones_go_first_and_no_more_than_needed() -> None:
    all_of_them = [kept("a", 10, 9, False), kept("b", 10, 5, True), kept("c", 10, 8, True), kept("d", 10, 1, True)]
    found = plan(all_of_them, max_bytes=25, free_bytes=99, min_free_bytes=0)
    assert [one.seam_id for one in found.remove] == ["c", "b"]
    assert found.missed_bytes == 0
    assert found.warning == "2 of the oldest OK recordings deleted"


def test_others_go_only_when_no_ok_one_is_left_and_those_in_use_never() -> None:
    all_of_them = [kept("a", 10, 9, False), kept("b", 10, 5, True), kept("c", 10, 8, True), kept("d", 10, 1, False)]
    found = plan(all_of_them, max_bytes=5, free_bytes=99, min_free_bytes=0, in_use={"c", "d"})
    assert [one.seam_id for one in found.remove] == ["b", "a"]
    assert found.missed_bytes == 15
    assert "1 of the oldest other recordings deleted too" in (found.warning or "")
    assert "still over its limit" in (found.warning or "")


def test_free_space_counts_as_well_as_the_total() -> None:
    found = plan([kept("a", 10, 9, True), kept("b", 10, 5, True)], max_bytes=100, free_bytes=3, min_free_bytes=8)
    assert [one.seam_id for one in found.remove] == ["a"]
    assert plan([kept("a", 10, 9, True)], max_bytes=10, free_bytes=8, min_free_bytes=8).warning is None


NAMES = st.text("abcdef", min_size=4, max_size=9)
ONE = st.builds(kept, NAMES, st.integers(1, 50), st.integers(0, 9), st.booleans())
ANY = st.lists(ONE, max_size=15, unique_by=lambda one: one.seam_id)


@given(ANY, st.integers(0, 400), st.integers(0, 200), st.integers(0, 200), st.sets(st.integers(0, 14)))
def test_a_plan_meets_the_limits_or_says_by_how_much_not(
    all_of_them: list[Kept], max_bytes: int, free: int, min_free: int, used: set[int]
) -> None:
    in_use = {one.seam_id for index, one in enumerate(all_of_them) if index in used}
    found = plan(all_of_them, max_bytes=max_bytes, free_bytes=free, min_free_bytes=min_free, in_use=in_use)
    freed = sum(one.size_bytes for one in found.remove)
    over = max(sum(one.size_bytes for one in all_of_them) - max_bytes, min_free - free, 0)
    assert not {one.seam_id for one in found.remove} & in_use
    assert found.missed_bytes == max(0, over - freed)
    stays = [one for one in all_of_them if one not in found.remove and one.seam_id not in in_use]
    assert not (found.missed_bytes and stays)
    if any(not one.is_ok for one in found.remove):
        assert not any(one.is_ok for one in stays)
    if found.remove:
        assert over - freed + found.remove[-1].size_bytes > 0


def test_enforce_deletes_files_and_manifest_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {
        "A": ("NOK", None),
        "B": ("OK", None),
        "C": ("INDETERMINATE", "OK"),
        "D": ("OK", None),
        "E": ("OK", None),
    }
    header = RecordingHeader("boot", 0, 1, "0.1.0", False, "cell")
    for age, (name, (label, shadow)) in enumerate(labels.items()):
        with RecordingWriter(tmp_path / f"{name}.mcap", (), header) as writer:
            writer.metadata("verdict", {"label": label, "shadow_label": shadow})
            writer.finish()
        os.utime(tmp_path / f"{name}.mcap", ns=(age, age))
        if name != "B":  # B's label is only inside it
            append_manifest(tmp_path, {"seam_id": name, "label": label, "shadow_label": shadow})
    (tmp_path / "F.mcap").write_bytes(b"damaged")
    (tmp_path / "G.open").write_bytes(b"burning")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: DiskUsage(9 * GB, 8 * GB, 1 * GB - 100))

    found = enforce(tmp_path, RecordingConfig(max_gb=1, min_free_gb=1.0), in_use={"D"})
    assert [one.seam_id for one in found.remove] == ["B"]
    assert sorted(read_manifest(tmp_path)) == ["A", "C", "D", "E"]

    found = enforce(
        tmp_path,
        RecordingConfig(max_gb=0.000000001, min_free_gb=0),
        in_use={"D"},
        labels={"E": "NOK", "C": "INDETERMINATE"},
    )
    assert [one.seam_id for one in found.remove][:1] == ["C"]
    assert {one.seam_id for one in found.remove[1:]} == {"A", "E", "F"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["D.mcap", "G.open", MANIFEST]
    assert (tmp_path / MANIFEST).read_text().count("\n") == 1
    assert found.warning is not None
