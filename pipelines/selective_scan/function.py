"""A compiled scan as a differentiable torch function: checks, copies to dense memory, gradients.

Between `choice`, which picks the kernel, and `cpp` or `numba_kernel`, which see raw memory; hence every shape is
checked here.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Inputs", "Kernel", "run"]


class Inputs(NamedTuple):
    """What a scan reads; shapes as in `reference.scan_ref`, one dtype, dense."""

    x: Tensor
    dt: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor
    h: Tensor


class Kernel(Protocol):
    """A compiled scan over dense CPU memory, float32 or float64."""

    @property
    def detail(self) -> str:
        """What about it is worth a word in the log, e.g. the instruction set."""
        ...

    def forward(self, inputs: Inputs, keep: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """y (B, L, E), the last h (B, E, N), and with `keep` the states that `backward` starts from."""
        ...

    def backward(self, inputs: Inputs, kept: Tensor, grad_y: Tensor, grad_h: Tensor) -> Inputs:
        """The gradient of each input, in its place, from those of y and of the last h."""
        ...


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Kernel, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        dense = Inputs(*inputs)
        y, last, kept = kernel.forward(dense, keep=True)
        ctx.kernel = kernel
        ctx.save_for_backward(*dense, kept)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_h: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, kept = ctx.saved_tensors
        return None, *ctx.kernel.backward(Inputs(*inputs), kept, grad_y.contiguous(), grad_h.contiguous())


def run(kernel: Kernel, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """y (B, L, E) and the last h (B, E, N). Raises ValueError naming an argument of the wrong shape or dtype."""
    _check(inputs)
    dense = Inputs(*(t.contiguous() for t in inputs))
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        y, last = _Function.apply(kernel, *dense)  # type: ignore[no-untyped-call]
        return y, last
    y, last, _ = kernel.forward(dense, keep=False)
    return y, last


def _check(inputs: Inputs) -> None:
    if inputs.x.ndim != 3 or inputs.a.ndim != 2:
        raise ValueError(
            f"x must be (B, L, E) and a (E, N); they are {tuple(inputs.x.shape)} and {tuple(inputs.a.shape)}"
        )
    (batch, length, channels), states = inputs.x.shape, inputs.a.shape[1]
    along, states_along, state = (batch, length, channels), (batch, length, states), (batch, channels, states)
    wanted = (along, along, (channels, states), states_along, states_along, (channels,), state)
    for name, tensor, shape in zip(Inputs._fields, inputs, wanted, strict=True):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape} beside x and a; it has {tuple(tensor.shape)}")
        if tensor.dtype != inputs.x.dtype or tensor.device != inputs.x.device:
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}, x is {inputs.x.dtype} on {inputs.x.device}; "
                f"convert one of them"
            )
