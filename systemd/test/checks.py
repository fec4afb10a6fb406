"""Runs as root inside the booted container (boot-test.service): installs edged and looks at what systemd makes of it.

Writes one line per check to /var/log/boot-test.txt; the last one says whether all passed.
"""

import contextlib
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from edged.control import ask
from edged.types import Label
from pipelines.models import write_manifest

RESULT = Path("/var/log/boot-test.txt")
SOURCE = Path("/srv/edged/systemd")
CELL = Path("/srv/cell")
DATA = Path("/var/lib/edged")
CONTROL = f"ipc://{DATA}/run/control.sock"
JOURNAL = "tcp://127.0.0.1:5561"
UNITS = Path("/etc/systemd/system")
EDGED = "/opt/edged/venv/bin/edged"
PATIENCE_S = 240.0
WATCHDOG_S = 6
CAP_NET_BIND_SERVICE = 10
RESULT_VALID = 1 << 3


def sh(*command: str, may_fail: bool = False) -> str:
    """What the command printed. Raises AssertionError with it when it failed."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE_S)
    assert may_fail or done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}"
    return done.stdout.strip()


def shown(name: str, unit: str = "edged.service") -> str:
    """A property of a unit as systemd has it."""
    return sh("systemctl", "show", "--value", "--property", name, unit)


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    """The first true value of `found`. Raises AssertionError after PATIENCE_S."""
    end = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S:g} s"
        time.sleep(0.3)
    return value


def status() -> dict[str, Any]:
    """The daemon's answer; empty when there is none."""
    with contextlib.suppress(TimeoutError):
        return ask(CONTROL, {"op": "status"}, 2.0)
    return {}


def ready_worker() -> dict[str, Any]:
    """The daemon's answer once its scoring process is ready; empty before."""
    answer = status()
    return answer if answer and answer["health"]["worker"]["state"] == "ready" else {}


def stream_states() -> dict[str, str]:
    """State by stream, as the daemon tells it."""
    return {name: found["state"] for name, found in status().get("health", {}).get("streams", {}).items()}


def write_cell() -> None:
    """A weld of 1.5 s at 150 A, sound and images, for as long as the test takes."""
    import cv2
    import soundfile

    (CELL / "images").mkdir(parents=True)
    (CELL / "model").mkdir()
    # Like a real arc's, current and voltage never stand still.
    arc = [(149.5, 19.5), (150.5, 20.5)] * 750
    rows = [(0.0, 0.0)] * 3_000 + arc + [(0.0, 0.0)] * 120_000
    (CELL / "weld.csv").write_text("I,U\n" + "".join(f"{i},{u}\n" for i, u in rows))
    noise = np.random.default_rng(0).integers(-3_000, 3_000, size=48_000 * 125, dtype=np.int16)
    soundfile.write(CELL / "sound.wav", noise, 48_000)
    for k in range(120):
        cv2.imwrite(str(CELL / "images" / f"{k:03}.png"), np.full((240, 320), k, np.uint8))
    (CELL / "model" / "model.toml").write_text(
        'detector = "energy_band"\nk = 4.0\n[programs.T1.mean_current_a]\nmean = 150.0\nstd = 1.0\n'
    )
    write_manifest(CELL / "model")
    video = cv2.VideoWriter(str(CELL / "arc.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (320, 240))
    for k in range(1_200):
        video.write(np.full((240, 320, 3), k % 200, np.uint8))
    video.release()


def installs() -> str:
    """The installer makes user, folders, unit and a config, and starts nothing while that names no devices."""
    said = sh("bash", str(SOURCE / "install.sh"), "--venv", "/srv/venv")
    assert "still says CHANGE-ME" in said, said
    account = pwd.getpwnam("edged")
    assert account.pw_uid < 1000, account
    assert shown("UnitFileState") == "enabled"
    assert shown("ActiveState") == "inactive"
    assert owner_and_mode(Path("/etc/edged/edged.toml")) == "root:edged 640"
    return sh("id", "edged")


def starts() -> str:
    """Run again as an upgrade, the installer keeps the config and starts edged: READY=1 makes it active."""
    write_cell()
    Path("/etc/edged/edged.toml").write_text((SOURCE / "test" / "boot-test.toml").read_text())
    drop_in = UNITS / "edged.service.d"
    drop_in.mkdir()
    # A short watchdog, and no precedence over what else the machine does.
    (drop_in / "test.conf").write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\nNice=15\n")
    start = time.monotonic()
    sh("bash", str(SOURCE / "install.sh"), "--venv", "/srv/venv")
    wait_for("edged is active", lambda: shown("ActiveState") == "active")
    assert shown("NRestarts") == "0"
    return f"active after {time.monotonic() - start:.1f} s, {shown('StatusText')}"


def answers() -> str:
    """`edged status` as root and as edged."""
    sh(EDGED, "status")
    said = sh("runuser", "-u", "edged", "--", EDGED, "status")
    nobody = sh("runuser", "-u", "nobody", "--", EDGED, "status", may_fail=True)
    assert "runs as" not in nobody, nobody
    return said.splitlines()[0]


def scores() -> str:
    """The scoring process has both models, one of them with torch, and the weld gets its verdict."""
    answer = wait_for("the scoring process is ready", ready_worker)
    worker = answer["health"]["worker"]
    assert (worker["model_errors"], worker["restarts"]) == ({}, 0), worker
    assert set(worker["models"]) == {"T1", "spray-lap-5"}, worker
    maps = Path(f"/proc/{worker['pid']}/maps").read_text()
    assert "libtorch" in maps or "onnxruntime" in maps, "neither torch nor onnxruntime in the scoring process"
    wait_for("all streams are ok", lambda: set(stream_states().values()) == {"ok"})
    wait_for("a verdict", lambda: status().get("last_sequence"))
    _, topic, payload = ask(JOURNAL, {"op": "range", "from_sequence": 1, "to_sequence": 1})["entries"][0]
    verdict = msgpack.unpackb(payload)
    assert verdict["label"] == Label.OK, verdict
    return f"{topic} {Label(verdict['label']).name}, models {sorted(worker['models'].values())}"


def bridge_speaks_modbus() -> str:
    """The Modbus bridge, a user of its own on port 502: the weld's verdict stands in its registers."""
    from pymodbus.client import ModbusTcpClient

    with Path("/etc/edged/edged.toml").open("a") as config:
        config.write("\n[bridges.modbus]\nport = 502\n")
    unit = "edged-bridge-modbus.service"
    assert shown("UnitFileState", unit) == "disabled", shown("UnitFileState", unit)
    sh("systemctl", "start", unit)
    client = ModbusTcpClient("127.0.0.1", port=502)
    assert client.connect()
    registers = wait_for("a verdict", lambda: _with_result(client.read_input_registers(0, count=123).registers))
    client.close()
    assert registers[15] == Label.OK, registers
    fields = process_status(shown("MainPID", unit))
    assert fields["Uid"].split()[0] == str(pwd.getpwnam("edged-modbus").pw_uid), fields
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 1 << CAP_NET_BIND_SERVICE, fields
    assert fields["NoNewPrivs"] == "1", fields
    state = Path("/var/lib/edged-bridge-modbus/state.json")
    wait_for("the state", state.exists)
    assert owner_and_mode(state) == "edged-modbus:edged-modbus 600", owner_and_mode(state)
    assert shown("NRestarts", unit) == "0"
    sh("systemctl", "stop", unit)
    assert shown("Result", unit) == "success", shown("Result", unit)
    return f"status {registers[1]:#x}, sequence {registers[11]}"


def _with_result(registers: list[int]) -> list[int]:
    return registers if registers[1] & RESULT_VALID else []


def process_status(pid: str) -> dict[str, str]:
    """/proc/PID/status."""
    return dict(re.findall(r"^(\w+):\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))


def processes_are_confined() -> str:
    """Every process of the service, capture and scoring included, has no privileges to gain and edged's filters.

    The container itself has a filter, so they are counted.
    """
    pids = Path(f"/sys/fs/cgroup/systemd{shown('ControlGroup')}/cgroup.procs")
    if not pids.exists():
        pids = Path(f"/sys/fs/cgroup{shown('ControlGroup')}/cgroup.procs")
    seen = {}
    outside = int(process_status("1")["Seccomp_filters"])
    for pid in pids.read_text().split():
        fields = process_status(pid)
        assert fields["NoNewPrivs"] == "1", (pid, fields)
        assert int(fields["Seccomp_filters"]) > outside, (pid, fields)
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0, (pid, fields)
        assert fields["Uid"].split()[0] == str(pwd.getpwnam("edged").pw_uid), (pid, fields)
        seen[pid] = Path(f"/proc/{pid}/oom_score_adj").read_text().strip()
    worker = str(status()["health"]["worker"]["pid"])
    assert worker in seen, (worker, seen)
    assert len(seen) == 3, f"daemon, scoring process and one capture process expected: {seen}"
    return f"{len(seen)} processes, oom_score_adj {seen}"


def owner_and_mode(path: Path) -> str:
    """As "user:group mode"."""
    found = path.stat()
    return sh("stat", "-c", "%U:%G", str(path)) + f" {stat.S_IMODE(found.st_mode):o}"


def files_are_private() -> str:
    """Data belongs to edged alone, group may read; the control socket is edged's."""
    assert owner_and_mode(DATA) == "edged:edged 750", owner_and_mode(DATA)
    assert owner_and_mode(DATA / "run" / "control.sock") == "edged:edged 600"
    assert owner_and_mode(DATA / "keys") == "edged:edged 700"
    assert owner_and_mode(DATA / "keys" / "server.toml") == "edged:edged 600"
    assert list((DATA / "recordings").glob("*.mcap")), list(DATA.rglob("*"))
    for path in DATA.rglob("*"):
        found = owner_and_mode(path)
        assert found.startswith("edged:edged"), f"{path} is {found}"
        assert found.endswith("0"), f"others may use {path}: {found}"
    return f"{sum(1 for _ in DATA.rglob('*'))} paths"


def restarts_after_kill() -> str:
    """SIGKILL of everything: one restart, and the sequence goes on."""
    before, start = status(), time.monotonic()
    sh("systemctl", "kill", "-s", "KILL", "edged")
    wait_for("a restart", lambda: shown("NRestarts") == "1" and shown("ActiveState") == "active")
    after = wait_for("an answer", status)
    assert after["pid"] != before["pid"], after
    assert after["last_sequence"] >= before["last_sequence"], (before, after)
    assert after["journal_id"] == before["journal_id"]
    return f"active again after {time.monotonic() - start:.1f} s"


def restarts_after_hang() -> str:
    """SIGSTOP of the main process: the watchdog ends it, nothing of it is left, another one answers."""
    before, start = wait_for("the scoring process is ready", ready_worker), time.monotonic()
    pid, worker = int(shown("MainPID")), int(before["health"]["worker"]["pid"])
    os.kill(pid, signal.SIGSTOP)
    wait_for("a restart", lambda: shown("NRestarts") == "2" and shown("ActiveState") == "active")
    took_s = time.monotonic() - start
    said = sh("journalctl", "--no-pager", "-u", "edged", "-g", "Watchdog timeout")
    assert f"limit {WATCHDOG_S}s" in said, said
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{worker}").exists()
    assert wait_for("an answer", status)["pid"] == int(shown("MainPID"))
    return f"active again after {took_s:.1f} s (watchdog {WATCHDOG_S} s)"


def sandbox_fits() -> str:
    """The same sandbox around a probe: what edged needs works, what it does not need is refused.

    Without the sandbox the same user's attempts must end otherwise: else the probe would show nothing about it.
    """
    probe = "/srv/edged/systemd/test/sandbox_probe.py"
    free = sh("runuser", "-u", "edged", "--", "/opt/edged/venv/bin/python", probe, may_fail=True)
    unrefused = [line for line in free.splitlines() if line.startswith("FAILED refused")]
    refused = [line for line in free.splitlines() if line.startswith("ok refused")]
    assert not refused, f"refused without the sandbox too: {refused}"
    unit = (UNITS / "edged.service").read_text()
    changes = {
        r"^Type=.*": "Type=oneshot",
        r"^ExecStart=.*": f"ExecStart=/opt/edged/venv/bin/python {probe}",
        r"^(NotifyAccess|Restart|RestartSec|WatchdogSec)=.*\n": "",
        r"^Nice=.*": "Nice=15",
    }
    for pattern, new in changes.items():
        unit = re.sub(pattern, new, unit, flags=re.MULTILINE)
    (UNITS / "edged-probe.service").write_text(unit)
    sh("systemctl", "daemon-reload")
    sh("systemctl", "start", "edged-probe.service", may_fail=True)
    said = sh("journalctl", "--no-pager", "-o", "cat", "-u", "edged-probe")
    assert shown("Result", "edged-probe.service") == "success", said
    found = [line.removeprefix("ok ") for line in said.splitlines() if line.startswith("ok ")]
    return "; ".join(found) + f"; {len(unrefused)} attempts end otherwise without the sandbox"


def stops() -> str:
    """`systemctl stop` ends in order and leaves no socket."""
    start = time.monotonic()
    sh("systemctl", "stop", "edged")
    assert shown("Result") == "success", shown("Result")
    assert not (DATA / "run" / "control.sock").exists()
    return f"{time.monotonic() - start:.1f} s"


def nothing_to_complain() -> str:
    """systemd had nothing to complain about our unit."""
    said = sh(
        "journalctl", "--no-pager", "-o", "cat", "-b", "_PID=1", "-g", r"edged.*\.service:.*\d+:", may_fail=True
    )
    complaints = [line for line in said.splitlines() if ".service:" in line and "/edged" in line]
    assert not complaints, complaints
    return "no complaints"


CHECKS = (
    installs,
    starts,
    answers,
    scores,
    bridge_speaks_modbus,
    processes_are_confined,
    files_are_private,
    restarts_after_kill,
    restarts_after_hang,
    stops,
    sandbox_fits,
    nothing_to_complain,
)

NEEDED_FIRST = (installs, starts)


def run_checks() -> Iterator[str]:
    """One line per check; the last says how many failed."""
    failed = 0
    for check in CHECKS:
        start = time.monotonic()
        try:
            said = check()
            line = f"ok {check.__name__} ({time.monotonic() - start:.1f} s): {said}"
        except (AssertionError, OSError, KeyError, IndexError, subprocess.SubprocessError):
            failed += 1
            line = f"FAILED {check.__name__}: {traceback.format_exc()}"
        yield line
        if failed and check in NEEDED_FIRST:
            break
    yield f"{failed} of {len(CHECKS)} failed" if failed else f"all passed: {len(CHECKS)} checks"


def main() -> None:
    """Write the findings as they come, so that a container that is killed has said how far it got."""
    with RESULT.open("w") as result:
        for line in run_checks():
            print(line, file=result, flush=True)
            print(line, flush=True)
    units = [argument for unit in ("edged", "edged-probe", "edged-bridge-modbus") for argument in ("-u", unit)]
    journal = sh("journalctl", "--no-pager", *units, may_fail=True)
    Path("/var/log/edged-journal.txt").write_text(journal)


if __name__ == "__main__":
    sys.exit(main())
