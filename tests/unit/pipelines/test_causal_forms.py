"""Every named form of the network: in pieces as whole, what each choice does, and that all of it learns."""

import dataclasses
import itertools
import tomllib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pipelines
from pipelines.causal_config import CHOICES, NetConfig
from pipelines.causal_data import RowsBatch
from pipelines.causal_decoders import LinearAttention
from pipelines.causal_net import Bottleneck, CausalNet, ProcessBatch
from pipelines.causal_reverse import ReverseNet
from pipelines.causal_sensor import per_sample

BASE = NetConfig(sensor=6, video=5, audio=4, targets=3, queries=8, programs=2, d=16, d_sensor=8, d_state=4)
T = 23
STREAMING = [
    dataclasses.replace(BASE, **change)
    for change in (
        *({"decoder": d, "sensor_encoder": s} for d in CHOICES["decoder"] for s in CHOICES["sensor_encoder"]),
        *({"modulation": m} for m in CHOICES["modulation"]),
    )
]
EVERY = [
    *STREAMING,
    *(dataclasses.replace(BASE, form="bidirectional", sensor_encoder=s) for s in ("mamba", "gru", "mean")),
    *(dataclasses.replace(BASE, target=t) for t in CHOICES["target"]),
    dataclasses.replace(BASE, sensor_scaling="per_sample"),
]


def name(config: NetConfig) -> str:
    changed = [str(v) for k, v in dataclasses.asdict(config).items() if v != getattr(BASE, k)]
    return "-".join(changed) or "default"


def batch(size: int = 2, tokens: int = T) -> ProcessBatch:
    g = torch.Generator().manual_seed(0)
    known = torch.ones(size, tokens, dtype=torch.bool)
    steps = torch.cat([torch.randn(size, 10 * tokens, 3, generator=g), torch.ones(size, 10 * tokens, 3)], -1)
    video, audio = (torch.randn(size, tokens, k, generator=g) for k in (5, 4))
    there = torch.ones(size, dtype=torch.bool)
    return ProcessBatch(steps, video, known, audio, known, known, torch.arange(size) % 2, there)


def made(config: NetConfig) -> CausalNet:
    torch.manual_seed(1)
    net = CausalNet(config).eval()
    for parameter in net.parameters():  # zero-initialised parts would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def piece(b: ProcessBatch, start: int, stop: int) -> ProcessBatch:
    tokens = (t[:, start:stop] for t in b[1:6])
    return ProcessBatch(b.steps[:, 10 * start : 10 * stop], *tokens, b.program, b.sensor)


@pytest.mark.parametrize("config", STREAMING, ids=name)
@settings(max_examples=6, deadline=None)
@given(cuts=st.sets(st.integers(1, T - 1), max_size=5))
def test_any_pieces_give_what_the_whole_gives(config: NetConfig, cuts: set[int]) -> None:
    net, whole = made(config), batch()
    states, sums = None, None
    with torch.no_grad():
        for start, stop in itertools.pairwise([0, *sorted(cuts), T]):
            part = piece(whole, start, stop)
            encoded, states = net.sensor(part.steps, states)
            sums = net.accumulate(*net.encode(encoded, part, start), sums)
        assert sums is not None
        torch.testing.assert_close(net.decode(sums, whole.program), net(whole), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", EVERY, ids=name)
def test_every_parameter_learns(config: NetConfig) -> None:
    net = made(config).train()
    rows, known = torch.randn(2, 8, 3), torch.ones(2, 8, dtype=torch.bool)
    loss = (net(batch()) - net.target(rows, known)[0]).square().mean()
    learning = net.target.learning(rows)
    if learning is not None:
        loss = loss + learning.square().mean()
    loss.backward()
    strength = {n: 0.0 if p.grad is None else float(p.grad.abs().max()) for n, p in net.named_parameters()}
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    idle = set()
    if config.decoder == "linattn_1tok":  # one token: what attends to it does not matter, but for rounding
        idle = {n for n in strength if ".attend.query." in n or ".attend.key." in n}
    assert {n for n, g in strength.items() if g == 0.0} - idle == frozen
    assert max((strength[n] for n in idle), default=0.0) < 1e-4 * max(strength.values())


@pytest.mark.parametrize("config", EVERY, ids=name)
def test_padding_changes_nothing(config: NetConfig) -> None:
    net, b = made(config), batch()
    mask = torch.arange(T)[None].expand(2, T) < 15
    steps = b.steps * mask.repeat_interleave(10, 1)[..., None]
    padded = b._replace(steps=steps, tokens=mask, video_known=mask, audio_known=mask)
    torch.testing.assert_close(net(padded), net(piece(b, 0, 15)), atol=1e-5, rtol=1e-5)


def test_over_one_token_linear_attention_is_its_value() -> None:
    torch.manual_seed(0)
    attend, x = LinearAttention(16, 4), torch.randn(3, 1, 16)
    found = attend(x, *attend.sums(x, torch.ones(3, 1)))
    torch.testing.assert_close(found, attend.out(attend.value(x)), atol=1e-5, rtol=1e-5)
    two = torch.randn(3, 2, 16)
    found = attend(two, *attend.sums(two, torch.ones(3, 2)))
    assert not torch.allclose(found, attend.out(attend.value(two)), atol=1e-3)


def test_softmax_attention_reads_what_torch_reads_and_zeros_from_nothing() -> None:
    net, b = made(dataclasses.replace(BASE, decoder="softmax_tokens")), batch()
    nothing = torch.zeros_like(b.tokens)
    deaf = b._replace(tokens=nothing, video_known=nothing, audio_known=nothing)
    assert torch.isfinite(net(deaf)).all()
    hidden = b._replace(video_known=nothing)
    torch.testing.assert_close(net(hidden), net(hidden._replace(video=b.video + 3.0)))
    assert not torch.allclose(net(hidden), net(b))


def test_mask_and_noise_are_switched_separately() -> None:
    x = torch.randn(50, 40)
    both_off, mask, noise = Bottleneck(0.0, 0.0), Bottleneck(0.3, 0.0), Bottleneck(0.0, 0.1)
    assert torch.equal(both_off(x), x)
    masked = mask(x)
    kept = masked != 0
    assert 0.6 < kept.float().mean() < 0.8
    torch.testing.assert_close(masked[kept], x[kept] / 0.7)
    off = noise(x) - x
    assert 0.08 < off.std() / x.std() < 0.12
    assert (off != 0).float().mean() > 0.99


def test_both_directions_let_the_start_know_the_end() -> None:
    b = batch()
    late = b._replace(steps=torch.cat([b.steps[:, :200], b.steps[:, 200:] + 1.0], 1))
    for form, differs in (("streaming", False), ("bidirectional", True)):
        net = made(dataclasses.replace(BASE, form=form, modulation="film"))
        deaf = [x._replace(video_known=b.video_known & (torch.arange(T) < 5)) for x in (b, late)]
        blind = [x._replace(audio_known=torch.zeros_like(b.audio_known)) for x in deaf]
        assert (not torch.allclose(net(blind[0]), net(blind[1]))) == differs


def test_without_waveforms_nothing_is_modulated() -> None:
    net, b = made(BASE), batch()
    gone = b._replace(sensor=torch.zeros(2, dtype=torch.bool))
    torch.testing.assert_close(net(gone), net(gone._replace(steps=b.steps + 3.0)))
    assert net.film is not None
    torch.nn.init.zeros_(net.film.weight)
    torch.nn.init.zeros_(net.film.bias)
    plain = b._replace(tokens=torch.zeros_like(b.tokens))
    torch.testing.assert_close(net(gone), net(plain))


def test_per_sample_scaling_loses_the_level_and_no_more() -> None:
    net, b = made(dataclasses.replace(BASE, sensor_scaling="per_sample")), batch()
    louder = b.steps.clone()
    louder[..., :3] = 2.0 * louder[..., :3] + 5.0
    torch.testing.assert_close(net(b._replace(steps=louder)), net(b), atol=1e-4, rtol=1e-4)
    scaled = per_sample(b.steps)[..., :3]
    torch.testing.assert_close(scaled.mean(1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(1, correction=0), torch.ones(2, 3), atol=1e-5, rtol=0)
    half = b.steps.clone()
    half[:, 100:] = 0.0  # not measured
    torch.testing.assert_close(per_sample(half)[:, :100], per_sample(b.steps[:, :100]))


@pytest.mark.parametrize(("views", "expected"), [("max", 3.0), ("mean", 2.0)])
def test_views_are_pooled_over_those_that_there_are(views: str, expected: float) -> None:
    config = dataclasses.replace(BASE, views=views, queries=4)
    rows = torch.cat([torch.full((1, 4, 3), v) for v in (1.0, 3.0, 99.0)], 1)
    known = torch.tensor([[True] * 7 + [False] * 5])
    z, there = CausalNet(config).target(rows, known)
    assert z.shape == (1, 4, 3)
    assert z[0, :3].tolist() == [[expected] * 3] * 3
    assert z[0, 3].tolist() == [1.0] * 3
    assert there.all()
    assert not CausalNet(config).target(rows, torch.zeros_like(known))[1].any()


@pytest.mark.parametrize("decoder", CHOICES["decoder"])
def test_the_other_way_round_takes_every_decoder(decoder: str) -> None:
    config = dataclasses.replace(BASE, direction="reverse", decoder=decoder)
    torch.manual_seed(0)
    net = ReverseNet(config).eval()
    torch.nn.init.normal_(net.decoder.out.weight)
    rows, known = torch.randn(2, 8, 3), torch.arange(8)[None].expand(2, 8) < 5
    found = net(RowsBatch(rows, known, torch.tensor([0, 1])))
    assert found.shape == (2, 8, 3)
    other = rows + 4.0 * ~known[..., None]
    torch.testing.assert_close(net(RowsBatch(other, known, torch.tensor([0, 1]))), found)
    assert not torch.allclose(net(RowsBatch(rows + 1.0, known, torch.tensor([0, 1]))), found)


def test_a_choice_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="decoder is 'magic'; choose one of mlp, linattn_1tok"):
        dataclasses.replace(BASE, decoder="magic")
    with pytest.raises(ValueError, match="ReverseNet"):
        CausalNet(dataclasses.replace(BASE, direction="reverse"))


def test_what_a_cell_cannot_run_is_named() -> None:
    assert BASE.bench_only == ()
    odd = dataclasses.replace(BASE, form="bidirectional", target="ema")
    assert odd.bench_only == ("form = bidirectional", "target = ema")


def test_a_model_that_names_no_form_has_the_products() -> None:
    from safetensors.torch import load_file

    shipped = Path(pipelines.__file__).parent / "demo_model"
    about = tomllib.loads((shipped / "model.toml").read_text())["net"]
    sizes = {n: about[n] for n in ("sensor", "video", "audio", "targets", "queries", "programs")}
    net = CausalNet(NetConfig(**sizes))
    assert net.config.bench_only == ()
    tensors = load_file(shipped / "model.safetensors")
    own = {n.removeprefix("net."): v for n, v in tensors.items() if n.startswith("net.")}
    before = dict(own)
    net.load_state_dict(own)
    assert own.keys() == before.keys()
    assert sum(p.numel() for p in net.parameters()) == sum(v.numel() for v in own.values()) == 362_000


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
