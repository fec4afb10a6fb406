"""The block against the written recurrence, itself in pieces, and itself step by step."""

from collections.abc import Iterator

import pytest
import torch

from pipelines.mamba import Mamba, started
from pipelines.selective_scan import BackendError, forced_backend, scan, scan_ref
from pipelines.selective_scan.choice import BACKENDS

TOLERANCE = 1e-5


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of the block runs with each form of the scan."""
    try:
        forced = forced_backend(request.param)
        with forced:
            yield request.param
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture
def block() -> Mamba:
    torch.manual_seed(0)
    return Mamba(d_model=24, d_state=8)


def _arguments(length: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(length)
    x, dt = (torch.randn(2, length, 6, generator=g) for _ in range(2))
    a = -torch.exp(torch.randn(6, 4, generator=g))
    b, c = (torch.randn(2, length, 4, generator=g) for _ in range(2))
    return [
        x,
        torch.nn.functional.softplus(dt),
        a,
        b,
        c,
        torch.randn(6, generator=g),
        torch.randn(2, 6, 4, generator=g),
    ]


@pytest.mark.parametrize("length", [1, 15, 16, 17, 100])
def test_scan_agrees_with_its_reference_and_so_do_gradients(length: int) -> None:
    fast, plain = ([t.clone().requires_grad_() for t in _arguments(length)] for _ in range(2))
    (y, h), (y_ref, h_ref) = scan(*fast), scan_ref(*plain)
    torch.testing.assert_close(y, y_ref, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(h, h_ref, atol=TOLERANCE, rtol=TOLERANCE)
    (y.square().sum() + h.sum()).backward()
    (y_ref.square().sum() + h_ref.sum()).backward()
    for ours, reference in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours.grad, reference.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pieces", [[1] * 50, [50], [3, 47], [16, 17, 17], [1, 2, 3, 44]])
def test_pieces_with_carried_state_equal_the_whole(block: Mamba, pieces: list[int]) -> None:
    x = torch.randn(2, 50, 24)
    whole, last = block(x)
    state, parts = block.initial(2), []
    for part in x.split(pieces, 1):
        y, state = block(part, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(state.ssm, last.ssm, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(state.conv, last.conv, atol=TOLERANCE, rtol=TOLERANCE)


def test_step_equals_forward(block: Mamba) -> None:
    x = torch.randn(3, 20, 24)
    whole, _ = block(x)
    state = block.initial(3)
    for t in range(20):
        y, state = block.step(x[:, t], state)
        torch.testing.assert_close(y, whole[:, t], atol=TOLERANCE, rtol=TOLERANCE)


def test_is_causal(block: Mamba) -> None:
    x = torch.randn(1, 30, 24)
    changed = x.clone()
    changed[:, 20:] += 1.0
    before, after = block(x)[0], block(changed)[0]
    torch.testing.assert_close(after[:, :20], before[:, :20])
    assert not torch.allclose(after[:, 20], before[:, 20])


def test_steps_start_between_a_thousandth_and_a_tenth(block: Mamba) -> None:
    dt = torch.nn.functional.softplus(block.dt_proj.bias)
    assert 1e-3 <= dt.min() < 0.01
    assert 0.03 < dt.max() <= 0.1001


def test_parameter_names_are_the_published_ones(block: Mamba) -> None:
    assert {name.split(".")[0] for name, _ in block.named_parameters()} == {
        "in_proj", "conv1d", "x_proj", "dt_proj", "A_log", "D", "out_proj"
    }  # fmt: skip


def test_no_step_leaves_the_state(block: Mamba) -> None:
    _, state = block(torch.randn(2, 5, 24))
    y, after = block(torch.randn(2, 0, 24), state)
    assert y.shape == (2, 0, 24)
    assert torch.equal(after.ssm, state.ssm)
    assert torch.equal(after.conv, state.conv)


def test_a_block_learns_alike_with_every_form(block: Mamba) -> None:
    x = torch.randn(2, 40, 24, generator=torch.Generator().manual_seed(3))

    def gradients() -> list[torch.Tensor]:
        block.zero_grad()
        block(x)[0].square().mean().backward()
        return [p.grad.clone() for p in block.parameters() if p.grad is not None]

    ours = gradients()
    with forced_backend("torch"):
        theirs = gradients()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_scan_that_starts_from_nothing_can_be_given_a_state() -> None:
    """What the fused form for CUDA rests on, with the written recurrence in its place."""

    def from_zero(*arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, _, a = arguments[:3]
        return scan_ref(*arguments, x.new_zeros(len(x), *a.shape))

    ours, plain = ([t.clone().requires_grad_() for t in _arguments(20)] for _ in range(2))
    with torch.no_grad():
        for arguments in (ours, plain):
            arguments[2].mul_(16.0)  # the fastest fading that a block starts with, and more
    (y, h), (y_ref, h_ref) = started(from_zero)(*ours), scan_ref(*plain)
    torch.testing.assert_close(y, y_ref, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(h, h_ref, atol=TOLERANCE, rtol=TOLERANCE)
    (y.square().sum() + h.sum()).backward()
    (y_ref.square().sum() + h_ref.sum()).backward()
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
