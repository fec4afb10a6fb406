"""Tiny trees in the exact folder layouts of the public data sets, written without the package's own code."""

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def write_png(path: Path, array: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)
    return path


def write_float_tiff(path: Path, array: NDArray[np.float32]) -> Path:
    """(H, W, 3) as an uncompressed float TIFF, byte for byte as TIFF 6.0 says: x before y before z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, channels = array.shape
    pixels = array.astype("<f4").tobytes()
    # (tag, type, count, value): 3 = SHORT, 4 = LONG; three SHORTs do not fit and lie behind the directory.
    extra = 8 + 2 + 12 * 11 + 4
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, extra), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, extra + 12), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(pixels))),
        *((284, 3, 1, 1), (339, 3, 3, extra + 6)),
    ]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    path.write_bytes(head + directory + struct.pack("<I6H", 0, 32, 32, 32, 3, 3, 3) + pixels)
    return path


def blob(height: int = 12, width: int = 16) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    mask[3:6, 4:9] = 255
    return mask


def grey(seed: int, height: int = 12, width: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 200, (height, width, 3), dtype=np.uint8)


def mvtec_ad(root: Path, name: str = "bottle") -> Path:
    """Two training images, one good and two broken test images."""
    for index in range(2):
        write_png(root / name / "train/good" / f"{index:03d}.png", grey(index))
        write_png(root / name / "test/broken_large" / f"{index:03d}.png", grey(10 + index))
        write_png(root / name / "ground_truth/broken_large" / f"{index:03d}_mask.png", blob())
    write_png(root / name / "test/good/000.png", grey(20))
    return root


def scan(height: int = 60, width: int = 80, lump_m: float = 0.02) -> NDArray[np.float32]:
    """Points 1 mm apart, metres: a tilted plate with a round lump in the middle, a small block aside and a hole."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    x, y = 0.001 * (columns + 1), 0.001 * (rows + 1)
    z = 0.5 + 0.1 * x
    away = np.hypot(rows - height / 2, columns - width / 2)
    z[away < 12] -= lump_m
    z[12:18, 12:18] -= 0.05
    points = np.stack([x, y, z], axis=-1).astype(np.float32)
    points[40, 60] = 0
    return points


def mvtec_3d_ad(root: Path, name: str = "bagel") -> Path:
    """Two training scans, one of validation, one good and one cracked test scan."""
    wanted = {"train/good": 2, "validation/good": 1, "test/good": 1, "test/crack": 1}
    for folder, count in wanted.items():
        for index in range(count):
            write_png(root / name / folder / "rgb" / f"{index:03d}.png", grey(index, 60, 80))
            write_float_tiff(root / name / folder / "xyz" / f"{index:03d}.tiff", scan())
            if folder.startswith("test"):
                mask = blob(60, 80) if folder.endswith("crack") else np.zeros((60, 80), np.uint8)
                write_png(root / name / folder / "gt" / f"{index:03d}.png", mask)
    return root


def eyecandies(root: Path, name: str = "CandyCane") -> Path:
    """Two train, one val, two test_public (the second dented) and one unlabelled sample."""
    wanted = {"train": ("000", "001"), "val": ("000",), "test_public": ("00", "01"), "test_private": ("000",)}
    for split, numbers in wanted.items():
        for number in numbers:
            start = root / name / split / "data" / number
            for light in range(6):
                write_png(Path(f"{start}_image_{light}.png"), grey(light))
            counts = np.linspace(0, 65535, 12 * 16).reshape(12, 16).astype(np.uint16)
            write_png(Path(f"{start}_depth.png"), counts)
            write_png(Path(f"{start}_normals.png"), grey(9))
            Path(f"{start}_info_depth.yaml").write_text("normalization:\n  max: 4.5\n  min: 2.5e+0\n")
            Path(f"{start}_pose.txt").write_text("1 0 0 0.5\n0 -1 0 0.25\n0 0 -1 3\n0 0 0 1\n")
            if split != "test_private":
                dented = (split, number) == ("test_public", "01")
                empty = np.zeros((12, 16), np.uint8)
                write_png(Path(f"{start}_mask.png"), blob() if dented else empty)
                for kind in ("bumps", "dents", "colors", "normals"):
                    write_png(Path(f"{start}_{kind}_mask.png"), blob() if dented and kind == "dents" else empty)
    return root


def weld4m(root: Path, runs: dict[str, str]) -> Path:
    """`runs`: run id → session; each with log, sound and video files and two photographs, of no content."""
    for run, session in runs.items():
        folder = root / session / run
        (folder / "images").mkdir(parents=True)
        for ending in ("csv", "flac", "avi"):
            (folder / f"{run}.{ending}").write_bytes(b"")
        for index in range(2):
            write_png(folder / "images" / f"{index}.jpg", grey(index))
    return root


def battery_weld(root: Path) -> Path:
    """Weld 4-a is in train and test, 6-b in train only; one defective scan with a mask of the same name."""
    height = np.full((40, 60), 120, np.uint8)
    height[:, :20] = 0
    height[:, 20:30] = 90
    for name in ("train/good/4-a.png", "train/good/6-b_row0_3.png", "test/good/4-a_row0_1.png"):
        write_png(root / name, height)
    write_png(root / "test/defective/5-r1_row256_7.png", height)
    write_png(root / "ground_truth/defective/5-r1_row256_7.png", blob(40, 60))
    return root
