"""What a process and its children cost: CPU time and proportional memory, sampled from /proc."""

import time

import psutil

__all__ = ["ProcessTree"]


class ProcessTree:
    """CPU percent (100 = one core) and peak summed PSS of a process tree; call `sample` now and then.

    CPU time of a child that ends is kept from its last sample.
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._cpu_s: dict[int, float] = {}
        self._start_s: dict[int, float] = {}
        self._began = time.monotonic()
        self._last = self._began
        self.peak_mb = 0.0
        self.sample()

    def restart(self) -> None:
        """Forget what was used so far: measure from now on."""
        self.sample()
        self._start_s = dict(self._cpu_s)
        self._began = time.monotonic()

    def sample(self) -> None:
        """Read all processes of the tree."""
        pss_bytes = 0
        try:
            processes = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                times = process.cpu_times()
                pss_bytes += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended between listing and reading; its last sample stands
            self._cpu_s[process.pid] = times.user + times.system
        self._last = time.monotonic()
        self.peak_mb = max(self.peak_mb, pss_bytes / 1e6)

    @property
    def cpu_s(self) -> float:
        """CPU seconds since the start or the last `restart`, as of the last `sample`."""
        return sum(total - self._start_s.get(pid, 0.0) for pid, total in self._cpu_s.items())

    @property
    def cpu_percent(self) -> float:
        """Mean use since the start or the last `restart`, 100 = one core."""
        elapsed_s = max(self._last - self._began, 1e-9)
        return 100.0 * self.cpu_s / elapsed_s
