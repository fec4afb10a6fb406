"""Microphone, arc camera and result camera: each fault is named, a sound sensor is not."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, StreamSpec
from edged.sensor_audio import AudioMeter
from edged.sensor_report import SensorReport
from edged.sensor_video import STILL_PX, VideoMeter, spot_share
from edged.sensor_views import view_reports
from pipelines.window import ResultView
from tests.support.cell import S, audio_spec, camera_spec

Image = NDArray[np.uint8]
ON_NS = S // 2
ARC = ((ON_NS, ON_NS + 2 * S),)
AUDIO = audio_spec(rate_hz=16_000.0)


def found(report: SensorReport) -> dict[str, str]:
    return {problem.code: problem.state for problem in report.problems}


def heard(
    floor: float = 30.0,
    level: float = 3000.0,
    change: Callable[[NDArray[np.float64]], None] | None = None,
    gap_s: float = 0.5,
) -> SensorReport:
    """Half a second of floor (`gap_s` of it are seen), two seconds of arc and 0.3 s of floor; counts RMS."""
    t_s = np.arange(round(2.8 * AUDIO.rate_hz)) / AUDIO.rate_hz
    sigma = np.where((t_s >= 0.5) & (t_s < 2.5), level, floor)
    samples = sigma * np.random.default_rng(1).standard_normal(len(t_s))
    if change is not None:
        change(samples)
    data = np.clip(np.rint(samples), -32768, 32767).astype(np.int16)[:, None]
    meter = AudioMeter(AUDIO, ON_NS, ON_NS)
    for seq, start in enumerate(range(round((0.5 - gap_s) * AUDIO.rate_hz), len(data), 480)):
        meter.add(Chunk("mic", seq, start, 0, 0, data[start : start + 480], ClockParams(0, 0, 1e9 / AUDIO.rate_hz)))
    return meter.report(ARC)


def muted(samples: NDArray[np.float64]) -> None:
    samples[16_000:24_000] = np.random.default_rng(2).integers(-1, 2, 8000)


def test_a_sound_microphone() -> None:
    report = heard()
    assert found(report) == {}
    assert report.figures["level"].value == pytest.approx(20 * np.log10(3000 / 32767), abs=0.2)
    assert report.figures["noise_floor"].value == pytest.approx(20 * np.log10(30 / 32767), abs=0.5)


def test_faults_of_a_microphone() -> None:
    assert found(heard(change=muted)) == {"silent": "fault"}
    assert found(heard(level=30_000.0)) == {"clipped": "fault"}
    assert found(heard(level=11_500.0)) == {"clipped": "warning"}
    assert found(heard(floor=2600.0)) == {"deaf": "fault"}


def test_a_quiet_arc_is_a_weld_and_no_deaf_microphone() -> None:
    """One without drops is some 5 dB louder than the gas before it; a microphone that is off hears no rise."""
    assert found(heard(floor=76.0, level=137.0)) == {}
    assert found(heard(floor=76.0, level=80.0)) == {"deaf": "fault"}


@pytest.mark.parametrize("gap_s", [0.35, 0.45])
def test_a_former_arc_is_not_the_silence_before_this_one(gap_s: float) -> None:
    """The window begins where the arc before ended, and its echoes lie in it."""

    def after_another(samples: NDArray[np.float64]) -> None:
        begins = round((0.5 - gap_s) * AUDIO.rate_hz)
        echo = np.arange(round(0.2 * AUDIO.rate_hz))
        samples[begins : begins + len(echo)] *= 100 * np.exp(-echo / (0.1 * AUDIO.rate_hz))

    assert found(heard(level=100.0, change=after_another, gap_s=gap_s)) == {}


def test_distance_shows_in_the_level_alone() -> None:
    near, far = heard(), heard(level=1500.0)
    assert far.figures["level"].value - near.figures["level"].value == pytest.approx(-6.0, abs=0.1)
    assert found(far) == {}


def scene(k: int, shift: int = 0, spots: int = 0) -> Image:
    """A lit plate that moves, an arc that stands, spots on the glass that do not move."""
    rng = np.random.default_rng(k)
    yy, xx = np.mgrid[0:240, 0:384]
    r2 = (xx - 210 - shift) ** 2 + (yy - 150) ** 2
    light = 60 + 15 * np.sin(xx / 9 + k * 1.7) + rng.normal(0, 2, xx.shape) + 400 * np.exp(-r2 / 300)
    for x, y in np.random.default_rng(7).uniform(20, 220, (spots, 2)):
        light *= 1 - 0.5 * np.exp(-((((xx - 1.5 * x) ** 2 + (yy - y) ** 2) / 36) ** 2))
    return np.asarray(np.clip(light, 0, 255), np.uint8)


def jpeg(image: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.imencode(".jpg", image)[1], np.uint8).reshape(-1)


def seen(picture: Callable[[int], NDArray[np.uint8]]) -> SensorReport:
    """Ten pictures a second, two seconds of arc."""
    spec = camera_spec("arc", rate_hz=10.0)
    meter = VideoMeter(spec, ON_NS)
    for k in range(28):
        t_ns = k * S // 10
        data = picture(k) if 5 <= k < 25 else jpeg(np.full((240, 384), 5, np.uint8))
        meter.add(Chunk("arc", k, k, t_ns, 0, data, ClockParams(k, t_ns, 1e8)))
    return meter.report(ARC)


def test_a_sound_arc_camera() -> None:
    report = seen(lambda k: jpeg(scene(k)))
    assert found(report) == {}
    assert report.still is not None
    assert report.still.shape == (STILL_PX[1], STILL_PX[0])
    assert report.figures["place_x"].value == pytest.approx(100 * 210 / 384, abs=0.5)


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (lambda k: jpeg(scene(3)), "frozen"),
        (lambda k: jpeg((scene(k) * 0.1).astype(np.uint8)), "dark"),
        (lambda k: jpeg(np.random.default_rng(k).integers(251, 256, (240, 384)).astype(np.uint8)), "overexposed"),
        (lambda k: np.random.default_rng(k).integers(0, 255, 500).astype(np.uint8), "unreadable"),
    ],
)
def test_faults_of_an_arc_camera(picture: Callable[[int], NDArray[np.uint8]], code: str) -> None:
    assert found(seen(picture)) == {code: "fault"}


def test_a_moved_camera_moves_the_arc() -> None:
    still, moved = seen(lambda k: jpeg(scene(k))), seen(lambda k: jpeg(scene(k, shift=12)))
    change = moved.figures["place_x"].value - still.figures["place_x"].value
    assert change == pytest.approx(100 * 12 / 384, abs=0.3)


def test_spots_that_stand_still_are_spatter_and_the_scene_is_not() -> None:
    def still(first: int, spots: int) -> Image | None:
        return seen(lambda k: jpeg(scene(k + first, spots=spots))).still

    reference = still(0, 0)
    clean = [still(100 * n, 0) for n in range(1, 4)]
    dirty = [still(100 * n, 30) for n in range(1, 4)]
    assert reference is not None
    assert spot_share([(image, reference) for image in clean if image is not None]) < 0.005
    assert spot_share([(image, reference) for image in dirty if image is not None]) > 0.02


def view(shift: int = 0, light: float = 1.0) -> NDArray[np.uint8]:
    """A grey plate with four markers on white paper."""
    image = np.full((320, 960), 120, np.uint8)
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    for marker, (x, y) in enumerate([(100, 40), (800, 40), (800, 220), (100, 220)]):
        image[y - 10 : y + 70, x + shift - 10 : x + shift + 70] = 230
        image[y : y + 60, x + shift : x + shift + 60] = cv2.aruco.generateImageMarker(dictionary, marker, 60)
    return jpeg((image * light).astype(np.uint8))


def looked(data: NDArray[np.uint8]) -> SensorReport:
    return view_reports({"top": ResultView("top", "resultcam", 0, data)})["resultcam"]


def test_markers_tell_where_the_result_camera_stands() -> None:
    here, there = looked(view()), looked(view(shift=24))
    assert here.figures["top_x"].code == "moved"
    assert there.figures["top_x"].value - here.figures["top_x"].value == pytest.approx(2.5, abs=0.1)
    assert there.figures["top_size"].value == pytest.approx(here.figures["top_size"].value, abs=0.05)


def test_views_without_markers_black_ones_and_none() -> None:
    plain = looked(jpeg(np.full((320, 960), 120, np.uint8)))
    assert set(plain.figures) == {"top_brightness"}
    assert found(looked(jpeg(np.zeros((320, 960), np.uint8)))) == {"dark": "fault"}
    assert found(looked(np.full(100, 3, np.uint8))) == {"unreadable": "fault"}


def test_too_little_of_an_arc_says_nothing() -> None:
    spec = StreamSpec("mic", "audio", 16_000.0, (1,), "int16", ("mono",))
    assert AudioMeter(spec, ON_NS).report(ARC).problems == ()
    assert VideoMeter(camera_spec("arc"), ON_NS).report(ARC).problems == ()
