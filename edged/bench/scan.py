"""`edged bench scan`: the forms of Mamba's scan beside each other and beside mambapy's parallel scan.

Stands beside the data path. The forms take turns within a round, and a ratio is the median over rounds of the ratio
within one round: a machine that is busy for a while slows all of them. Long runs are interrupted more often
than short ones, so beside it stands the ratio of the fastest rounds: the careful one on a busy machine.
"""

import contextlib
import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

if TYPE_CHECKING:
    import torch

__all__ = ["CHANNELS", "LENGTH", "STATES", "bench_scan", "measure"]

LENGTH, CHANNELS, STATES = 4096, 128, 16
RIVAL = "mambapy"
BARS = {"cpp": 10.0, "numba": 3.0}
"""How many times faster than mambapy a form's forward must be, for the verb to exit with 0."""

Scan = Callable[..., "tuple[torch.Tensor, torch.Tensor]"]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One form at one number of threads; ratios: how many times faster than mambapy, None where that is missing."""

    backend: str
    threads: int
    forward_ms_p50: float
    backward_ms_p50: float
    ratio_to_mambapy: float | None
    backward_ratio_to_mambapy: float | None
    ratio_of_fastest: float | None
    max_abs_error_vs_float64: float


def bench_scan(
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    threads: Annotated[list[int], typer.Option(min=1, help="Numbers of threads; may be given again.")] = [1, 2],  # noqa: B006
    rounds: Annotated[int, typer.Option(min=3, help="Rounds; every form runs once in each.")] = 15,
) -> None:
    """Time Mamba's scan, forward and backward: L = 4096, 128 channels, 16 states. Exits with 1 below a bar."""
    console = Console(stderr=True)
    report = measure(tuple(threads), rounds, console=console)
    _print(report, console)
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if slow := _below_bars(report):
        console.print("\n".join(slow))
        raise typer.Exit(1)


def _below_bars(report: dict[str, Any]) -> list[str]:
    return [
        f"{row['backend']} with {row['threads']} thread(s) is {row['ratio_of_fastest']:.1f} times as fast as "
        f"{RIVAL}, less than {BARS[row['backend']]:g}"
        for row in report["rows"]
        if row["backend"] in BARS
        and row["ratio_of_fastest"] is not None
        and row["ratio_of_fastest"] < BARS[row["backend"]]
    ]


def measure(
    threads: tuple[int, ...],
    rounds: int,
    console: Console | None = None,
) -> dict[str, Any]:
    """The figures of `edged bench scan --json`: `{"machine", "shape", "rounds", "rows": [Row, ...]}`."""
    import torch

    load = os.getloadavg()[0]
    inputs = _inputs(LENGTH, CHANNELS, STATES)
    exact = _exact(inputs)
    forms = _forms()
    rows = []
    before = torch.get_num_threads()
    try:
        for count in threads:
            torch.set_num_threads(count)
            rows += _rows(forms, inputs, exact, count, rounds, console)
    finally:
        torch.set_num_threads(before)
    return {
        "machine": _machine(forms) | {"load_1min": load},
        "shape": {"batch": 1, "length": LENGTH, "channels": CHANNELS, "states": STATES, "dtype": "float32"},
        "rounds": rounds,
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def _rows(
    forms: dict[str, Scan],
    inputs: "list[torch.Tensor]",
    exact: "torch.Tensor",
    threads: int,
    rounds: int,
    console: Console | None,
) -> list[Row]:
    errors = {}
    for name, form in forms.items():  # the first call compiles what has to be compiled
        y, _, _ = _once(form, inputs)
        errors[name] = float((y.double() - exact).abs().max())
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    label = f"{threads} thread{'s' if threads > 1 else ''}"
    for _ in track(range(rounds), label, console=console or Console(quiet=True)):
        for name, form in forms.items():
            taken[name].append(_once(form, inputs)[1:])
    return [
        Row(
            backend=name,
            threads=threads,
            forward_ms_p50=statistics.median(forward for forward, _ in taken[name]),
            backward_ms_p50=statistics.median(backward for _, backward in taken[name]),
            ratio_to_mambapy=_ratio(taken, name, 0),
            backward_ratio_to_mambapy=_ratio(taken, name, 1),
            ratio_of_fastest=_fastest(taken, name),
            max_abs_error_vs_float64=errors[name],
        )
        for name in forms
    ]


def _ratio(taken: dict[str, list[tuple[float, float]]], name: str, which: int) -> float | None:
    if RIVAL not in taken:
        return None
    pairs = zip(taken[RIVAL], taken[name], strict=True)
    return statistics.median(theirs[which] / ours[which] for theirs, ours in pairs)


def _fastest(taken: dict[str, list[tuple[float, float]]], name: str) -> float | None:
    if RIVAL not in taken:
        return None
    return min(forward for forward, _ in taken[RIVAL]) / min(forward for forward, _ in taken[name])


def _once(form: Scan, inputs: "list[torch.Tensor]") -> "tuple[torch.Tensor, float, float]":
    """y, and ms of a forward without gradients and of a backward."""
    import torch

    with torch.no_grad():
        begin = time.perf_counter()
        form(*inputs)
        forward = time.perf_counter() - begin
    leaves = [t.clone().requires_grad_() for t in inputs]
    y, _ = form(*leaves)
    grad = torch.ones_like(y)
    begin = time.perf_counter()
    torch.autograd.backward(y, grad)
    return y.detach(), forward * 1e3, (time.perf_counter() - begin) * 1e3


def _forms() -> dict[str, Scan]:
    """Every form that runs here; mambapy's first where it is installed."""
    from pipelines.selective_scan import BackendError, forced_backend, selective_scan
    from pipelines.selective_scan.choice import BACKENDS

    def forced(name: str) -> Scan:
        def form(*inputs: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
            with forced_backend(name):
                return selective_scan(*inputs)

        return form

    forms: dict[str, Scan] = {}
    with contextlib.suppress(ImportError):
        forms[RIVAL] = _mambapy()
    for name in BACKENDS:
        with contextlib.suppress(BackendError), forced_backend(name):
            forms[name] = forced(name)
    return forms


def _mambapy() -> Scan:
    """mambapy's `MambaBlock.selective_scan` around its `pscan`. Raises ImportError where it is not installed."""
    import torch
    from mambapy.pscan import pscan

    def form(*inputs: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        x, dt, a, b, c, d, _ = inputs  # it knows no state to begin with; that of the bench is zero
        states = pscan(torch.exp(dt[..., None] * a), dt[..., None] * b[:, :, None] * x[..., None])
        return (states @ c[..., None]).squeeze(3) + d * x, states[:, -1]

    return form


def _inputs(length: int, channels: int, states: int) -> "list[torch.Tensor]":
    """What a block at its initialisation gives its scan: steps log-uniform in [1e-3, 0.1], A from −1 to −N."""
    import torch

    g = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, length, channels, generator=g),
        1e-3 * 100 ** torch.rand(1, length, channels, generator=g),
        -torch.arange(1.0, states + 1).repeat(channels, 1),
        torch.randn(1, length, states, generator=g),
        torch.randn(1, length, states, generator=g),
        torch.ones(channels),
        torch.zeros(1, channels, states),
    ]


def _exact(inputs: "list[torch.Tensor]") -> "torch.Tensor":
    from pipelines.selective_scan import scan_ref

    return scan_ref(*(t.double() for t in inputs))[0]


def _machine(forms: dict[str, Scan]) -> dict[str, Any]:
    import torch

    from pipelines.selective_scan import scan_backend
    from pipelines.selective_scan.choice import BACKENDS

    kernels = {name: BACKENDS[name]() for name in forms if name in BACKENDS}
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "chosen": scan_backend(),
        "detail": {name: kernel.detail for name, kernel in kernels.items() if kernel is not None},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _print(report: dict[str, Any], console: Console) -> None:
    machine = report["machine"]
    table = Table(
        title=f"selective scan on {machine['processor']}, {machine['cores']} cores, load {machine['load_1min']:.1f}"
    )
    for name in ("form", "threads", "forward ms", "backward ms", "× mambapy", "× fastest", "max error"):
        table.add_column(name, justify="left" if name == "form" else "right")
    for row in report["rows"]:
        ratios = (row["ratio_to_mambapy"], row["ratio_of_fastest"])
        table.add_row(
            row["backend"],
            str(row["threads"]),
            f"{row['forward_ms_p50']:.2f}",
            f"{row['backward_ms_p50']:.2f}",
            *("–" if ratio is None else f"{ratio:.1f}" for ratio in ratios),
            f"{row['max_abs_error_vs_float64']:.1e}",
        )
    console.print(table)
    if not any(row["backend"] == RIVAL for row in report["rows"]):
        hint = "mambapy is not installed, so there is no ratio: pip install -c constraints.txt '.[bench]'"
        console.print(hint, markup=False)
