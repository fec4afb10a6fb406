"""The profile `intel`: averages, band limit, missing video and late photographs, against plain definitions."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from drivers.base import Chunk
from drivers.sim.intel import (
    LOG_HZ,
    NO_VIDEO_SHARE,
    PHOTOS_AFTER_S,
    SOUND_HZ,
    has_video,
    intel_chunks,
    intel_specs,
    log_rows,
    photos_after_s,
    sound_at_16_khz,
)
from drivers.sim.plan import good_twin, plan_seams
from drivers.sim.render import render_seam
from drivers.sim.seam import IMAGE_PRESETS, RenderedSeam, SeamPlan

SMALL = IMAGE_PRESETS["small"]
START_NS = 60_000_000_000
PLAN = SeamPlan(0, "short-butt-3", "session-00", 3)


@pytest.fixture(scope="module")
def rendered() -> RenderedSeam:
    return render_seam(PLAN, SMALL)


def split(events: Iterable[tuple[int, Chunk | dict[str, Any]]]) -> tuple[dict[str, list[Chunk]], list[Any]]:
    chunks: dict[str, list[Chunk]] = {}
    messages = []
    for at_ns, item in events:
        if isinstance(item, Chunk):
            assert item.arrival_ns == at_ns
            chunks.setdefault(item.stream, []).append(item)
        else:
            messages.append((at_ns, item))
    return chunks, messages


@pytest.mark.parametrize("rate_hz", [10_000.0, 100.0, 90.0])
def test_a_row_is_the_exact_mean_of_all_items_of_its_ninth_of_a_second(rate_hz: float) -> None:
    items = np.random.default_rng(0).integers(-30_000, 30_000, (round(2.35 * rate_hz), 2)).astype(np.int16)
    rows = log_rows(items, rate_hz)
    assert len(rows) == 21  # 2.35 s hold 21 whole rows
    belongs_to = (np.arange(len(items)) * 9) // round(rate_hz)
    for number, row in enumerate(rows):
        inside = items[belongs_to == number]
        assert abs(len(inside) - rate_hz / 9) < 1
        assert row.tolist() == [sum(column.tolist()) / len(column) for column in inside.T]


def test_the_log_averages_what_the_cells_sampler_saw_and_starts_each_row_with_its_own_time(
    rendered: RenderedSeam,
) -> None:
    chunks, _ = split(intel_chunks(rendered, START_NS, np.random.default_rng(0)))
    log = chunks["welder"]
    assert all(chunk.n == 1 and chunk.data.dtype == np.float32 for chunk in log)
    assert [chunk.t_ns for chunk in log[:4]] == [START_NS + round(k * 1e9 / 9) for k in range(4)]
    assert all(chunk.arrival_ns >= chunk.end_ns for chunk in log)
    raw = rendered.welder * np.asarray(rendered.welder_scale)
    row = 20
    inside = raw[(np.arange(len(raw)) * 9) // 10_000 == row]
    np.testing.assert_allclose(log[row].data[0], inside.mean(axis=0), rtol=1e-6)
    burning = np.concatenate([chunk.data for chunk in log])[10:40, 0]
    # An average of short circuits is calm, a decimated sample is not.
    assert burning.std() < 0.5 * raw[11_111:44_444, 0].std()


def test_sound_above_8_khz_is_gone_and_below_it_is_kept() -> None:
    t_s = np.arange(48_000) / 48_000.0

    def power(hz: float) -> float:
        tone = (10_000 * np.sin(2 * np.pi * hz * t_s)).astype(np.int16)[:, np.newaxis]
        heard = sound_at_16_khz(tone, 48_000.0)
        assert heard.shape == (16_000, 1)
        return float(np.mean(np.square(heard[1000:-1000].astype(np.float64)))) / 10_000**2 * 2

    assert power(1_000.0) == pytest.approx(1.0, abs=0.02)
    assert power(6_000.0) == pytest.approx(1.0, abs=0.05)
    # Decimation without a filter would show them at 6 kHz and 2 kHz at full power.
    assert power(10_000.0) < 1e-4
    assert power(18_000.0) < 1e-4


def test_photographs_come_tens_of_seconds_late_after_their_triggers_and_all_else_is_off_meanwhile(
    rendered: RenderedSeam,
) -> None:
    views = dict.fromkeys(("top", "left", "start"), rendered.views["top"])
    chunks, messages = split(
        intel_chunks(dataclasses.replace(rendered, views=views), START_NS, np.random.default_rng(0))
    )
    arc_off_ns = START_NS + round((rendered.lead_s + rendered.arc_s) * 1e9)
    triggers = [at_ns for at_ns, message in messages if message["op"] == "view"]
    assert [m["view"] for _, m in messages if m["op"] == "view"] == list(views)
    low_s, high_s = PHOTOS_AFTER_S
    assert low_s <= (triggers[0] - arc_off_ns) / 1e9 <= high_s
    photos = chunks["resultcam"]
    assert len(photos) == 3
    for photo, at_ns, next_ns in zip(photos, triggers, [*triggers[1:], 2**62], strict=True):
        assert at_ns + 150_000_000 < photo.t_ns < next_ns
        assert bytes(photo.data) == rendered.views["top"]
    others = [chunk.end_ns for name, of in chunks.items() if name != "resultcam" for chunk in of]
    assert arc_off_ns + 2_000_000_000 < max(others) < arc_off_ns + 3_000_000_000


def test_the_stated_share_of_seams_has_no_video_whatever_their_fault() -> None:
    plans = plan_seams(3000, 1, "mix")
    share = np.mean([not has_video(plan) for plan in plans])
    assert abs(share - NO_VIDEO_SHARE) < 4 * np.sqrt(NO_VIDEO_SHARE * (1 - NO_VIDEO_SHARE) / 3000)
    assert all(has_video(plan) == has_video(good_twin(plan)) for plan in plans[:200])
    late_s = [photos_after_s(plan) for plan in plans]
    assert np.ptp(late_s) > 20


def test_streams_are_what_the_specs_say_and_a_seam_without_video_gives_no_frame(rendered: RenderedSeam) -> None:
    specs = {spec.name: spec for spec in intel_specs(SMALL)}
    assert (specs["welder"].rate_hz, specs["mic"].rate_hz) == (LOG_HZ, SOUND_HZ) == (9.0, 16_000.0)
    chunks, _ = split(intel_chunks(rendered, START_NS, np.random.default_rng(0)))
    for name, of in chunks.items():
        spec = specs[name]
        if not spec.encoded:
            assert all(c.data.shape[1:] == spec.shape and c.data.dtype == spec.dtype for c in of), name
            assert all(b.counter == a.counter + a.n and b.seq == a.seq + 1 for a, b in itertools.pairwise(of))
    blind = next(plan for plan in plan_seams(50, 1, "good", ["short-butt-3"]) if not has_video(plan))
    assert has_video(PLAN)
    assert set(chunks) == set(specs)
    unseen, _ = split(intel_chunks(dataclasses.replace(rendered, plan=blind), START_NS, np.random.default_rng(0)))
    assert set(unseen) == set(specs) - {"arccam"}


def test_a_start_between_two_rows_of_the_log_is_refused(rendered: RenderedSeam) -> None:
    with pytest.raises(ValueError, match="multiple"):
        intel_chunks(rendered, START_NS + 100_000_000, np.random.default_rng(0))
