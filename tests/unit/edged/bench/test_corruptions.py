"""Each corruption changes what it says and nothing else, the same every time; folders of different ones never mix."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.base import Chunk
from drivers.mcap_codec import RecordingReader
from drivers.sim.plan import plan_seams
from drivers.sim.render import render_seam
from drivers.sim.seam import IMAGE_PRESETS, RenderedSeam
from edged.bench.detection.corruptions import CORRUPTIONS, corrupted, welder_spread
from edged.manifest import FEATURES_DATA
from edged.recording import recordings
from edged.simulate import session_names_of
from edged.simulated_folder import simulated_folder
from edged.simulated_seam import Bulk, simulate_seam
from pipelines.features.frames import decode_rgb
from pipelines.features.result import seam_strip

TOUCHED: Mapping[str, frozenset[str]] = {
    "sensor_noise": frozenset({"welder"}),
    "sensor_dropout": frozenset({"welder"}),
    "time_shift": frozenset({"audio", "frames"}),
    "photo_blur": frozenset({"views"}),
    "scan_holes": frozenset({"profile"}),
    "misregistration": frozenset({"views", "profile"}),
    "muted_microphone": frozenset({"audio"}),
    "dark_camera": frozenset({"frames"}),
}


@pytest.fixture(scope="module")
def seam() -> RenderedSeam:
    (plan,) = plan_seams(1, 11, "good", ["short-butt-3"], sessions=session_names_of(11, 1))
    return render_seam(plan, IMAGE_PRESETS["small"])


def same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else (
        np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)
    )  # fmt: skip


def changed(a: RenderedSeam, b: RenderedSeam) -> frozenset[str]:
    names = (field.name for field in dataclasses.fields(RenderedSeam))
    return frozenset(name for name in names if not same(getattr(a, name), getattr(b, name)))


def strip(seam: RenderedSeam) -> np.ndarray[Any, Any]:
    found, located = seam_strip(decode_rgb(np.frombuffer(seam.views["top"], np.uint8)))
    assert located
    return found.astype(np.float64)


def test_every_corruption_is_listed_here() -> None:
    assert set(TOUCHED) == set(CORRUPTIONS)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_changes_its_own_streams_only_and_does_so_again(seam: RenderedSeam, name: str) -> None:
    for level in CORRUPTIONS[name].levels:
        once, again = corrupted(seam, name, level), corrupted(seam, name, level)
        assert changed(seam, once) == TOUCHED[name]
        assert changed(once, again) == frozenset()
    assert corrupted(seam, name, 0.0) is seam


def test_noise_is_of_the_asked_share_of_the_spread_and_leaves_the_pauses_alone(seam: RenderedSeam) -> None:
    off = (corrupted(seam, "sensor_noise", 0.3).welder.astype(float) - seam.welder) * seam.welder_scale
    first, last = (round(s * seam.welder_hz) for s in (seam.lead_s, seam.lead_s + seam.arc_s))
    expected = 0.3 * np.array(welder_spread("short-butt-3"))
    np.testing.assert_allclose(off[first:last, :2].std(0), expected, rtol=0.03)
    assert np.abs(off[first:last, :2].mean(0) / expected).max() < 0.02
    assert not off[:first].any()
    assert not off[last:].any()
    assert not off[:, 2].any()
    # Levels share their draws, so a curve over them is of one noise that grows.
    half = (corrupted(seam, "sensor_noise", 0.15).welder.astype(float) - seam.welder) * seam.welder_scale
    assert np.corrcoef(half[first:last, 0], off[first:last, 0])[0, 1] > 0.999


def test_the_spread_is_that_of_good_seams_of_the_program(seam: RenderedSeam) -> None:
    first, last = (round(s * seam.welder_hz) for s in (seam.lead_s, seam.lead_s + seam.arc_s))
    one = (seam.welder[first:last, :2] * np.array(seam.welder_scale[:2])).std(0)
    np.testing.assert_allclose(one, welder_spread("short-butt-3"), rtol=0.25)


def test_held_samples_are_the_share_asked_for(seam: RenderedSeam) -> None:
    rows = corrupted(seam, "sensor_dropout", 0.5).welder
    before = np.mean((np.diff(seam.welder.astype(int), axis=0) == 0).all(1))
    held = np.mean((np.diff(rows.astype(int), axis=0) == 0).all(1))
    assert abs(held - (0.5 + 0.5 * before)) < 0.02


def test_a_shift_moves_the_sound_by_the_time_asked_for(seam: RenderedSeam) -> None:
    moved = corrupted(seam, "time_shift", 100.0)
    lag = round(0.1 * seam.audio_hz)
    assert any(np.array_equal(moved.audio[lag:-lag], np.roll(seam.audio, k * lag, 0)[lag:-lag]) for k in (-1, 1))
    assert any(moved.frames == tuple(np.roll(np.array(seam.frames, object), k)) for k in (-3, 3))


def test_blur_takes_detail_and_keeps_the_markers_to_be_found(seam: RenderedSeam) -> None:
    detail = [
        np.abs(np.diff(strip(corrupted(seam, "photo_blur", level)), axis=1)).mean() for level in (0.0, 1.0, 2.0)
    ]
    assert detail[0] > 1.3 * detail[1] > 1.3 * detail[2]


def test_holes_are_patches_of_the_share_asked_for(seam: RenderedSeam) -> None:
    gone = np.isnan(corrupted(seam, "scan_holes", 0.3).profile)
    assert 0.3 <= gone.mean() < 0.33
    alone = gone[1:-1] & ~gone[:-2] & ~gone[2:]
    assert not alone.any()


def test_misregistration_moves_the_bead_against_its_markers(seam: RenderedSeam) -> None:
    import cv2

    moved = corrupted(seam, "misregistration", 4.0)
    was, now = (cv2.cvtColor(strip(s).astype(np.uint8), cv2.COLOR_RGB2GRAY) for s in (seam, moved))
    inner = (slice(20, -20), slice(60, -60))
    (dx, dy), _ = cv2.phaseCorrelate(was[inner].astype(np.float64), now[inner].astype(np.float64))
    # 4 px of the photograph: 0.375 mm, in a strip of 896 px over 57.8 mm and 224 px over 24 mm.
    assert abs(abs(dx) - 4 * 90 / 960 * 896 / 57.76) < 1.0
    assert abs(abs(dy) - 4 * 90 / 960 * 224 / 24.0) < 1.0
    inside = (slice(8, -8), slice(8, -8))
    shifts = [np.roll(seam.profile, (a, b), (0, 1))[inside] for a in (-4, 4) for b in (-4, 4)]
    assert any(np.array_equal(moved.profile[inside], shift) for shift in shifts)


def test_a_muted_microphone_still_gives_its_last_bit_so_that_it_does_not_look_like_a_gap(seam: RenderedSeam) -> None:
    audio = corrupted(seam, "muted_microphone", 1.0).audio
    assert set(np.unique(audio)) == {-1, 0, 1}
    part = corrupted(seam, "muted_microphone", 0.3).audio
    assert abs(np.mean(part != seam.audio) - 0.3) < 0.02


def test_a_dark_camera_gives_black_pictures_of_the_same_size(seam: RenderedSeam) -> None:
    frames = corrupted(seam, "dark_camera", 0.3).frames
    black = [new for new, old in zip(frames, seam.frames, strict=True) if new != old]
    assert abs(len(black) / len(frames) - 0.3) < 0.02
    picture = decode_rgb(np.frombuffer(black[0], np.uint8))
    assert picture.shape == decode_rgb(np.frombuffer(seam.frames[0], np.uint8)).shape
    assert picture.max() == 0


@pytest.mark.slow
def test_bulk_seams_at_level_0_are_clean_to_the_byte_and_others_differ_in_their_stream(
    tmp_path: Path,
) -> None:
    (plan,) = plan_seams(1, 11, "good", ["short-butt-3"], sessions=session_names_of(11, 1))
    data = {}
    for corruption in (None, ("muted_microphone", 0.0), ("muted_microphone", 1.0)):
        folder = tmp_path / str(corruption)
        folder.mkdir()
        simulate_seam(plan, Bulk(corruption=corruption), folder)
        (path,) = recordings(folder)
        data[corruption] = path.read_bytes(), streams_of(path)
    assert data[None][0] == data["muted_microphone", 0.0][0]
    clean, muted = data[None][1], data["muted_microphone", 1.0][1]
    assert {name for name in clean if clean[name] != muted[name]} == {"mic"}
    assert len(clean) >= 5


def streams_of(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for event in RecordingReader(path).events():
        if isinstance(event, Chunk):
            found[event.stream] = found.get(event.stream, b"") + event.data.tobytes()
    return found


@pytest.mark.parametrize(("name", "level"), [("rust", 0.1), ("sensor_noise", -0.1), ("sensor_dropout", 1.2)])
def test_what_cannot_be_is_refused_before_anything_is_rendered(name: str, level: float) -> None:
    with pytest.raises(ValueError, match=name):
        Bulk(corruption=(name, level)).check()


def test_folders_say_what_was_done_to_their_seams_and_clean_ones_say_nothing(tmp_path: Path) -> None:
    bulks = [Bulk(), Bulk(corruption=("sensor_noise", 0.1)), Bulk(corruption=("sensor_noise", 0.2))]
    assert len({str(bulk.about()) for bulk in bulks}) == 3
    assert "corruption" not in bulks[0].about()
    for made, asked in ((bulks[0], bulks[1]), (bulks[1], bulks[0])):
        folder = tmp_path / str(made.corruption)
        with simulated_folder(folder, FEATURES_DATA, made.about()):
            pass
        refused = pytest.raises(ValueError, match=r"corruption is .*sensor_noise 0\.1")
        with refused, simulated_folder(folder, FEATURES_DATA, asked.about()):
            pass
