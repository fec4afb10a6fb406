"""Hides a stream of a seam now and then in training, so that a cell may lose one and keep scoring."""

import torch

from pipelines.causal_net import ProcessBatch

__all__ = ["drop_modalities"]


def drop_modalities(batch: ProcessBatch, share: float, sensor_share: float = 0.0) -> ProcessBatch:
    """`share` of the seams lose their video, as many their audio, `sensor_share` their waveforms; drawn by torch."""
    device = batch.program.device
    keep = torch.rand(3, len(batch.program), device=device) >= torch.tensor([[share], [share], [sensor_share]]).to(
        device
    )
    video, audio, sensor = keep
    return batch._replace(
        video=batch.video * video[:, None, None],
        video_known=batch.video_known & video[:, None],
        audio=batch.audio * audio[:, None, None],
        audio_known=batch.audio_known & audio[:, None],
        steps=batch.steps * sensor[:, None, None],
        sensor=batch.sensor & sensor,
    )
