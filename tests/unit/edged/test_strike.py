"""Strikes in sound and light against a known arc-on."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Chunk, ClockParams
from edged.strike import ignition_ns, strike_residual_ms
from tests.support.cell import BRIGHT, DARK, audio_spec, camera_spec, stream_chunks, t, welder_spec


def sound(onset_s: float, hiss_from_s: float, hiss: float, seed: int) -> list[Chunk]:
    """Noise from 1 to 3 s: hiss of the gas from `hiss_from_s`, loud from `onset_s`."""
    rng = np.random.default_rng(seed)
    at_s = 1 + np.arange(16000) / 8000
    level = np.where(at_s >= onset_s, 4000.0, np.where(at_s >= hiss_from_s, hiss, 30.0))
    data = (rng.standard_normal(16000) * level).clip(-32768, 32767).astype(np.int16)[:, None]
    clock = ClockParams(0, t(1.0), 125_000.0)
    return [Chunk("mic", k, 160 * k, 0, 0, data[160 * k : 160 * k + 160], clock) for k in range(100)]


@given(lag_ms=st.floats(-150, 150), hiss=st.sampled_from([30.0, 400.0, 1000.0]), seed=st.integers(0, 99))
def test_sound_onset_is_found_under_hiss(lag_ms: float, hiss: float, seed: int) -> None:
    chunks = sound(2.0 + lag_ms / 1000, 1.0, hiss, seed)
    assert strike_residual_ms(audio_spec(), chunks, t(2.0)) == pytest.approx(lag_ms, abs=1.5)


def test_sound_without_an_onset_has_no_strike() -> None:
    assert strike_residual_ms(audio_spec(), sound(9.0, 9.0, 0.0, 1), t(2.0)) is None
    assert strike_residual_ms(audio_spec(), [], t(2.0)) is None


@pytest.mark.parametrize("on_s", [2.0, 2.011, 2.022, 2.0333])
def test_light_is_right_to_half_a_frame(on_s: float) -> None:
    spec = camera_spec("arc_camera")
    found = strike_residual_ms(spec, list(stream_chunks(spec, [(on_s, 4.0)], 1.5, 3.0)), t(on_s))
    assert found is not None
    assert abs(found) <= 1000 / 30 / 2 + 1e-6


@pytest.mark.parametrize("into_s", [0.001, 0.005, 0.012, 0.017, 0.020, 0.030])
def test_a_partly_exposed_frame_tells_when_the_arc_was_struck(into_s: float) -> None:
    exposure_s, period_s, on_s = 0.018, 1 / 30, 2.0 + into_s
    spec = dataclasses.replace(camera_spec("arc_camera"), exposure_ms=1e3 * exposure_s)
    plain = list(stream_chunks(camera_spec("arc_camera"), [(on_s, 4.0)], 1.5, 3.0))
    frames = []
    for chunk in plain:
        lit = np.clip(1 - (t(on_s) - chunk.t_ns) / (1e9 * exposure_s), 0, 1)
        frames.append(dataclasses.replace(chunk, data=grey(10 + 190 * float(lit))))
    found = strike_residual_ms(spec, frames, t(on_s))
    assert found is not None
    # Within the exposure it is sharp; between two exposures nobody can know better than half the dark time.
    assert abs(found) <= 1e3 * (period_s - exposure_s) / 2 + 1.0


def grey(level: float) -> np.ndarray:
    import cv2

    ok, data = cv2.imencode(".jpg", np.full((48, 64), round(level), np.uint8))
    assert ok
    return data.ravel()


def test_light_of_a_shifted_camera_is_seen() -> None:
    spec = camera_spec("arc_camera")
    late = [
        dataclasses.replace(chunk, clock=dataclasses.replace(chunk.clock, t0_ns=chunk.clock.t0_ns + 100_000_000))
        for chunk in stream_chunks(spec, [(2.0, 4.0)], 1.5, 3.0)
        if chunk.clock is not None
    ]
    assert strike_residual_ms(spec, late, t(2.0)) == pytest.approx(100.0, abs=17.0)


@pytest.mark.parametrize("image", [DARK, BRIGHT, np.frombuffer(b"no jpeg", np.uint8)])
def test_light_that_does_not_change_has_no_strike(image: np.ndarray) -> None:
    spec = camera_spec("arc_camera")
    same = [dataclasses.replace(chunk, data=image) for chunk in stream_chunks(spec, [(2.0, 4.0)], 1.5, 3.0)]
    assert strike_residual_ms(spec, same, t(2.0)) is None


def test_kinds_without_a_strike() -> None:
    spec = dataclasses.replace(audio_spec(), kind="motion")
    assert strike_residual_ms(spec, sound(2.0, 1.0, 30.0, 1), t(2.0)) is None


@pytest.mark.parametrize("first_s", [0.07, 0.1, 0.15])
def test_a_second_strike_within_the_search_is_not_taken_for_the_first(first_s: float) -> None:
    """A failed start of little light and sound, then the arc itself: only what lies before its end is looked at."""
    on, off = 2.0, 2.0 + first_s
    rng = np.random.default_rng(1)
    at_s = 1 + np.arange(16000) / 8000
    level = np.where(at_s >= off + 0.05, 8000.0, np.where((at_s >= on) & (at_s < off), 300.0, 30.0))
    data = (rng.standard_normal(16000) * level).clip(-32768, 32767).astype(np.int16)[:, None]
    clock = ClockParams(0, t(1.0), 125_000.0)
    heard = [Chunk("mic", k, 160 * k, 0, 0, data[160 * k : 160 * k + 160], clock) for k in range(100)]
    assert strike_residual_ms(audio_spec(), heard, t(on)) > 1e3 * first_s, "without the end it would be"
    assert strike_residual_ms(audio_spec(), heard, t(on), t(off)) == pytest.approx(0.0, abs=1.5)
    spec = camera_spec("arc_camera")
    seen = [
        dataclasses.replace(c, data=grey(60 if on <= s < off else 200 if s >= off + 0.05 else 10))
        for c in stream_chunks(spec, [(on, 4.0)], 1.5, 3.0)
        if (s := (c.t_ns - t(0.0)) / 1e9) is not None
    ]
    assert strike_residual_ms(spec, seen, t(on), t(off)) == pytest.approx(0.0, abs=17.0)


def test_an_arc_too_short_to_be_seen_has_no_strike() -> None:
    assert strike_residual_ms(audio_spec(), sound(2.0, 1.0, 30.0, 1), t(2.0), t(2.01)) is None


def test_light_is_held_against_the_end_of_the_first_short_circuit() -> None:
    spec = welder_spec(rate_hz=10_000.0)
    n = 2_000
    at_ms = (np.arange(n) - 1_000) / 10
    volts = np.where(at_ms < 0, 30.0, np.where(at_ms < 6, 3.0, 22.0))
    volts[(at_ms >= 2.0) & (at_ms < 2.3)] = 20.0  # the touch bounces
    raw = np.stack([np.where(at_ms < 0, 0, 1800), volts * 100], axis=1).astype(np.int16)
    chunk = Chunk("welder", 0, 0, 0, 0, raw, ClockParams(1_000, t(2.0), 100_000.0))
    assert ignition_ns(spec, [chunk], t(2.0)) == t(2.006)
    assert ignition_ns(spec, [], t(2.0)) == t(2.0)
    assert ignition_ns(dataclasses.replace(spec, channels=("current", "wire")), [chunk], t(2.0)) == t(2.0)


def test_with_a_rolling_shutter_the_rows_of_the_arc_tell() -> None:
    """Arc in the lowest quarter of the image, exposed 9 ms after the first row: a strike at 8 ms fills its rows."""
    import cv2

    spec = dataclasses.replace(camera_spec("arc_camera"), exposure_ms=18.0, readout_ms=12.0)
    frames = []
    for k in range(12):
        t_ms, image = (k - 6) * 33.3, np.full((160, 64), 10, np.uint8)
        rows = t_ms + 12 * (np.arange(160) + 0.5) / 160
        lit = np.clip((rows + 6 - 8.0) / 6, 0, 1) * (np.arange(160) >= 120)
        image += (150 * lit).astype(np.uint8)[:, None]
        clock = ClockParams(k, t(2.0) + round(t_ms * 1e6), 33_300_000.0)
        frames.append(Chunk("arc_camera", k, k, 0, 0, cv2.imencode(".jpg", image)[1].ravel(), clock))
    found = strike_residual_ms(spec, frames, t(2.0))
    assert found is not None
    # Before the arc's rows opened at 9 to 12 ms, after they had closed in the frame before.
    assert found == pytest.approx((10.5 + 10.5 - 33.3 + 6) / 2, abs=1.5)
