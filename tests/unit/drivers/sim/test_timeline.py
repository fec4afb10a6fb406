"""The virtual cell's common time base: what each stream shows at each index, and when it is due."""

import threading
import time

import numpy as np

from drivers.sim.timeline import FrameTrack, Pacer, SampleTrack, idle_like


def test_a_seam_lies_over_the_idle_signal_and_is_forgotten_after_it() -> None:
    track = SampleTrack(100.0, np.array([[0], [1], [2]], np.int16))
    track.add(5, np.array([[50], [51], [52]], np.int16))
    assert track.take(3, 4)[:, 0].tolist() == [0, 1, 50, 51]
    assert track.take(7, 3)[:, 0].tolist() == [52, 2, 0]
    assert track.take(5, 3)[:, 0].tolist() == [50, 51, 52]
    track.take(100, 1)
    assert track.take(5, 3)[:, 0].tolist() == [2, 0, 1]


def test_blocks_cut_anywhere_join_to_the_same_signal() -> None:
    rng = np.random.default_rng(0)
    items = rng.integers(-99, 99, (37, 2)).astype(np.int16)

    def track() -> SampleTrack:
        made = SampleTrack(10.0, np.zeros((7, 2), np.int16))
        made.add(11, items)
        return made

    whole = track().take(0, 60)
    cut = track()
    assert np.array_equal(np.concatenate([cut.take(first, 6) for first in range(0, 60, 6)]), whole)
    assert np.array_equal(whole[11:48], items)


def test_frames_show_the_seam_and_idle_elsewhere() -> None:
    track = FrameTrack(30.0, b"dark")
    track.add(2, (b"a", b"b"))
    assert [track.take(i) for i in range(5)] == [b"dark", b"dark", b"a", b"b", b"dark"]


def test_idle_signal_has_the_level_and_spread_of_the_quiet_sensor() -> None:
    rng = np.random.default_rng(1)
    quiet = np.rint(rng.normal([200, -5], [30, 2], (500, 2))).astype(np.int16)
    idle = idle_like(quiet, 5000, rng)
    assert idle.dtype == np.int16
    assert np.allclose(idle.mean(axis=0), quiet.mean(axis=0), atol=3)
    assert np.allclose(idle.std(axis=0), quiet.std(axis=0), rtol=0.1)


class StutteringClock:
    """Time passes only while sleeping, and once the process is held up for 0.3 s."""

    def __init__(self) -> None:
        self._now_ns = 7_000
        self._sleeps = 0

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, t_ns: int) -> None:
        time.sleep(0)  # lets the test's own thread in
        self._sleeps += 1
        self._now_ns = max(self._now_ns, t_ns) + (300_000_000 if self._sleeps == 20 else 0)


def test_every_item_is_due_on_one_line_and_a_late_pacer_catches_up() -> None:
    clock, done = StutteringClock(), threading.Event()
    pacer = Pacer(clock)
    calls: dict[str, list[tuple[int, int]]] = {"samples": [], "frames": []}

    def note(name: str, n: int):
        def deliver(first: int) -> None:
            if len(calls[name]) < n:
                calls[name].append((first, clock.now_ns() - pacer.t0_ns))
            elif all(len(c) >= 100 for c in calls.values()):
                done.set()

        return deliver

    pacer.add(1000.0, 10, note("samples", 100))
    pacer.add(30.0, 1, note("frames", 100), at_end=False)
    pacer.start()
    assert done.wait(60)
    pacer.close()
    for name, due in (("samples", lambda f: (f + 10) * 1_000_000), ("frames", lambda f: f * 1e9 / 30)):
        late = [at - due(first) for first, at in calls[name]]
        assert min(late) >= -1
        assert max(late) > 100_000_000
        assert max(late[-40:]) < 2, "the pacer drifted"
    assert [first for first, _ in calls["samples"]] == list(range(0, 1000, 10))
    assert pacer.worst_late_ns >= 290_000_000
