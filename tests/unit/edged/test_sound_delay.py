"""A microphone's measured delay: taken off its stamps, noted in recordings, held against the configured distance."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.files import CalibrationSet
from edged.cell_calibration import CellCalibration
from edged.sound_delay import delay_warnings, measured_delays_ms, with_measured_delays
from tests.support.calibrations import VALUES, made
from tests.support.cell import config

sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))

MS = 1_000_000


class Waiting:
    """A stream that has not begun; keeps what it was told."""

    delay_ns: int | None = None

    def use_delay(self, delay_ns: int) -> None:
        self.delay_ns = delay_ns


def calibrated(**values: Any) -> CellCalibration:
    return CellCalibration(CalibrationSet.of([made("microphone", "mic", values={**VALUES["microphone"], **values})]))


def cell(**mic: Any) -> Any:
    streams = {
        "welder": {"driver": "welder.serial", "kind": "welder"},
        "mic": {"driver": "microphone.portaudio", "kind": "audio", **mic},
    }
    return config({"fillet": {"views": []}}, streams=streams, views={})


def test_the_measured_delay_stands_before_the_configured_one_and_is_noted() -> None:
    streams = {name: Waiting() for name in ("welder", "mic")}
    found = calibrated(delay_ms=9.5, latency_ms=8.0, distance_m=0.5)
    noted = with_measured_delays(cell(latency_ms=3.0, distance_m=0.6), found, streams)
    assert (streams["mic"].delay_ns, streams["welder"].delay_ns) == (9_500_000, None)
    assert noted.calibration_id == found.calibration_id
    assert CellCalibration.from_content(noted.content(), "here").delays_ms == {"mic": 9.5}
    assert "delays_ms" not in found.content()


def test_without_a_measured_delay_the_configuration_stays() -> None:
    streams = {name: Waiting() for name in ("welder", "mic")}
    for found in (CellCalibration(), calibrated(), calibrated(delay_ms=None)):
        assert with_measured_delays(cell(), found, streams) == found
        assert streams["mic"].delay_ns is None
    assert measured_delays_ms(cell(), calibrated(delay_ms=-0.2)) == {"mic": 0.0}


@pytest.mark.parametrize(
    ("mic", "values", "warns"),
    [
        ({"distance_m": 1.2}, {"delay_ms": 1.3, "distance_m": 0.45}, True),
        ({"distance_m": 0.7}, {"delay_ms": 1.3, "distance_m": 0.45}, False),
        ({}, {"delay_ms": 1.3, "distance_m": 0.45}, False),
        # A sound card's 20 ms: known from the tape to the calibration alone, or to the configuration alone.
        ({"distance_m": 0.5}, {"delay_ms": 21.3, "latency_ms": 20.0, "distance_m": 0.45}, False),
        ({"distance_m": 0.5, "latency_ms": 20.0}, {"delay_ms": 21.3, "distance_m": 7.3}, False),
        ({"distance_m": 0.5}, {"delay_ms": 21.3, "distance_m": 7.3}, True),
    ],
)
def test_a_distance_by_hand_that_is_another_is_warned_of(
    mic: dict[str, Any], values: dict[str, Any], warns: bool
) -> None:
    lines = delay_warnings(cell(**mic), calibrated(**values))
    assert len(lines) == warns
    if warns:
        assert f"streams.mic.distance_m says {mic['distance_m']:.2f} m" in lines[0]
        assert f"measured {values['distance_m']:.2f} m, which counts" in lines[0]


def test_a_stream_stamps_with_it_from_its_first_chunk_on() -> None:
    import threading

    from edged.config import StreamConfig
    from edged.stream import Stream

    chunks: list[tuple[int, int]] = []
    enough = threading.Event()

    def sink(chunk: Any) -> None:
        chunks.append((chunk.end_ns, chunk.arrival_ns))
        enough.set()

    made_of = StreamConfig(driver="counting_driver:Counting", kind="welder", latency_ms=3.0)
    stream = Stream("welder", made_of, sink)
    stream.use_delay(40 * MS)
    stream.start()
    assert enough.wait(10.0)
    with pytest.raises(RuntimeError, match="stream welder has begun"):
        stream.use_delay(0)
    assert stream.health().latency_ms == 40.0
    stream.stop()
    end_ns, arrival_ns = chunks[0]
    assert np.isclose(arrival_ns - end_ns, 40 * MS, atol=1.5 * MS)
