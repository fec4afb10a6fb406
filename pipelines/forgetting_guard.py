"""What keeps a network from forgetting old programs while it trains on a new one's goods alone.

`svd_project` (IUF, arXiv 2407.11783): the outputs of every feed-forward's second linear over old goods span
directions that old programs use. A step of that linear is turned into them, component i of d, by falling singular
value, scaled by log(i + 1) / log(d), and turned back: the most used direction does not move, the least used one
freely. Only Yᵀ Y (d, d) of the outputs Y is kept, which has their right singular vectors; no old seam is.
`ema_pull`: after each step w ← 0.95 w + 0.05 w_old.

The published code projects gradients for plain SGD. Here the step itself is projected: for plain SGD that is the
same; with Adam, whose scaling of single weights would turn a projected gradient out of its subspace, the promise
holds too.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["GUARDS", "ForgettingGuard", "Guard", "keep_factors", "outputs_recorded"]

Guard = Literal["none", "ema_pull", "svd_project", "svd_project+ema_pull"]
GUARDS: tuple[Guard, ...] = ("none", "ema_pull", "svd_project", "svd_project+ema_pull")
PULL = 0.05


def keep_factors(d: int) -> Tensor:
    """(d,) share of a step that is kept along each direction, by falling singular value: 0 … 1."""
    return torch.log(torch.arange(1.0, d + 1)) / math.log(d)


@contextmanager
def outputs_recorded(layers: Mapping[str, nn.Linear]) -> Iterator[dict[str, Tensor]]:
    """Inside, every call of the layers adds its outputs' Yᵀ Y (d, d) to what is given."""
    found = {name: torch.zeros(layer.out_features, layer.out_features) for name, layer in layers.items()}

    def recorder(name: str) -> "_Recorder":
        return _Recorder(found[name])

    handles = [layer.register_forward_hook(recorder(name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


class _Recorder:
    def __init__(self, into: Tensor) -> None:
        self._into = into

    def __call__(self, _layer: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> None:
        rows = output.detach().flatten(0, -2)
        self._into += (rows.T @ rows).cpu()


class ForgettingGuard:
    """Watches one training of a network from its old weights.

    `before_step` before each step's forward pass and `settle` before the network is used: the step taken between is
    corrected then, so that any optimiser can take it.
    """

    def __init__(
        self, guard: Guard, net: nn.Module, layers: Mapping[str, nn.Linear], seen: Mapping[str, Tensor]
    ) -> None:
        """`seen`: Yᵀ Y by layer over all old goods; `net` holds the old weights.

        Raises ValueError for an unknown guard or a layer without its Yᵀ Y.
        """
        if guard not in GUARDS:
            raise ValueError(f"forgetting guard {guard!r} is not one of {', '.join(GUARDS)}")
        self._layers: dict[str, nn.Linear] = {}
        self._project: dict[str, Tensor] = {}
        if "svd_project" in guard:
            if missing := sorted(set(layers) - set(seen)):
                raise ValueError(f"the old model kept no outputs of {missing[0]}: fit it again with this version")
            self._layers = dict(layers)
            self._project = {name: _projection(seen[name]).to(layer.weight.device) for name, layer in layers.items()}
        self._old = {name: p.detach().clone() for name, p in net.named_parameters()} if "ema_pull" in guard else {}
        self._net = net
        self._before: dict[str, tuple[Tensor, Tensor]] = {}
        self._stepped = False

    def before_step(self) -> None:
        """Correct the step before, and remember the weights for the next."""
        self.settle()
        self._before = {
            name: (layer.weight.detach().clone(), layer.bias.detach().clone()) for name, layer in self._layers.items()
        }
        self._stepped = True

    @torch.no_grad()
    def settle(self) -> None:
        """Correct the step since `before_step`, once."""
        if not self._stepped:
            return
        self._stepped = False
        for name, layer in self._layers.items():
            weight, bias = self._before[name]
            layer.weight.copy_(weight + self._project[name] @ (layer.weight - weight))
            layer.bias.copy_(bias + self._project[name] @ (layer.bias - bias))
        for name, parameter in self._net.named_parameters():
            if name in self._old:
                old = self._old[name]
                # A label head has grown: only the rows of old programs are pulled.
                parameter[: len(old)] += PULL * (old - parameter[: len(old)])


def _projection(gram: Tensor) -> Tensor:
    """(d, d) symmetric: V diag(keep) Vᵀ with V the right singular vectors, the largest first."""
    _, vectors = torch.linalg.eigh(gram.double())  # ascending
    vectors = vectors.flip(1)
    found: Tensor = (vectors * keep_factors(len(gram)).double() @ vectors.T).to(gram.dtype)
    return found
