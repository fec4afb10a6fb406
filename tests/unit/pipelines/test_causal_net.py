"""The network's streaming parts against its forward pass, its causality and its start."""

import torch

from pipelines.causal_net import CausalNet, NetConfig, ProcessBatch

CONFIG = NetConfig(sensor=6, video=5, audio=4, targets=3, queries=8, programs=2, d=16, d_sensor=8, d_state=4)
T = 23


def batch(size: int = 2, tokens: int = T) -> ProcessBatch:
    g = torch.Generator().manual_seed(0)
    known = torch.ones(size, tokens, dtype=torch.bool)
    return ProcessBatch(
        torch.randn(size, 10 * tokens, 6, generator=g),
        torch.randn(size, tokens, 5, generator=g),
        known,
        torch.randn(size, tokens, 4, generator=g),
        known,
        known,
        torch.arange(size) % 2,
        torch.ones(size, dtype=torch.bool),
    )


def net() -> CausalNet:
    torch.manual_seed(1)
    made = CausalNet(CONFIG).eval()
    for parameter in made.parameters():  # zero-initialised parts would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def piece(b: ProcessBatch, start: int, stop: int) -> ProcessBatch:
    tokens = (t[:, start:stop] for t in b[1:6])
    return ProcessBatch(b.steps[:, 10 * start : 10 * stop], *tokens, b.program, b.sensor)


def test_pieces_with_running_sums_equal_the_whole() -> None:
    model, whole = net(), batch()
    expected = model(whole)
    states, sums = None, None
    for start in range(0, T, 7):
        part = piece(whole, start, min(start + 7, T))
        encoded, states = model.sensor(part.steps, states)
        tokens, known = model.encode(encoded, part, start)
        sums = model.accumulate(tokens, known, sums)
    assert sums is not None
    torch.testing.assert_close(model.decode(sums, whole.program), expected, atol=1e-5, rtol=1e-5)


def test_running_sums_do_not_grow_with_the_seam() -> None:
    model = net()

    def size(tokens: int) -> int:
        b = batch(tokens=tokens)
        sums = model.accumulate(*model.encode(model.sensor(b.steps, None)[0], b, 0), None)
        return sum(t.numel() for group in sums for t in group)

    assert size(5) == size(50)


def test_masked_tokens_do_not_count() -> None:
    model, b = net(), batch()
    hidden = b._replace(video_known=torch.zeros_like(b.video_known))
    other = hidden._replace(video=b.video + 3.0)
    torch.testing.assert_close(model(hidden), model(other))
    assert not torch.allclose(model(hidden), model(b))


def test_padding_changes_nothing() -> None:
    model, b = net(), batch()
    short = piece(b, 0, 15)
    mask = torch.arange(T)[None] < 15
    padded = b._replace(tokens=mask.expand(2, T), video_known=mask.expand(2, T), audio_known=mask.expand(2, T))
    torch.testing.assert_close(model(padded), model(short), atol=1e-5, rtol=1e-5)


def test_a_new_network_predicts_the_mean_and_modulates_nothing() -> None:
    torch.manual_seed(0)
    fresh = CausalNet(CONFIG).eval()
    assert torch.equal(fresh(batch()), torch.zeros(2, 8, 3))
    assert torch.equal(fresh.film.weight, torch.zeros_like(fresh.film.weight))


def test_the_bottleneck_is_noisy_in_training_only() -> None:
    model, b = net(), batch()
    assert torch.equal(model(b), model(b))
    model.train()
    assert not torch.allclose(model(b), model(b))
