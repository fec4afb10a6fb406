"""The image and 3D sets: tiny trees in the exact layouts, and what is refused in them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import DATASETS, dataset, eyecandies, mvtec_3d_ad, mvtec_ad, of_split
from tests.support import dataset_trees as trees


def test_mvtec_ad_gives_its_items_with_their_masks(tmp_path: Path) -> None:
    items = mvtec_ad.load(trees.mvtec_ad(tmp_path))
    assert [(item.split, item.defect) for item in items] == [
        *[("train", "good")] * 2,
        *[("test", "broken_large")] * 2,
        ("test", "good"),
    ]
    broken, good = items[2], items[4]
    assert (broken.id, broken.program, broken.is_good) == ("bottle/test/broken_large/000", "bottle", False)
    assert np.array_equal(broken.read_mask(), trees.blob() > 0)
    assert good.read_mask().shape == (12, 16)
    assert not good.read_mask().any()
    assert np.array_equal(good.read_image(), trees.grey(20)[..., ::-1])  # written blue first, read red first
    assert len({item.id for item in items}) == len({item.group for item in items}) == 5


def test_mvtec_3d_ad_gives_points_as_they_are_stored(tmp_path: Path) -> None:
    items = mvtec_3d_ad.load(trees.mvtec_3d_ad(tmp_path))
    assert [(item.split, item.defect) for item in items] == [
        *[("train", "good")] * 2,
        *[("validation", "good"), ("test", "crack"), ("test", "good")],
    ]
    crack = items[3]
    assert crack.read_xyz().dtype == np.float32
    assert np.array_equal(crack.read_xyz(), trees.scan())  # metres as stored, x first, nothing scaled by 255
    assert np.array_equal(crack.read_mask(), trees.blob(60, 80) > 0)
    assert not items[4].read_mask().any()
    assert crack.image is not None
    assert of_split(items, "validation") == [items[2]]


def test_mvtec_3d_ad_good_scans_need_no_masks(tmp_path: Path) -> None:
    root = trees.mvtec_3d_ad(tmp_path)
    shutil.rmtree(root / "bagel/test/good/gt")
    good = mvtec_3d_ad.load(root)[4]
    assert good.mask is None
    assert good.read_mask().shape == (60, 80)


def test_mvtec_3d_ad_points_lose_plate_and_specks_and_become_square(tmp_path: Path) -> None:
    item = mvtec_3d_ad.load(trees.mvtec_3d_ad(tmp_path))[0]
    points = mvtec_3d_ad.read_points(item)
    assert points.shape == (100, 100, 3)
    rows, columns = np.nonzero(points.any(axis=2))
    away = np.hypot(rows - 20 - 30, columns - 10 - 40)  # the pad is 20 above and 10 to the left
    assert away.max() < 12
    assert len(away) == int((np.hypot(*np.mgrid[-30:30, -40:40]) < 12).sum())
    assert np.array_equal(points[50, 50], trees.scan()[30, 40])


def test_eyecandies_names_defects_by_their_masks(tmp_path: Path) -> None:
    items = eyecandies.load(trees.eyecandies(tmp_path))
    assert [(item.split, item.defect) for item in items] == [
        *[("train", "good")] * 2,
        *[("validation", "good"), ("test", "good"), ("test", "dents")],
    ]
    assert np.array_equal(items[4].read_mask(), trees.blob() > 0)
    assert np.array_equal(items[0].read_image(), trees.grey(4)[..., ::-1])  # the light from the left


def test_eyecandies_depth_is_in_metres_and_its_points_lie_on_their_rays(tmp_path: Path) -> None:
    item = eyecandies.load(trees.eyecandies(tmp_path))[0]
    depth = eyecandies.read_depth(item)
    assert (depth[0, 0], depth[-1, -1]) == (pytest.approx(2.5), pytest.approx(4.5))
    pose = np.loadtxt(item.others["pose"])
    world = eyecandies._points(depth, pose)
    camera = np.concatenate([world, np.ones((12, 16, 1))], axis=2) @ pose.T
    assert np.allclose(camera[..., 2], depth)
    rows, columns = np.mgrid[:12, :16]
    assert np.allclose(camera[..., 0] / camera[..., 2] * 711.11 + 8, columns)
    assert np.allclose(camera[..., 1] / camera[..., 2] * 711.11 + 6, rows)


def test_eyecandies_points_are_without_the_conveyor(tmp_path: Path) -> None:
    """A flat floor seen from above at 3 m, with a box of 0.2 on it: only the box is left, in MVTec 3D-AD's axes."""
    item = eyecandies.load(trees.eyecandies(tmp_path))[0]
    depth = np.full((64, 64), 3.0)
    depth[24:40, 20:44] = 2.8
    counts = np.round((depth - 2.5) / 2.0 * 65535).astype(np.uint16)
    assert item.depth is not None
    trees.write_png(item.depth, counts)
    # The camera looks along the world's +y, and its rows run against the world's z.
    item.others["pose"].write_text("1 0 0 0\n0 0 -1 0\n0 1 0 0\n0 0 0 1\n")
    points = eyecandies.read_points(item)
    box = np.zeros((64, 64), np.bool_)
    box[24:40, 20:44] = True
    assert np.array_equal(points.any(axis=2), box)
    assert np.allclose(points[box][:, 2], 0.28, atol=1e-5)  # the third axis is depth, a tenth of the unit
    assert points[30, 40, 0] > 0 > points[30, 22, 0]


def _extra_class(root: Path) -> None:
    (root / "gearbox").mkdir()


def _remove(path: str) -> Callable[[Path], None]:
    def remove(root: Path) -> None:
        target = root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return remove


def _add(path: str) -> Callable[[Path], None]:
    def add(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")

    return add


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("mvtec_ad", _extra_class, "extra class 'gearbox'.*classes="),
        ("mvtec_ad", _remove("bottle/ground_truth/broken_large/001_mask.png"), r"001_mask\.png is missing \(1 of 2"),
        ("mvtec_ad", _remove("bottle/ground_truth/broken_large"), "broken_large is no folder"),
        ("mvtec_ad", _add("bottle/ground_truth/broken_large/007_mask.png"), r"007_mask\.png belongs to no file"),
        ("mvtec_ad", _add("bottle/ground_truth/scratch/000_mask.png"), "extra folder 'scratch'"),
        ("mvtec_ad", _add("bottle/train/broken/000.png"), "extra folder 'broken'"),
        ("mvtec_ad", _add("bottle/test/good/notes.txt"), r"'notes\.txt'; only \.png"),
        ("mvtec_ad", _remove("bottle"), "no class folder"),
        ("mvtec_3d_ad", _extra_class, "extra class 'gearbox'"),
        ("mvtec_3d_ad", _remove("bagel/test/crack/gt/000.png"), r"gt/000\.png is missing"),
        ("mvtec_3d_ad", _remove("bagel/test/crack/gt"), "crack/gt is no folder"),
        ("mvtec_3d_ad", _remove("bagel/test/good/gt/000.png"), "has no .png file|is missing"),
        ("mvtec_3d_ad", _remove("bagel/train/good/xyz/001.tiff"), r"001\.tiff is missing"),
        ("mvtec_3d_ad", _remove("bagel/validation"), "validation is no folder"),
        ("mvtec_3d_ad", _add("bagel/train/crack/rgb/000.png"), "defect folder 'crack'"),
        ("eyecandies", _extra_class, "extra class 'gearbox'"),
        ("eyecandies", _remove("CandyCane/test_public/data/01_mask.png"), r"01_mask\.png is missing"),
        ("eyecandies", _remove("CandyCane/test_public/data/01_dents_mask.png"), r"01_dents_mask\.png is missing"),
        ("eyecandies", _remove("CandyCane/train/data/001_pose.txt"), r"001_pose\.txt is missing"),
        ("eyecandies", _add("CandyCane/test/data/0.png"), "extra folder 'test'"),
    ],
)
def test_what_does_not_belong_is_named(
    name: str, spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    root: Path = getattr(trees, name)(tmp_path)
    assert dataset(name).load(root)
    spoil(root)
    with pytest.raises(ValueError, match=message):
        dataset(name).load(root)


def test_classes_can_be_chosen_and_may_be_ones_own(tmp_path: Path) -> None:
    trees.mvtec_ad(trees.mvtec_ad(tmp_path), "gearbox")
    assert {item.program for item in mvtec_ad.load(tmp_path, ("gearbox",))} == {"gearbox"}
    with pytest.raises(ValueError, match="class 'wood' was asked for"):
        mvtec_ad.load(tmp_path, ("wood",))


def test_files_of_the_wrong_kind_are_named_when_read(tmp_path: Path) -> None:
    item = mvtec_3d_ad.load(trees.mvtec_3d_ad(tmp_path / "3d"))[0]
    assert item.xyz is not None
    item.xyz.write_bytes(trees.write_png(tmp_path / "grey.png", trees.blob()).read_bytes())
    with pytest.raises(ValueError, match=r"000\.tiff: uint8 \(12, 16\), not float points"):
        item.read_xyz()
    item.xyz.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be decoded"):
        item.read_xyz()
    candy = eyecandies.load(trees.eyecandies(tmp_path / "candies"))[0]
    with pytest.raises(ValueError, match="has no xyz"):
        candy.read_xyz()
    candy.others["info_depth"].write_text("normalization:\n  max: 4.5\n")
    with pytest.raises(ValueError, match="numbers min and max"):
        eyecandies.read_depth(candy)
    candy.others["info_depth"].write_text("normalization: {max: 4.5, min: 2.5}\n")
    assert eyecandies.read_depth(candy).max() == pytest.approx(4.5)


def test_the_table_names_what_it_knows() -> None:
    with pytest.raises(ValueError, match="no data set 'cifar'; known data sets: battery_weld, eyecandies"):
        dataset("cifar")
    assert [name for name, row in DATASETS.items() if row.seen] == ["battery_weld"]
    with pytest.raises(ValueError, match="split 'val' is unknown"):
        of_split([], "val")
