"""The one training loop of every network: epochs over good seams, early stopping on other goods.

Beside the data path: training only. Every random draw is seeded by the place where it is made (seed, epoch, batch,
process), so that on a CPU the same seed and number of threads give the same weights bit for bit, and a training that
was killed and goes on from its checkpoint ends where it would have ended; there is no generator's state to keep.
`loss` therefore draws from torch's global generator and keeps nothing between calls.

Under `torchrun` (`pipelines/distributed.py`) each process takes its share of every batch; the loss's gradient is
that of the whole batch if the loss is a mean over seams and the network has no BatchNorm.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from pipelines.checkpoint import CheckpointError, flat_optimiser, load_checkpoint, restore_optimiser, save_checkpoint
from pipelines.distributed import leading_one, summed, world
from pipelines.grids import Tell
from pipelines.loop_config import AMP_DTYPES, LoopConfig, LoopReport, made_for, make_optimiser, make_schedule, refuse
from pipelines.torch_device import peak_memory, torch_device

__all__ = ["CheckpointError", "DivergedError", "LoopConfig", "LoopReport", "train_loop"]

Rows = NDArray[np.int64]
Loss = Callable[[nn.Module, Rows], Tensor]
HeldOut = Callable[[nn.Module], float]

ORDER, BATCH, HELD_OUT = range(3)
"""What a seed is for."""


class DivergedError(ValueError):
    """A loss is no finite number any more; names the epoch and batch."""


def train_loop(
    net: nn.Module, rows: int, loss: Loss, held_out: HeldOut, config: LoopConfig, tell: Tell
) -> LoopReport:
    """Train `net` in place, on `config.device`, to which it is moved.

    Args:
        rows: number of training seams; they are drawn anew each epoch, in batches.
        loss: mean loss of the seams with these row numbers, with gradients; called in training mode. It puts what it
            reads on the network's device, and draws from torch's global generator only.
        held_out: mean loss of goods that do not train; called in evaluation mode without gradients.
        tell: called at the start and after each epoch, in the leading process alone.
    Raises CheckpointError for another training's checkpoint, DivergedError, ValueError for what cannot be trained.
    """
    return _Training(net, rows, loss, held_out, config, tell).run()


class _Objective(nn.Module):
    """The loss as a module: DistributedDataParallel sees its forward, however the loss uses the network."""

    def __init__(self, net: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, rows: Rows) -> Tensor:
        return self.loss(self.net, rows)


@dataclasses.dataclass(slots=True)
class _State:
    """Where a training stands: whole epochs, batches of the next one, and what came of them."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0  # over the seams of the epoch's batches so far
    best_epoch: int = 0
    best: float = math.inf
    train_losses: list[float] = dataclasses.field(default_factory=list)
    held_out_losses: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


class _Training:
    """One training: what it needs, and where it stands."""

    def __init__(
        self, net: nn.Module, rows: int, loss: Loss, held_out: HeldOut, config: LoopConfig, tell: Tell
    ) -> None:
        self.net, self.rows, self.held_out, self.config, self.tell = net, rows, held_out, config, tell
        self.device = next(net.to(torch_device(config.device)).parameters()).device
        self.world = world()
        refuse(rows, config, self.device, self.world.size)
        self.batches = -(-rows // config.batch)
        self.optimiser = make_optimiser(net, config)
        self.schedule = make_schedule(self.optimiser, config, config.epochs * self.batches)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.objective: nn.Module = _Objective(net, loss)
        if self.world.size > 1:
            # A loss may leave parameters out of a batch. Where none does, torch says once that it searched in vain.
            self.objective = nn.parallel.DistributedDataParallel(self.objective, find_unused_parameters=True)
        self.state = _State()
        self.best_net = _copied(net)
        self.first = math.nan
        self.path = None if config.checkpoint is None else config.checkpoint / f"{config.stage}.safetensors"
        self.made_for: dict[str, Any] = {}

    def run(self) -> LoopReport:
        """Everything, from a checkpoint if there is one."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.began = self.saved = time.monotonic()
        self.first = self.state.best = self._held_out()
        resumed_at = self._resume()
        state, config = self.state, self.config
        self._tell(state.held_out_losses[-1] if state.held_out_losses else self.first)
        while state.epoch < config.epochs and not self._out_of_patience():
            self._epoch()
            self._tell(state.held_out_losses[-1])
        self.net.load_state_dict(self.best_net)
        self.net.eval()
        self._remove_checkpoint()
        memory = peak_memory(self.device)
        return LoopReport(
            state.best_epoch,
            state.epoch,
            state.best,
            self.first,
            self._seconds(),
            peak_mb=memory["peak_mb"],
            peak_cuda_mb=memory.get("peak_cuda_mb"),
            train_losses=tuple(state.train_losses),
            held_out_losses=tuple(state.held_out_losses),
            resumed_at=resumed_at,
            processes=self.world.size,
        )

    def _epoch(self) -> None:
        """What is left of an epoch, and its held-out loss."""
        state, config = self.state, self.config
        epoch = state.epoch + 1
        mixed = np.random.default_rng((config.seed, ORDER, epoch)).permutation(self.rows)
        self.net.train()
        for batch in range(state.batch, self.batches):
            rows = mixed[batch * config.batch : (batch + 1) * config.batch]
            torch.manual_seed(_seed(config.seed, BATCH, epoch, batch, self.world.rank))
            state.loss_sum += len(rows) * self._step(rows, f"epoch {epoch}, batch {batch + 1} of {self.batches}")
            state.batch = batch + 1
            if time.monotonic() - self.saved >= config.checkpoint_every_s:
                self._save()
        now = self._held_out()
        state.train_losses.append(state.loss_sum / self.rows)
        state.held_out_losses.append(now)
        state.epoch, state.batch, state.loss_sum = epoch, 0, 0.0
        if now < state.best or not config.patience:
            state.best, state.best_epoch, self.best_net = now, epoch, _copied(self.net)
        self._save()

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return bool(patience) and self.state.epoch - self.state.best_epoch >= patience

    def _step(self, rows: Rows, where: str) -> float:
        """One step on a batch; this process reads its share. Returns the whole batch's loss."""
        share = rows[self.world.rank :: self.world.size]
        weight = len(share) / len(rows)
        if not len(share):  # fewer seams than processes: take part all the same, for nothing
            share = rows[:1]
        dtype = AMP_DTYPES[self.config.amp]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            found = self.objective(share)
        value = summed(found.item() * weight, self.device)
        if not math.isfinite(value):
            raise DivergedError(
                f"{self.config.stage}: the loss is {value} in {where}; lower lr ({self.config.lr:g}), "
                f"clip gradients (clip = {self.config.clip}), or look for values that are not finite in the data"
            )
        self.optimiser.zero_grad()
        # Gradients are averaged over processes, shares need not be equal.
        self.scaler.scale(found * (weight * self.world.size)).backward()
        if self.config.clip is not None:
            self.scaler.unscale_(self.optimiser)
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        # A smaller scale says that fp16 overflowed and the step was left out; the schedule waits for it.
        if self.schedule is not None and self.scaler.get_scale() >= scale:
            self.schedule.step()
        return value

    def _held_out(self) -> float:
        """Held-out loss, the leading process's in all, so that they stop together."""
        self.net.eval()
        torch.manual_seed(_seed(self.config.seed, HELD_OUT))
        if self.world.size > 1:
            for buffer in self.net.buffers():
                distributed.broadcast(buffer, 0)
        with torch.no_grad():
            found = leading_one(self.held_out(self.net), self.device)
        if not math.isfinite(found):
            raise DivergedError(
                f"{self.config.stage}: the held-out loss is {found} after batch {self.state.batch} of epoch "
                f"{self.state.epoch + 1}; lower lr ({self.config.lr:g}), or look for values that are not finite"
            )
        return found

    def _tell(self, loss: float) -> None:
        if self.world.leads:
            self.tell(self.config.stage, self.state.epoch, self.config.epochs, loss)

    def _seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self.began

    def _resume(self) -> int:
        """Take up the checkpoint, if any. Returns how many batches it brought."""
        if self.path is None:
            return 0
        self.made_for = made_for(self.net, self.rows, self.config, self.first, self.world.size)
        found = load_checkpoint(self.path, self.made_for)
        if found is not None:
            about, tensors = found
            parts: dict[str, dict[str, Tensor]] = {"net": {}, "best": {}, "optimiser": {}}
            for key, value in tensors.items():
                part, _, name = key.partition("/")
                parts[part][name] = value
            self.net.load_state_dict(parts["net"])
            self.best_net = {name: value.to(self.device) for name, value in parts["best"].items()}
            restore_optimiser(self.optimiser, parts["optimiser"], about["optimiser"])
            if self.schedule is not None:
                self.schedule.load_state_dict(about["schedule"])
            self.scaler.load_state_dict(about["scaler"])
            self.state = _State(**about["progress"])
        done = self.state.epoch * self.batches + self.state.batch
        leading = int(leading_one(done, self.device))
        if leading != done:
            raise CheckpointError(
                f"{self.path}: process {self.world.rank} sees {done} batches done, the leading one {leading}; "
                "give a checkpoint directory that all processes share"
            )
        return done

    def _save(self) -> None:
        if self.path is None or not self.world.leads:
            return
        optimiser, groups = flat_optimiser(self.optimiser)
        parts = {"net": self.net.state_dict(), "best": self.best_net, "optimiser": optimiser}
        state = {
            "progress": dataclasses.asdict(dataclasses.replace(self.state, seconds=self._seconds())),
            "optimiser": groups,
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        tensors = {f"{part}/{name}": value for part, own in parts.items() for name, value in own.items()}
        save_checkpoint(self.path, self.made_for, state, tensors)
        self.saved = time.monotonic()

    def _remove_checkpoint(self) -> None:
        if self.path is None or not self.world.leads:
            return
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


def _seed(*place: int) -> int:
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])


def _copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}
