"""The scan compiled by numba at first use, where the C++ of `kernel.cpp` was not built.

The same recurrence and memory as there: no (L, E, N) array, states kept every `CHUNK` steps for the gradient. Work
is cut into groups of channels that Python threads run beside each other (the compiled code lets go of the
interpreter lock): numba's own threading layer ends the process when two threads call it at once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pipelines.selective_scan import numba_loops
from pipelines.selective_scan.function import Inputs

__all__ = ["NumbaKernel"]

GROUP_CHANNELS = 64
"""Channels of one task: 256 B of a row, and the gradients of b and c are summed over them in a fixed order."""

STATES_PER_THREAD = 1 << 20
"""State updates below which a further thread costs more than it brings."""


class NumbaKernel:
    """`Kernel` by numba. Compiles its float32 forward pass when it is made: no seam shall wait seconds for it."""

    def __init__(self) -> None:
        zeros = torch.zeros
        along, states = zeros(1, 1, 1), zeros(1, 1)
        self.forward(Inputs(along, along, states, along, along, zeros(1), along), keep=False)

    @property
    def detail(self) -> str:
        """Its version."""
        return f"numba {numba_loops.VERSION}"

    def forward(self, inputs: Inputs, keep: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """y (B, L, E), the last h (B, E, N) and, with `keep`, every so many steps' states."""
        batch, length, channels = inputs.x.shape
        y, last = torch.empty_like(inputs.x), torch.empty_like(inputs.h)
        chunks = -(-length // numba_loops.CHUNK) if keep else 0
        kept = inputs.x.new_empty(batch, chunks, inputs.a.shape[1], channels)
        arrays = [t.detach().numpy() for t in (*inputs, y, last, kept)]
        _run(inputs, lambda i, begin, end: numba_loops.forward(i, begin, end, *arrays))
        return y, last, kept if keep else None

    def backward(self, inputs: Inputs, kept: Tensor, grad_y: Tensor, grad_h: Tensor) -> Inputs:
        """Gradients from those of y and of the last h; the order of all sums is fixed."""
        batch, length, channels = inputs.x.shape
        states, groups = inputs.a.shape[1], -(-channels // GROUP_CHANNELS)
        x, dt = torch.empty_like(inputs.x), torch.empty_like(inputs.x)
        b, c = (inputs.x.new_empty(groups, batch, length, states) for _ in range(2))
        a, d = inputs.x.new_empty(batch, channels, states), inputs.x.new_empty(batch, channels)
        h = torch.empty_like(inputs.h)
        read = [t.detach().numpy() for t in (*inputs, kept, grad_y, grad_h)]
        write = [t.numpy() for t in (x, dt, a, d, h)]

        def task(i: int, begin: int, end: int) -> None:
            of_group = [t[begin // GROUP_CHANNELS].numpy() for t in (b, c)]
            numba_loops.backward(i, begin, end, *read, *write, *of_group)

        _run(inputs, task)
        return Inputs(x, dt, a.sum(0), b.sum(0), c.sum(0), d.sum(0), h)


def _run(inputs: Inputs, task: Callable[[int, int, int], None]) -> None:
    """`task(sequence, first channel, end channel)` over all groups on at most torch's number of threads."""
    batch, length, channels = inputs.x.shape
    tasks = [
        (i, begin, min(begin + GROUP_CHANNELS, channels))
        for i in range(batch)
        for begin in range(0, channels, GROUP_CHANNELS)
    ]
    work = batch * length * channels * inputs.a.shape[1]
    workers = min(torch.get_num_threads(), len(tasks), 1 + work // STATES_PER_THREAD)
    if workers <= 1:
        for one in tasks:
            task(*one)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda one: task(*one), tasks):
            pass  # so that an error of a task is raised
