"""Features lie on fixed grids: however the stream is cut, they are the same; and they mean what they say."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Chunk
from pipelines.features.extractor import ARRAYS, SeamExtractor, SeamFeatures, load_features, save_features
from pipelines.features.lite0 import FEATURES
from pipelines.features.logmel import AUDIO_FEATURES, MELS, AudioTokens, mel_filters
from pipelines.features.sensor import SENSOR_FEATURES
from tests.support import seam_chunks as cell
from tests.support.backbone import TinyBackbone

ARC_S = 1.5
MELS_AT = slice(FEATURES, FEATURES + MELS)


def features(chunks: list[Chunk], arc_s: float = ARC_S) -> SeamFeatures:
    extractor = SeamExtractor(cell.seam(), cell.STREAMS, TinyBackbone())
    for chunk in chunks:
        extractor.push(chunk)
    return extractor.finish(cell.window(np.random.default_rng(1), arc_s))


CHUNKS = cell.seam_chunks(np.random.default_rng(0), ARC_S)
WHOLE = features([c for stream in CHUNKS.values() for c in stream])


def assert_same(a: SeamFeatures, b: SeamFeatures) -> None:
    for field in ARRAYS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)
    for name, view in a.views.items():
        for part in ("fine", "coarse", "profile"):
            np.testing.assert_array_equal(getattr(view, part), getattr(b.views[name], part))
        assert view.located == b.views[name].located
    assert a.sensed == b.sensed


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_features_do_not_depend_on_the_cut(data: st.DataObject) -> None:
    pieces: list[Chunk] = list(CHUNKS["camera"])
    for stream in ("welder", "motion", "microphone"):
        (chunk,) = CHUNKS[stream]
        cuts = sorted(data.draw(st.sets(st.integers(1, chunk.n - 1), max_size=8)))
        pieces += [chunk.cut(a, b) for a, b in zip([0, *cuts], [*cuts, chunk.n], strict=True)]
    pieces.sort(key=lambda c: c.t_ns)
    assert_same(features(pieces), WHOLE)


def test_the_chunks_of_a_millisecond_give_the_same() -> None:
    pieces = list(CHUNKS["camera"])
    for stream, n in (("welder", 10), ("motion", 1), ("microphone", 480)):
        (chunk,) = CHUNKS[stream]
        pieces += [chunk.cut(a, min(a + n, chunk.n)) for a in range(0, chunk.n, n)]
    pieces.sort(key=lambda c: c.t_ns)
    assert_same(features(pieces), WHOLE)


def test_sensor_statistics_are_physical() -> None:
    column = {name: WHOLE.sensor[10:-10, i] for i, name in enumerate(SENSOR_FEATURES)}
    assert WHOLE.sensor.shape == (150, len(SENSOR_FEATURES))
    assert WHOLE.sensor_known.all()
    assert column["current_mean"].mean() == pytest.approx(150.0, abs=1.0)
    assert column["current_std"].mean() < 2.0  # 10 A of white noise on every sample are the sensor's, not the arc's
    assert WHOLE.sensed["current_noise_a"] == pytest.approx(10.0, rel=0.1)
    assert column["short_circuit"].mean() == pytest.approx(0.1, abs=0.01)
    assert column["voltage_min"].max() <= 19.0
    assert column["power_mean"].mean() == pytest.approx(150.0 * 17.5, rel=0.02)
    assert column["wire_feed_speed"].mean() == pytest.approx(4.0, abs=1e-3)
    assert column["gas_flow"].mean() == pytest.approx(14.0, abs=1.0)


def test_a_slow_log_is_held() -> None:
    flow = WHOLE.sensor[:, SENSOR_FEATURES.index("gas_flow")]
    changes = np.flatnonzero(np.diff(flow))
    assert 10 <= len(changes) <= 14  # 9 Hz over 1.5 s
    assert np.diff(changes).min() >= 11


def test_a_missing_stream_is_masked_and_named_by_its_absence() -> None:
    found = features([*CHUNKS["welder"], *CHUNKS["motion"]])
    assert not found.audio_known.any()
    assert not found.video_known.any()
    assert found.kinds == {"welder", "result"}


def test_a_gap_in_the_sound_does_not_shift_what_follows() -> None:
    (chunk,) = CHUNKS["microphone"]
    first, second = chunk.cut(0, 30_000), dataclasses.replace(chunk.cut(40_000, chunk.n), lost_before=10_000)
    gapped = features([first, second])
    whole = features([chunk])
    # The gap lies 0.325–0.533 s after arc-on; tokens that end before or start well after it are unchanged.
    np.testing.assert_array_equal(gapped.audio[7:13], whole.audio[7:13])
    assert np.all(gapped.audio[4, MELS_AT].astype(float) < -95)
    assert gapped.audio_known.tolist() == [k not in (3, 4) for k in range(15)]  # most of these two was lost
    assert not np.array_equal(gapped.audio[3], whole.audio[3])


def test_a_tone_stands_in_its_band() -> None:
    t = np.arange(48_000) / 48_000
    tone = (0.5 * 32767 * np.sin(2 * np.pi * 2000 * t)).astype(np.int16)[:, None]
    clock = cell.ClockParams(0, cell.ON_NS, cell.MICROPHONE.dt_ns)
    audio = AudioTokens(cell.MICROPHONE, cell.ON_NS, TinyBackbone())
    audio.push(Chunk("microphone", 0, 0, 0, 0, tone, clock))
    tokens, known = audio.get(0, 7)
    assert known.all()
    assert tokens.shape == (7, AUDIO_FEATURES)
    band = int(tokens[3, MELS_AT].argmax())
    centre_hz = float(mel_filters()[band] @ (np.arange(257) * 31.25))
    assert centre_hz == pytest.approx(2000, abs=80)
    # Amplitude 0.5 in one bin: 20 log10(0.25) less the share of the filter that this bin holds.
    assert -24 < tokens[3, 1280 + band] < -12


def test_a_torn_frame_is_replaced_by_the_next() -> None:
    frames = list(CHUNKS["camera"])
    torn = [dataclasses.replace(f, data=f.data[:20]) if i == 9 else f for i, f in enumerate(frames)]
    assert features(torn).video_known.all()
    assert not np.array_equal(features(torn).video[0], WHOLE.video[0])


def test_an_arc_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter than one token"):
        features([*CHUNKS["welder"]], arc_s=0.05)


def test_features_survive_the_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_features(WHOLE, tmp_path / "a.safetensors")
    found = load_features(tmp_path / "a.safetensors")
    assert_same(found, WHOLE)
    assert (found.program, found.session, found.travel_speed_mm_s) == ("p1", "s1", 6.0)
