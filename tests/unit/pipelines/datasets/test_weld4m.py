"""Weld-4M: the published split from a CSV, the split by session, and every way the CSV can be wrong."""

from pathlib import Path

import pytest

from edged.importing.mapping import Mapping
from pipelines.datasets import completeness, shared_groups, weld4m
from tests.support import dataset_trees as trees

HEADER = "run_id,split,class,session\n"
RUNS = {"12-21-22-0001-00": "s1", "12-21-22-0002-00": "s2", "01-02-23-0003-06": "s3", "01-02-23-0004-10": "s1"}
LINES = [
    "12-21-22-0001-00,TRAIN,Good,s1",
    "12-21-22-0002-00,val,Good,s2",
    "01-02-23-0003-06,test,Spatter,s3",
    "01-02-23-0004-10,test,Porosity + excessive penetration,s1",
    "01-02-23-0009-06,TEST,spatter,s3",
]


def split_csv(folder: Path, text: str) -> Path:
    path = folder / "split.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_published_split_is_the_users_csv(tmp_path: Path) -> None:
    root = trees.weld4m(tmp_path / "data", RUNS)
    items = weld4m.load(root, split_csv(tmp_path, HEADER + "\n".join(LINES)))
    assert [(item.split, item.defect, item.group) for item in items] == [
        ("train", "good", "s1"),
        ("validation", "good", "s2"),
        ("test", "spatter", "s3"),
        ("test", "porosity_excessive_penetration", "s1"),
        ("test", "spatter", "s3"),
    ]
    assert items[0].others["log"] == root / "s1/12-21-22-0001-00/12-21-22-0001-00.csv"
    assert len(weld4m.photos(items[0])) == 2
    assert shared_groups(items) == {"s1": ("test", "train")}
    assert weld4m.photos(items[4]) == []


def test_what_runs_lack_is_counted_per_class(tmp_path: Path) -> None:
    root = trees.weld4m(tmp_path / "data", RUNS)
    (root / "s3/01-02-23-0003-06/01-02-23-0003-06.flac").unlink()
    items = weld4m.load(root, split_csv(tmp_path, HEADER + "\n".join(LINES)))
    counts = completeness(items, weld4m.PARTS)
    assert counts["spatter"] == {
        "items": 2, "without_log": 1, "without_sound": 2, "without_video": 1, "without_image": 1
    }  # fmt: skip
    assert counts["good"]["without_sound"] == 0


def test_by_session_no_session_is_in_two_splits_and_none_with_a_defect_trains(tmp_path: Path) -> None:
    runs = {f"12-21-22-{n:04d}-00": f"good{n // 4}" for n in range(40)}
    runs |= {f"12-22-22-{n:04d}-06": f"bad{n // 4}" for n in range(16)} | {"12-23-22-0000-00": "bad0"}
    items = weld4m.load(trees.weld4m(tmp_path, runs))
    assert len(items) == len(runs)
    assert shared_groups(items) == {}
    train = [item for item in items if item.split == "train"]
    assert len(train) == 7 * 4
    assert {item.defect for item in train} == {"good"}
    assert {item.split for item in items if item.group == "bad0"} <= {"validation", "test"}
    for defect in ("good", "class_06"):
        assert {"validation", "test"} <= {item.split for item in items if item.defect == defect}
    assert weld4m.by_session(items) == items
    assert weld4m.by_session(items, seed=1) != items


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run_id,split\na-00,train\n", "lacks the columns class, session"),
        ("", "lacks the columns run_id, split, class, session"),
        (HEADER, "names no run"),
        (HEADER + "a-00,holdout,Good,s1\n", "line 2: split 'holdout' is unknown; known: train, val"),
        (HEADER + "a-06,test,Rust,s1\n", "line 2: class 'Rust' is unknown; known: good, burnthrough"),
        (HEADER + "a-00,train,Good,\n", "line 2: session is empty"),
        (HEADER + "a-00,train,Good\n", "line 2: session is empty"),
        (HEADER + "a-00,train,Good,s1\na-00,test,Good,s1\n", "line 3: run 'a-00' was given before"),
        (HEADER + "a-06,train,Good,s1\n", r"line 2: class 'Good' contradicts run id 'a-06' \(class_06\)"),
        (HEADER + "a,train,Good,s1\n", "run 'a' does not end in its class code"),
    ],
)
def test_a_csv_that_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    root = trees.weld4m(tmp_path / "data", RUNS)
    with pytest.raises(ValueError, match=message):
        weld4m.load(root, split_csv(tmp_path, text))


def test_a_folder_or_csv_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none is no folder"):
        weld4m.load(tmp_path / "none")
    with pytest.raises(ValueError, match="has no run"):
        weld4m.load(tmp_path)
    with pytest.raises(ValueError, match=r"split.*nothing\.csv cannot be read"):
        weld4m.load(tmp_path, tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="1 sessions of good welds only"):
        weld4m.load(trees.weld4m(tmp_path / "one", {"a-00": "s1", "b-06": "s2"}))
    with pytest.raises(ValueError, match="run 'a-00' is in"):
        weld4m.load(trees.weld4m(trees.weld4m(tmp_path / "two", {"a-00": "s1"}), {"a-00": "s2"}))


def test_the_importer_reads_the_same_layout() -> None:
    mapping = Mapping()
    assert mapping.log_file.format(run="r") == "r.csv"
    assert mapping.class_of("12-21-22-0462-00") is None
    assert mapping.class_of("12-21-22-0462-06") == "class_06"
