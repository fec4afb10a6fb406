"""A rendered seam as chunks: complete, in order, synchronous, and like what the real drivers give."""

import dataclasses
import itertools

import numpy as np
import pytest

from drivers.base import Chunk
from drivers.sim.arc_camera import EXPOSURE_MS
from drivers.sim.chunks import GRID_NS, MOTION_OPTIONS, WELDER_OPTIONS, seam_chunks, seam_end_ns, stream_specs
from drivers.sim.plan import plan_seams
from drivers.sim.render import render_seam
from drivers.sim.rendered_file import load_rendered, plans_from_json, plans_to_json, save_rendered
from drivers.sim.scanner import (
    PROFILER_OPTIONS,
    RUN_ON_S,
    SCAN_HZ,
    SCAN_S,
    SCAN_SETTLE_S,
    SCAN_VIEW,
    scan_rows,
)
from drivers.sim.seam import IMAGE_PRESETS, RenderedSeam
from drivers.table import create_driver

START_NS = 12_300_000_000
SMALL = IMAGE_PRESETS["small"]


@pytest.fixture(scope="module")
def rendered() -> RenderedSeam:
    return render_seam(plan_seams(4, seed=3, family="both")[1], SMALL)


def split(events):
    chunks: dict[str, list[Chunk]] = {}
    messages = []
    for at, event in events:
        if isinstance(event, Chunk):
            assert at == event.arrival_ns
            chunks.setdefault(event.stream, []).append(event)
        else:
            messages.append((at, event))
    return chunks, messages


@pytest.fixture(scope="module")
def parts(rendered: RenderedSeam):
    return split(seam_chunks(rendered, START_NS, np.random.default_rng(0)))


def test_nothing_of_the_seam_is_missing_or_changed(rendered: RenderedSeam, parts) -> None:
    chunks, _ = parts
    for name, items in (("welder", rendered.welder), ("mic", rendered.audio), ("motion", rendered.motion)):
        joined = np.concatenate([c.data for c in chunks[name]])
        assert joined.dtype == items.dtype
        assert np.array_equal(joined[: len(items)], items)
    assert tuple(c.data.tobytes() for c in chunks["arccam"])[: len(rendered.frames)] == rendered.frames


def test_streams_are_synchronous_to_the_sample_and_last_until_the_end(rendered: RenderedSeam, parts) -> None:
    chunks, _ = parts
    end_ns = seam_end_ns(rendered, START_NS)
    assert end_ns % GRID_NS == 0
    for name in ("welder", "mic", "motion"):
        assert chunks[name][0].t_ns == START_NS
        assert chunks[name][-1].end_ns == end_ns
    # A frame of the arc camera comes when it has been exposed and read out, and is stamped with its start.
    for name, before_ns in (("arccam", round(EXPOSURE_MS * 1e6)), ("resultcam", 0)):
        assert 0 <= chunks[name][0].t_ns + before_ns - START_NS < 50_000_000
        assert abs(chunks[name][-1].end_ns + before_ns - end_ns) < 50_000_000


def test_chunks_come_in_order_numbered_late_and_without_gaps(rendered: RenderedSeam) -> None:
    events = list(seam_chunks(rendered, START_NS, np.random.default_rng(0), stamped=False))
    assert [at for at, _ in events] == sorted(at for at, _ in events)
    chunks, _ = split(events)
    for name, stream in chunks.items():
        assert [c.seq for c in stream] == list(range(stream[0].seq, stream[0].seq + len(stream)))
        assert all(a.counter + a.n == b.counter for a, b in itertools.pairwise(stream)), name
        assert all(c.clock is None and c.lost_before == 0 for c in stream)
    stamped, _ = split(seam_chunks(rendered, START_NS, np.random.default_rng(0)))
    late = [c.arrival_ns - c.end_ns for name in ("welder", "mic", "motion") for c in stamped[name]]
    assert min(late) >= -1
    assert 0 < np.median(late) < 2_000_000


def test_the_next_seam_goes_on_where_this_one_ended(rendered: RenderedSeam, parts) -> None:
    chunks, _ = parts
    after, _ = split(seam_chunks(rendered, seam_end_ns(rendered, START_NS), np.random.default_rng(1)))
    for name, stream in chunks.items():
        assert after[name][0].seq == stream[-1].seq + 1
        assert after[name][0].counter == stream[-1].counter + stream[-1].n


def test_the_plc_speaks_in_time_and_the_camera_shows_what_it_asks_for(rendered: RenderedSeam, parts) -> None:
    chunks, messages = parts
    assert [m["op"] for _, m in messages] == ["part", "expect", "end_part", *["view"] * len(rendered.views)]
    arc_on_ns = START_NS + round(rendered.lead_s * 1e9)
    arc_off_ns = arc_on_ns + round(rendered.arc_s * 1e9)
    assert messages[1][0] < arc_on_ns
    for at, message in messages:
        if message["op"] == "view":
            assert at > arc_off_ns
            image = next(c for c in chunks["resultcam"] if c.t_ns >= at + 150_000_000)
            assert image.data.tobytes() == rendered.views[message["view"]]
    assert chunks["resultcam"][0].data.tobytes() not in rendered.views.values()


def test_with_a_profiler_the_bead_lies_in_the_scan_and_plate_around_it(rendered: RenderedSeam) -> None:
    chunks, messages = split(seam_chunks(rendered, START_NS, np.random.default_rng(0), profiler=True))
    at, message = messages[-1]
    assert (message["op"], message["view"]) == ("view", SCAN_VIEW)
    from_ns = at + round(SCAN_SETTLE_S * 1e9)
    laser = chunks["profiler"]
    assert laser[0].t_ns == START_NS
    assert laser[-1].end_ns == seam_end_ns(rendered, START_NS, profiler=True) >= from_ns + round(SCAN_S * 1e9)
    rows = np.concatenate([c.data for c in laser if from_ns <= c.t_ns < from_ns + round(SCAN_S * 1e9)])
    bead = scan_rows(rendered)
    assert bead.shape == rendered.profile.shape
    begin = round(RUN_ON_S * SCAN_HZ)
    np.testing.assert_array_equal(rows[begin : begin + len(bead)], bead)
    around = np.concatenate([rows[:begin], rows[begin + len(bead) :]])
    assert len(around) > 2 * begin
    assert np.abs(around).max() < 0.2 < np.nanmax(bead)
    seen = ~np.isnan(bead)
    np.testing.assert_array_equal(bead[seen], rendered.profile[seen])
    assert 0.9 < seen.mean() < 1


def test_without_a_profiler_nothing_is_different(rendered: RenderedSeam, parts) -> None:
    with_laser, _ = split(seam_chunks(rendered, START_NS, np.random.default_rng(0), profiler=True))
    assert set(with_laser) - set(parts[0]) == {"profiler"}
    assert seam_end_ns(rendered, START_NS) < seam_end_ns(rendered, START_NS, profiler=True)


def test_a_start_off_the_grid_is_refused(rendered: RenderedSeam) -> None:
    with pytest.raises(ValueError, match="multiple of 100000000"):
        seam_chunks(rendered, START_NS + 1, np.random.default_rng(0))


def test_specs_are_those_of_the_real_drivers(rendered: RenderedSeam) -> None:
    real = (
        create_driver("welder.serial", "welder", {"port": "x", **WELDER_OPTIONS}),
        create_driver("microphone.portaudio", "mic", {}),
        create_driver("camera.opencv", "arccam", {"source": "x"}),
        create_driver("camera.opencv", "resultcam", {"source": "x", "kind": "result", "rate_hz": 10.0}),
        create_driver("motion.csv_serial", "motion", {"port": "x", **MOTION_OPTIONS}),
    )
    laser = create_driver("profile.csv_serial", "profiler", {"port": "x", **PROFILER_OPTIONS})
    specs = stream_specs(SMALL)
    assert stream_specs(SMALL, profiler=True) == (*specs, laser.spec)
    # How long a frame is exposed no camera driver knows; the cell's configuration says it.
    assert [spec.exposure_ms for spec in specs] == [0.0, 0.0, EXPOSURE_MS, 0.0, 0.0]
    assert tuple(dataclasses.replace(spec, exposure_ms=0.0, readout_ms=0.0) for spec in specs) == tuple(
        driver.spec for driver in real
    )
    by_name = {spec.name: spec for spec in specs}
    assert by_name["welder"].scale == rendered.welder_scale
    assert by_name["welder"].rate_hz == rendered.welder_hz
    assert by_name["mic"].rate_hz == rendered.audio_hz
    assert by_name["motion"].rate_hz == rendered.motion_hz
    assert by_name["motion"].dtype == rendered.motion.dtype


def test_a_rendered_seam_survives_its_file(rendered: RenderedSeam, tmp_path) -> None:
    save_rendered(tmp_path / "a.npz", rendered)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    loaded = load_rendered(tmp_path / "a.npz")
    for field in dataclasses.fields(RenderedSeam):
        a, b = getattr(rendered, field.name), getattr(loaded, field.name)
        assert np.array_equal(a, b) and a.dtype == b.dtype if isinstance(a, np.ndarray) else a == b, field.name


def test_plans_survive_json() -> None:
    plans = plan_seams(12, seed=5)
    assert plans_from_json(plans_to_json(plans)) == plans
