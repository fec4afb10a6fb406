"""Where networks compute: "cpu" or "cuda", said once in a config or on a command line and checked at that edge."""

import resource
from pathlib import Path

import torch
from torch import nn

from pipelines.loop_config import AMP_DTYPES
from pipelines.models import ModelError

__all__ = ["DEVICES", "check_compute", "device_of", "model_device", "peak_memory", "torch_device"]

DEVICES = ("cpu", "cuda")


def torch_device(name: str) -> torch.device:
    """The device. Raises ValueError for a name that is not known and for a GPU that torch does not see."""
    if name not in DEVICES:
        raise ValueError(f"device {name!r} is not known; known: {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        built = "was built without CUDA" if torch.version.cuda is None else "sees no GPU; does nvidia-smi list one?"
        raise ValueError(
            f'device "cuda": torch {torch.__version__} {built}; use "cpu", or install the driver and a torch for CUDA'
        )
    return torch.device(name)


def device_of(net: nn.Module) -> torch.device:
    """Where the network's parameters are."""
    return next(net.parameters()).device


def check_compute(device: str, amp: str) -> None:
    """Before any work: raises ValueError where this machine cannot train so."""
    torch_device(device)
    if amp not in AMP_DTYPES:
        raise ValueError(f"mixed precision {amp!r} is not known; known: {', '.join(AMP_DTYPES)}")
    if amp == "fp16" and device != "cuda":
        raise ValueError(f'mixed precision "fp16" needs device "cuda", not {device!r}; use "bf16" or "off"')


def peak_memory(device: torch.device) -> dict[str, float]:
    """The most that this process ever held, MB: `peak_mb` resident, on a GPU also `peak_cuda_mb` in tensors."""
    found = {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if device.type == "cuda":
        found["peak_cuda_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


def model_device(model: Path, name: str) -> torch.device:
    """The device that a model is to be loaded to. Raises ModelError, naming the model, where it is not there."""
    try:
        return torch_device(name)
    except ValueError as error:
        raise ModelError(f"{model}: {error} (worker.device in the configuration)") from error
