"""CPU and memory of a process tree, against processes whose cost is known."""

import subprocess
import sys

from edged.usage import ProcessTree

BUSY = "import sys\nx = bytearray(60_000_000)\nfor i in range(len(x) // 4096): x[i * 4096] = 1\n"
BURN = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\nsys.stdin.read()\n"


def test_cpu_and_memory_of_a_busy_child_are_seen() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY + BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        tree = ProcessTree(child.pid)
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        tree.sample()
        assert tree.peak_mb > 55
        assert tree.cpu_percent > 1
        spent = tree.cpu_percent
        tree.restart()
        tree.sample()
        assert tree.cpu_percent < spent
        assert child.stdin is not None
        child.stdin.close()


def test_a_process_that_has_ended_keeps_its_last_sample() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        tree = ProcessTree(child.pid)
        before = tree.peak_mb
        assert child.stdin is not None
        child.stdin.close()
    tree.sample()
    assert tree.peak_mb == before > 0
