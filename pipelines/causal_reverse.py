"""The other way round, for the bench: from the result's rows to the process that must have made them.

Same bottleneck, decoders, targets and scores as `pipelines/causal_net.py`; the input is rows instead of waveforms.
"""

import torch
from torch import Tensor, nn

from pipelines.causal_config import NetConfig
from pipelines.causal_data import RowsBatch
from pipelines.causal_decoders import decoder
from pipelines.causal_net import Bottleneck, positions, projector
from pipelines.causal_targets import target_of

__all__ = ["ReverseNet"]


class ReverseNet(nn.Module):
    """Result rows (B, Q, K) → process rows (B, Q, K)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        if config.direction != "reverse" or config.views != "each":
            raise ValueError("ReverseNet takes direction = reverse and views = each")
        self.config = config
        self.project = projector(config.targets, config.d)
        self.program = nn.Embedding(config.programs, config.d)
        self.kind = nn.Parameter(0.02 * torch.randn(config.d))
        self.bottleneck = Bottleneck(config.mask_ratio, config.noise_std)
        self.decoder = decoder(config)
        self.target = target_of(config)

    def forward(self, batch: RowsBatch) -> Tensor:
        """Predicted process rows (B, Q, K), standardised."""
        program = self.program(batch.program)
        place = positions(0, batch.rows.shape[1], self.config.d).to(batch.rows)
        tokens = self.project(batch.rows) + place + program[:, None] + self.kind
        out: Tensor = self.decoder(self.decoder.sums(self.bottleneck(tokens), batch.known.to(tokens)), program)
        return out
