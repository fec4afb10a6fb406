"""`edged calibrate board|camera|views|profile` through real files: what they write, and how they refuse."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner

from calibration.boards import parse_board
from calibration.files import read_calibration
from calibration.kinds import CameraValues, ProfileValues, ViewValues
from edged.calibrate.app import calibrate_app
from edged.calibrate.pictures import camera_pictures
from edged.config import load_config
from tests.support.board_camera import TrueCamera, photograph
from tests.support.board_pictures import hand_held, pictures
from tests.support.marked_plate import PX_PER_MM, plate, stations

CHARUCO = parse_board("charuco:7x5:20mm")
CAMERA = TrueCamera()
VIEW_CAMERA = TrueCamera(960, 400, 1130.0, 1126.0, 492.0, 193.0, (-0.12, 0.04, 0.0004, -0.0006))
LAYOUT = "marker_mm = 6\n[markers]\n0 = [-12, -10]\n1 = [52, -10]\n2 = [52, 10]\n3 = [-12, 10]\n"


def edged(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(calibrate_app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def board_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    for name, picture in pictures(CAMERA, CHARUCO, hand_held(CHARUCO, 12, 1), 1):
        assert picture is not None
        cv2.imwrite(str(folder / name), picture)
    cv2.imwrite(str(folder / "mirror.png"), np.ascontiguousarray(picture[:, ::-1]))
    (folder / "notes.txt").write_text("the lens is locked")
    return folder


@pytest.fixture(scope="module")
def view_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view")
    for k, pose in enumerate(stations(5, 20.0, 0.0)):
        cv2.imwrite(str(folder / f"{k}.png"), photograph(VIEW_CAMERA, plate(), 1 / PX_PER_MM, pose, k))
    (folder / "layout.toml").write_text(LAYOUT, encoding="utf-8")
    return folder


def test_a_camera_is_written_and_what_was_not_used_is_said(board_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    options = ("--images", board_folder, "--board", "charuco:7x5:20mm", "--directory", tmp_path, "--json", out)
    code, told = edged("camera", "resultcam", *options)
    assert code == 0, told
    assert "mirror.png: the board is mirrored" in told
    values = read_calibration(tmp_path / "camera-resultcam.toml").checked
    assert isinstance(values, CameraValues)
    assert values.fx == pytest.approx(CAMERA.fx, rel=0.004)
    assert values.image_px == (640, 480)
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [item["name"] for item in report["rejected"]] == ["mirror.png"]
    assert len(report["views"]) == 12


def test_a_dry_run_writes_nothing(board_folder: Path, tmp_path: Path) -> None:
    options = ("--images", board_folder, "--board", "charuco:7x5:20mm", "--directory", tmp_path, "--dry-run")
    assert edged("camera", "resultcam", *options)[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_the_wrong_board_ends_with_2_and_names_the_right_one(board_folder: Path, tmp_path: Path) -> None:
    options = ("--images", board_folder, "--board", "charuco:8x6:20mm", "--directory", tmp_path)
    code, told = edged("camera", "resultcam", *options)
    assert code == 2
    assert "they fit charuco:7x5:20mm" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--board", "charuco:7x5:20mm"), "either --images FOLDER or --config FILE"),
        (("--board", "seven:7x5:20mm", "--images", "."), "is not understood"),
        (("--board", "charuco:7x5:20mm", "--images", "/nowhere"), "is no folder"),
    ],
)
def test_bad_arguments_end_with_2(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    code, said = edged("camera", "resultcam", "--directory", tmp_path, *options)
    assert code == 2
    assert told in said


def camera_config(folder: Path, tmp_path: Path) -> Path:
    """A cell whose camera plays the pictures of a folder."""
    raw = {
        "streams": {
            "welder": {"driver": "welder.serial", "kind": "welder", "options": {"port": "/dev/null"}},
            "resultcam": {
                "driver": "camera.folder",
                "kind": "result",
                "options": {"path": str(folder), "rate_hz": 50.0, "kind": "result"},
            },
        }
    }
    path = tmp_path / "edged.toml"
    path.write_text(tomli_w.dumps(raw), encoding="utf-8")
    return path


def test_a_running_camera_gives_its_pictures(board_folder: Path, tmp_path: Path) -> None:
    config = load_config(camera_config(board_folder, tmp_path))
    found = list(camera_pictures(config, "resultcam", 4, every_s=0.0))
    assert [name for name, _ in found] == [f"picture {k}" for k in (1, 2, 3, 4)]
    assert all(picture is not None and picture.shape == (480, 640) for _, picture in found)


def test_a_camera_that_is_not_there_is_named(board_folder: Path, tmp_path: Path) -> None:
    config = camera_config(board_folder, tmp_path)
    code, told = edged("camera", "nocam", "--config", config, "--board", "charuco:7x5:20mm", "--directory", tmp_path)
    assert code == 2
    assert "'nocam' is no camera of the configuration; it has resultcam" in told


def test_a_view_is_written(view_folder: Path, tmp_path: Path) -> None:
    options = ("--layout", view_folder / "layout.toml", "--seam-mm", 40, "--directory", tmp_path)
    code, told = edged("views", "top", "--images", view_folder, *options)
    assert code == 0, told
    values = read_calibration(tmp_path / "views-top.toml").checked
    assert isinstance(values, ViewValues)
    assert values.steady is not None
    assert values.px_per_mm == pytest.approx(VIEW_CAMERA.fy / 118 * np.cos(np.radians(20)), rel=0.1)


def test_a_view_with_a_camera_of_another_size_is_refused(
    board_folder: Path, view_folder: Path, tmp_path: Path
) -> None:
    options = ("--images", board_folder, "--board", "charuco:7x5:20mm", "--directory", tmp_path)
    assert edged("camera", "resultcam", *options)[0] == 0
    options = ("--layout", view_folder / "layout.toml", "--seam-mm", 40, "--directory", tmp_path)
    camera = ("--camera", tmp_path / "camera-resultcam.toml")
    code, told = edged("views", "top", "--images", view_folder, *options, *camera)
    assert code == 2
    assert "is 960×400 px, the camera was calibrated with pictures of 640×480" in told


def test_a_layout_that_does_not_fit_is_refused(view_folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "layout.toml"
    wrong.write_text(LAYOUT.replace("[52, 10]", "[50, 10]"), encoding="utf-8")
    options = ("--layout", wrong, "--seam-mm", 40, "--directory", tmp_path)
    code, told = edged("views", "top", "--images", view_folder, *options)
    assert code == 2
    assert "marker 2 stands" in told


def gauge_file(folder: Path, heights: tuple[float, ...], noise_mm: float = 0.01) -> Path:
    line = np.asarray(heights)[(np.arange(60) * len(heights)) // 60] / 0.99
    rng = np.random.default_rng(1)
    rows = [",".join(f"{h:.3f}" for h in line + noise_mm * rng.standard_normal(60)) for _ in range(20)]
    path = folder / "gauge.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_profilers_heights_are_written(tmp_path: Path) -> None:
    options = ("--half-width-mm", 12, "--gauge", gauge_file(tmp_path, (0.0, 1.0, 2.0, 5.0)), "--directory", tmp_path)
    code, told = edged("profile", "profiler", *options, "--steps", "0,1,2,5")
    assert code == 0, told
    values = read_calibration(tmp_path / "profile-profiler.toml").checked
    assert isinstance(values, ProfileValues)
    assert values.scale == pytest.approx(0.99, abs=0.003)
    assert (values.points, values.programs) == (60, {})
    options = ("--half-width-mm", 10, "--gauge", tmp_path / "gauge.csv", "--directory", tmp_path)
    code, told = edged("profile", "profiler", *options, "--steps", "0,1,2,5")
    assert code == 2, "rows of another width are of another set-up"
    assert "was measured with --half-width-mm 12" in told


def test_steps_that_do_not_fit_end_with_1_and_write_nothing(tmp_path: Path) -> None:
    options = ("--half-width-mm", 12, "--gauge", gauge_file(tmp_path, (0.0, 1.0, 2.0, 5.0)), "--directory", tmp_path)
    code, told = edged("profile", "profiler", *options, "--steps", "0,1,2.4,5")
    assert code == 1
    assert "not written" in told
    assert not (tmp_path / "profile-profiler.toml").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "give --gauge FILE, --recording FILE, or both"),
        (("--gauge", "/nowhere.csv"), "cannot be read"),
        (("--gauge", "GAUGE", "--steps", "0,one"), "give heights in mm"),
        (("--recording", "/nowhere"), "needs --program NAME"),
    ],
)
def test_what_a_profiler_lacks_is_named(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    gauge = gauge_file(tmp_path, (0.0, 1.0))
    given = [str(gauge) if option == "GAUGE" else option for option in options]
    code, said = edged("profile", "profiler", "--half-width-mm", 12, "--directory", tmp_path, *given)
    assert code == 2
    assert told in said


def test_a_board_is_drawn(tmp_path: Path) -> None:
    assert edged("board", "--out", tmp_path / "b.png", "--board", "chessboard:10x7:20mm")[0] == 0
    picture = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert cv2.findChessboardCornersSB(cv2.resize(picture, None, fx=0.3, fy=0.3), (9, 6))[0]
    assert edged("board", "--out", tmp_path / "none" / "b.png")[0] == 2
