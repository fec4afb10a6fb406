"""A check that no operation mixes devices, for a machine without a GPU: the network lies on "meta" instead."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["OneDevice"]


class OneDevice(TorchDispatchMode):
    """Inside, an operation on tensors of two devices raises AssertionError; numbers (no dimension) may come along."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        devices = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim}
        moves = func is torch.ops.aten._to_copy.default
        assert moves or len(devices) < 2, f"{func} works on {' and '.join(sorted(devices))}"
        return func(*args, **(kwargs or {}))
