"""Which selective scan runs: compiled C++ where it was built, else numba, else plain torch; decided once a process.

`Mamba.forward` calls `selective_scan` on a CPU. The forms agree to 1e-5, so which one runs changes a score no more
than that; a fallback costs time and is said in the log with its cause.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from pipelines.selective_scan import reference
from pipelines.selective_scan.function import Inputs, Kernel, run

__all__ = ["BACKENDS", "BackendError", "forced_backend", "scan_backend", "selective_scan"]

log = logging.getLogger("edged.scan")

COMPILED_TYPES = (torch.float32, torch.float64)


class BackendError(RuntimeError):
    """The backend that was asked for by name cannot run here; says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """A form that can run here; `kernel` is None for plain torch."""

    name: str
    kernel: Kernel | None


def _cpp() -> Kernel:
    from pipelines.selective_scan import cpp

    return cpp.load()


def _numba() -> Kernel:
    from pipelines.selective_scan import numba_kernel

    return numba_kernel.NumbaKernel()


BACKENDS: Mapping[str, Callable[[], Kernel | None]] = {"cpp": _cpp, "numba": _numba, "torch": lambda: None}
"""Best first."""

_forced: list[str] = []


def selective_scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """`reference.scan_ref` by the fastest form there is; same arguments and results, differentiable once.

    Half types, other devices than the CPU and tracing for export take plain torch.
    """
    kernel = _current().kernel
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if kernel is None or traced or x.device.type != "cpu" or x.dtype not in COMPILED_TYPES:
        return reference.scan(x, dt, a, b, c, d, h)
    return run(kernel, Inputs(x, dt, a, b, c, d, h))


def scan_backend() -> str:
    """Name of the form that runs on the CPU: one of `BACKENDS`."""
    return _current().name


@contextlib.contextmanager
def forced_backend(name: str) -> Iterator[None]:
    """Run one form inside, for benches and tests. Raises BackendError where it cannot run, KeyError for no form."""
    _load(name)
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def _current() -> Backend:
    return _load(_forced[-1]) if _forced else _best()


@functools.cache
def _load(name: str) -> Backend:
    try:
        return Backend(name, BACKENDS[name]())
    except (ImportError, OSError) as error:
        raise BackendError(f"selective scan {name!r} cannot run here: {error}") from error


@functools.cache
def _best() -> Backend:
    causes = []
    for name in BACKENDS:
        try:
            backend = _load(name)
        except BackendError as error:
            causes.append(str(error))
            continue
        detail = f" ({backend.kernel.detail})" if backend.kernel else ""
        if causes:
            log.warning("selective scan: %s%s, slower than it could be: %s", name, detail, "; ".join(causes))
        else:
            log.info("selective scan: %s%s", name, detail)
        return backend
    raise BackendError("; ".join(causes))  # unreachable: plain torch needs nothing
