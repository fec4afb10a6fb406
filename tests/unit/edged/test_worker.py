"""The worker with real processes: scores, killed, hung, overloaded, without a model, orphaned."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from drivers.base import Chunk, ClockParams, ManualClock, StreamSpec
from edged.scoring import ScoreReply
from edged.worker import WorkerSettings
from edged.worker_client import WorkerClient
from edged.worker_link import (
    LinkError,
    chunk_of,
    header_of,
    live_header,
    live_of,
    pack_header,
    push_frames,
    score_map,
    score_of,
    window_frames,
    window_of,
)
from pipelines.rectify import ViewGeometry
from pipelines.window import Gap, Integrity, ResultView, Seam, SeamFrame, SeamWindow
from tests.support.models import write_band_model
from tests.support.verdicts import a_point, a_score

SPEC = StreamSpec("w", "welder", 1000.0, (2,), "int16", ("current", "voltage"), ("A", "V"), (0.1, 0.01), (0.0, 0.0))
CLOCK = ClockParams(0, 0, 1e6)
PATIENCE_S = 30.0

Start = Callable[..., WorkerClient]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[WorkerClient] = []

    def make(models: dict[str, str] | None = None, **options: Any) -> WorkerClient:
        if models is None:
            models = {"T1": str(write_band_model(tmp_path / "model"))}
        settings = WorkerSettings(models=models, device="cpu", threads=1, cache_dir=tmp_path / "cache")
        made.append(client := WorkerClient(settings, tmp_path / "run", **options))
        return client

    yield make
    for client in made:
        client.close()


def _until(client: WorkerClient, done: Callable[[list[ScoreReply]], bool]) -> list[ScoreReply]:
    """Poll as the engine would until `done(replies so far)`."""
    replies: list[ScoreReply] = []
    end = time.monotonic() + PATIENCE_S
    while not done(replies):
        assert time.monotonic() < end, (replies, client.health())
        if client.socket is not None:
            client.socket.poll(20)
        replies += client.poll()
    return replies


def _ready(client: WorkerClient) -> None:
    _until(client, lambda _: client.state == "ready")


def _seam(seam_id: str, program: str = "T1") -> Seam:
    return Seam(seam_id, "cell", "t", program, 0)


def _begin(client: WorkerClient, seam_id: str, program: str = "T1") -> SeamWindow:
    """Begin a seam, push a second at 152 A and return what `finish` needs."""
    seam = _seam(seam_id, program)
    client.begin(seam, (SPEC,))
    raw = np.full((1000, 2), 1520, np.int16)
    for i in range(0, 1000, 100):
        client.push(seam_id, Chunk("w", i // 100, i, 0, 0, raw[i : i + 100], CLOCK))
    return SeamWindow(dataclasses.replace(seam, arcs=((0, 10**9),)), (SPEC,), {}, {})


def test_several_open_seams_are_scored(start: Start) -> None:
    client = start()
    first, second = _begin(client, "a"), _begin(client, "b")
    client.begin(_seam("c"), (SPEC,))
    client.drop("c")
    client.finish(second)
    client.finish(first)
    replies = _until(client, lambda replies: len(replies) == 2)
    assert [reply.seam_id for reply in replies] == ["b", "a"]
    for reply in replies:
        assert reply.score is not None
        assert reply.score.score == pytest.approx(0.5, abs=1e-3)
        assert {"worker_queue", "worker_push", "worker_finish", "push", "finish"} <= reply.score.stage_ms.keys()
    _until(client, lambda _: client.health()["queued_mb"] == 0)
    assert client.health()["open_seams"] == 0


def test_a_killed_worker_answers_for_its_seams_and_comes_back(start: Start) -> None:
    client = start()
    _ready(client)
    finished, burning = _begin(client, "finished"), _begin(client, "burning")
    os.kill(client.health()["pid"], signal.SIGSTOP)
    client.finish(finished)
    os.kill(client.health()["pid"], signal.SIGKILL)
    (reply,) = _until(client, lambda replies: len(replies) == 1)
    assert (reply.seam_id, reply.reason, reply.score) == ("finished", "worker_failed", None)
    assert "SIGKILL" in reply.detail
    client.push("burning", Chunk("w", 10, 1000, 0, 0, np.zeros((10, 2), np.int16), CLOCK))
    client.finish(burning)
    (reply,) = client.poll()
    assert (reply.seam_id, reply.reason) == ("burning", "worker_failed")
    _ready(client)
    assert client.restarts == 1
    client.finish(_begin(client, "after"))
    (reply,) = _until(client, lambda replies: len(replies) == 1)
    assert reply.score is not None


def _push_burning(client: WorkerClient, chunks: range) -> None:
    for i in chunks:
        client.push("burning", Chunk("w", i, 100 * i, 0, 0, np.zeros((100, 2), np.int16), CLOCK))


@pytest.mark.timeout(60)
def test_a_worker_that_dies_never_blocks_who_pushes(start: Start) -> None:
    """Between its death and the next `poll` the engine goes on pushing, and must not wait for a dead peer."""
    client = start()
    _ready(client)
    _begin(client, "burning")
    worker = psutil.Process(client.health()["pid"])
    worker.kill()
    wait_until = time.monotonic() + PATIENCE_S
    while worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < wait_until
    _push_burning(client, range(10, 2_000))
    _until(client, lambda _: client.restarts == 1)


@pytest.mark.timeout(60)
def test_a_worker_that_still_starts_never_blocks_who_pushes(start: Start) -> None:
    client = start()
    os.kill(client.health()["pid"], signal.SIGSTOP)
    window = _begin(client, "early")
    os.kill(client.health()["pid"], signal.SIGCONT)
    client.finish(window)
    (reply,) = _until(client, lambda replies: len(replies) == 1)
    assert reply.score is not None


def test_a_seam_begun_while_the_worker_is_down_is_answered(start: Start) -> None:
    client = start()
    _ready(client)
    os.kill(client.health()["pid"], signal.SIGKILL)
    _until(client, lambda _: client.state == "restarting")
    window = _begin(client, "s")
    _ready(client)
    client.finish(window)
    (reply,) = client.poll()
    assert reply.reason == "worker_failed"


def test_a_hung_worker_is_killed_in_time(start: Start) -> None:
    client = start(finish_timeout_s=1.0)
    _ready(client)
    pid = client.health()["pid"]
    os.kill(pid, signal.SIGSTOP)
    client.finish(_begin(client, "s"))
    (reply,) = _until(client, lambda replies: len(replies) == 1)
    assert reply.reason == "worker_failed"
    assert "no score within 1 s" in reply.detail
    _ready(client)
    _until(client, lambda _: not psutil.pid_exists(pid))


def _still_loading(start: Start, clock: ManualClock) -> tuple[WorkerClient, list[SeamWindow]]:
    """A worker stopped while it loads, and two seams that have been asked for meanwhile."""
    client = start(finish_timeout_s=5.0, start_timeout_s=60.0, clock=clock)
    os.kill(client.health()["pid"], signal.SIGSTOP)
    windows = [_begin(client, seam_id) for seam_id in ("old", "new")]
    for window in windows:
        client.finish(window)
        clock.advance_ns(10_000_000_000)
    return client, windows


def test_seams_that_wait_for_a_loading_worker_are_scored_oldest_first(start: Start) -> None:
    clock = ManualClock()
    client, _ = _still_loading(start, clock)
    clock.advance_ns(30_000_000_000)
    assert client.poll() == []
    assert (client.state, client.health()["waiting_seams"]) == ("loading", 2)
    os.kill(client.health()["pid"], signal.SIGCONT)
    replies = _until(client, lambda replies: len(replies) == 2)
    assert [(reply.seam_id, reply.reason) for reply in replies] == [("old", None), ("new", None)]
    assert client.restarts == 0


def test_a_worker_that_loads_too_long_is_left_alone_and_its_seams_are_answered(start: Start) -> None:
    clock = ManualClock()
    client, _ = _still_loading(start, clock)
    clock.advance_ns(41_000_000_000)
    (reply,) = client.poll()
    assert (reply.seam_id, reply.reason) == ("old", "worker_failed")
    assert "still loads after 60 s" in reply.detail
    os.kill(client.health()["pid"], signal.SIGCONT)
    (reply,) = _until(client, bool)
    assert (reply.seam_id, reply.reason) == ("new", None)
    assert (client.restarts, client.state) == (0, "ready")


def test_a_seam_queued_behind_those_that_waited_is_given_time_for_them(start: Start) -> None:
    clock = ManualClock()
    client = start(finish_timeout_s=5.0, start_timeout_s=60.0, clock=clock)
    pid = client.health()["pid"]
    os.kill(pid, signal.SIGSTOP)
    old = _begin(client, "old")
    for i in range(1000, 20_000):  # so many that it is still busy when it has said that it is ready
        client.push("old", Chunk("w", i, i, 0, 0, np.full((1, 2), 1520, np.int16), CLOCK))
    client.finish(old)
    os.kill(pid, signal.SIGCONT)
    _ready(client)
    os.kill(pid, signal.SIGSTOP)
    client.finish(_begin(client, "behind"))
    assert client.health()["waiting_seams"] == 2
    clock.advance_ns(6_000_000_000)
    assert client.poll() == []
    os.kill(pid, signal.SIGCONT)
    replies = _until(client, lambda replies: len(replies) == 2)
    assert [(reply.seam_id, reply.reason) for reply in replies] == [("old", None), ("behind", None)]


def test_a_worker_that_hangs_idle_is_replaced(start: Start) -> None:
    client = start(silence_timeout_s=3.0)
    _ready(client)
    os.kill(client.health()["pid"], signal.SIGSTOP)
    _until(client, lambda _: client.restarts == 1 and client.state == "ready")


def test_overload_is_bounded_and_said(start: Start) -> None:
    client = start(queue_mb=8, finish_timeout_s=60.0)
    _ready(client)
    pid = client.health()["pid"]
    os.kill(pid, signal.SIGSTOP)
    good = _begin(client, "good")
    client.begin(_seam("big"), (SPEC,))
    jpeg = np.zeros(1_000_000, np.uint8)
    for i in range(12):
        client.push("big", Chunk("v", i, i, 0, 0, jpeg, CLOCK))
    assert client.health()["queued_mb"] <= 8
    client.finish(SeamWindow(_seam("big"), (SPEC,), {}, {}))
    (reply,) = client.poll()
    assert (reply.reason, reply.detail.split()[0]) == ("overload", "5")
    os.kill(pid, signal.SIGCONT)
    client.finish(good)
    (reply,) = _until(client, lambda replies: len(replies) == 1)
    assert (reply.seam_id, reply.score is not None) == ("good", True)


def test_a_model_that_cannot_be_loaded_is_named(start: Start, tmp_path: Path) -> None:
    good = str(write_band_model(tmp_path / "good"))
    client = start({"T1": good, "T2": str(tmp_path / "nowhere")})
    client.finish(_begin(client, "s1"))
    client.finish(_begin(client, "s2", "T2"))
    client.finish(_begin(client, "s3", "T3"))
    replies = _until(client, lambda replies: len(replies) == 3)
    assert replies[0].score is not None
    assert [reply.reason for reply in replies[1:]] == ["no_model", "no_model"]
    assert "nowhere" in replies[1].detail
    assert "'T3' has no model" in replies[2].detail
    health = client.health()
    assert set(health["models"]) == {"T1"}
    assert set(health["model_errors"]) == {"T2"}


def test_what_a_detector_lacks_is_the_detail(start: Start) -> None:
    client = start()
    client.begin(_seam("s"), ())
    client.finish(SeamWindow(_seam("s"), (), {}, {}))
    (reply,) = _until(client, lambda replies: len(replies) == 1)
    assert reply.reason == "worker_failed"
    assert "no welder stream" in reply.detail


def test_the_worker_dies_with_its_daemon(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path\n"
        "from edged.worker import WorkerSettings; from edged.worker_client import WorkerClient\n"
        "s = WorkerSettings(models={}, device='cpu', threads=1, cache_dir=Path(sys.argv[1]))\n"
        "c = WorkerClient(s, Path(sys.argv[1]))\n"
        "while c.state != 'ready': c.socket.poll(50); c.poll()\n"
        "print(c.health()['pid'], flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    pid, end = int(done.stdout.split()[-1]), time.monotonic() + PATIENCE_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end


def test_a_worker_whose_daemon_died_before_it_was_up_ends_by_itself(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    settings = WorkerSettings(models={}, device="cpu", threads=1, cache_dir=tmp_path)
    command = [sys.executable, "-m", "edged.worker", "--endpoint", f"ipc://{tmp_path}/w.sock"]
    command += ["--parent-pid", str(gone.pid), "--config-json", settings.model_dump_json()]
    ended = subprocess.run(command, timeout=PATIENCE_S, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "the daemon has gone" in ended.stdout + ended.stderr


def test_the_worker_is_the_one_to_be_killed_for_memory(start: Start) -> None:
    client = start()
    _ready(client)
    assert int(Path(f"/proc/{client.health()['pid']}/oom_score_adj").read_text()) == 500


def test_close_leaves_no_process_and_no_socket_file(start: Start, tmp_path: Path) -> None:
    client = start()
    _ready(client)
    pid = client.health()["pid"]
    client.close()
    assert not psutil.pid_exists(pid)
    assert list((tmp_path / "run").iterdir()) == []


CALIBRATED = ViewGeometry(
    ((0, -5.0, -10.0), (3, -5.0, 10.0)),
    6.0,
    above_mm=2.0,
    camera=(900.0, 901.0, 320.0, 240.0, -0.1, 0.02, 0.0, 0.0),
    steady=(1.0, 0.0, 3.0, 0.0, 1.0, 4.0, 0.0, 0.0, 1.0),
    size_px=(640, 480),
)


@pytest.mark.parametrize(
    "frame",
    [
        None,
        SeamFrame(52.0),
        SeamFrame(52.0, 3.5, {"top": (-5.0, 57.0, -10.0, 10.0), "end": (40.0, 60.0, -8.0, 8.5)}, (-4.0, 0.25, 12.0)),
        SeamFrame(52.0, geometry={"top": CALIBRATED}, bead=(-0.1, 51.8)),
    ],
)
def test_chunks_and_windows_survive_the_link(frame: SeamFrame | None) -> None:
    jpeg = np.arange(7, dtype=np.uint8)
    chunk = Chunk("v", 3, 4, 5, 6, jpeg, CLOCK)
    header, data = _wire(push_frames("s", chunk))
    again = chunk_of(header, data)
    assert dataclasses.replace(again, data=jpeg).clock == CLOCK
    assert (again.stream, again.seq, again.counter, again.arrival_ns, again.lost_before) == ("v", 3, 4, 5, 6)
    np.testing.assert_array_equal(again.data, jpeg)
    window = SeamWindow(
        dataclasses.replace(_seam("s"), arcs=((1, 2), (3, 4))),
        (SPEC,),
        {"top": ResultView("top", "cam", 9, jpeg)},
        {"w": Integrity("w", "welder", 1.0, 5, 0, 0, 0.0, None, "ok")},
        (Gap("w", 1, 2, 3, "lost"),),
        np.array([[1, np.nan, 3], [4, 5, 6]], np.float32),
        "c1",
        ("audio",),
        frame,
    )
    header, *buffers = _wire(window_frames(window, 1))
    got = window_of(header, buffers)
    assert _without_arrays(got) == _without_arrays(window)
    np.testing.assert_array_equal(got.views["top"].jpeg, jpeg)
    np.testing.assert_array_equal(got.height_map_mm, window.height_map_mm)
    assert score_of(header_of(pack_header({"op": "x", "score": score_map(a_score())}))["score"]) == a_score()


@pytest.mark.parametrize("name", ["raw", "score", "p_value", "threshold"])
def test_a_score_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(LinkError, match=f"{name} is nan"):
        score_of(score_map(a_score(**{name: float("nan")})))


def _without_arrays(window: SeamWindow) -> SeamWindow:
    return dataclasses.replace(window, views={}, height_map_mm=None)


def _wire(frames: list[Any]) -> Any:
    return header_of(frames[0]), *(bytes(memoryview(frame)) for frame in frames[1:])


def test_points_of_the_live_score_go_over_the_link_and_broken_ones_do_not() -> None:
    points = a_point(), a_point(score=None, mm=None, without=("video",))
    assert live_of(header_of(pack_header(live_header("a", points)))) == points
    for wrong in (a_point(raw=float("nan")), a_point(components={"s_P": float("inf")})):
        with pytest.raises(LinkError, match=r"live, 0\.3 s after arc-on"):
            live_of(header_of(pack_header(live_header("a", [wrong]))))
    with pytest.raises(LinkError, match="live"):
        live_of({"op": "live", "seam_id": "a"})


def test_a_seam_is_prepared_and_then_scored_the_same(start: Start) -> None:
    client = start()
    window = _begin(client, "a")
    client.prepare(window)
    client.finish(window)
    (reply,) = _until(client, lambda replies: len(replies) == 1)
    assert reply.score is not None
    assert reply.score.score == pytest.approx(0.5, abs=1e-3)
    assert reply.score.stage_ms["worker_prepare"] > 0
    assert client.live() == []
