"""A training in two processes, as `torchrun` starts it."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["torchrun"]

ROOT = Path(__file__).parents[2]


def torchrun(
    module: str, *arguments: str, environment: Mapping[str, str] = os.environ, timeout_s: float = 300.0
) -> "subprocess.CompletedProcess[bytes]":
    """Run a module in two processes that meet on a free port, from the repository's root."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    command = [*launch, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=timeout_s)
