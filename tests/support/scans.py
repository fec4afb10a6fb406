"""Arguments of a selective scan, its float64 reference and the compiled forms that this machine has."""

import torch
from torch import Tensor

from pipelines.selective_scan import cpp, numba_kernel, scan_ref
from pipelines.selective_scan.function import Inputs, Kernel


def arguments(batch: int, length: int, channels: int, states: int, dtype: torch.dtype = torch.float32) -> Inputs:
    """Random ones, seeded by their shape; time constants from a fraction of a step to hundreds of steps."""
    g = torch.Generator().manual_seed(((batch * 997 + length) * 997 + channels) * 997 + states)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    return Inputs(
        x=draw(batch, length, channels),
        dt=torch.nn.functional.softplus(draw(batch, length, channels) - 2.0),
        a=-torch.exp(draw(channels, states)),
        b=draw(batch, length, states),
        c=draw(batch, length, states),
        d=draw(channels),
        h=draw(batch, channels, states),
    )


def reference(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """`scan_ref` in float64 from the same numbers."""
    return scan_ref(*(t.double() for t in inputs))


def kernels() -> dict[str, Kernel]:
    """Numba's, and every instruction set of the C++ library that runs here, where it was built."""
    try:
        forms = {f"cpp-{form.name}": cpp.load(form.name) for form in cpp.instruction_sets() if form.supported}
    except OSError:
        forms = {}
    return {**forms, "numba": numba_kernel.NumbaKernel()}
