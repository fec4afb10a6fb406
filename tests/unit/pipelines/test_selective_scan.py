"""The compiled scans against the written recurrence in float64: values, gradients, odd shapes, bad numbers."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipelines.selective_scan import cpp, numba_loops, scan, scan_ref
from pipelines.selective_scan.function import Inputs, Kernel, run
from tests.support.scans import arguments, kernels, reference

TOLERANCE = 1e-5
EXP2_ERROR = 2e-7
KERNELS = kernels()
SINGLE, DOUBLE = torch.float32, torch.float64


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return KERNELS[request.param]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def close(found: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(found.double(), wanted.double(), atol=tolerance, rtol=tolerance, equal_nan=True)


def gradients(f, inputs: Inputs, dtype: torch.dtype) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
    leaves = [t.detach().to(dtype).requires_grad_() for t in inputs]
    y, last = f(*leaves)
    steps = torch.linspace(0.0, 6.0, y.numel(), dtype=dtype).reshape(y.shape)
    found = torch.autograd.grad((y * steps.sin()).sum() + last.square().sum(), leaves)
    return tuple(found)


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(0, 3), length=st.integers(0, 300), channels=st.integers(1, 40), states=st.integers(1, 20))
@pytest.mark.parametrize("name", KERNELS)
def test_any_shape_agrees_with_the_recurrence(name: str, batch: int, length: int, channels: int, states: int) -> None:
    inputs = arguments(batch, length, channels, states)
    for found, wanted in zip(run(KERNELS[name], inputs), reference(inputs), strict=True):
        close(found, wanted)


@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 2), length=st.integers(1, 100), channels=st.integers(1, 150), states=st.integers(1, 20))
@pytest.mark.parametrize("name", KERNELS)
def test_any_shapes_gradients_agree_with_the_recurrence(
    name: str, batch: int, length: int, channels: int, states: int
) -> None:
    inputs = arguments(batch, length, channels, states)
    found = gradients(lambda *leaves: run(KERNELS[name], Inputs(*leaves)), inputs, SINGLE)
    for field, ours, theirs in zip(Inputs._fields, found, gradients(scan_ref, inputs, DOUBLE), strict=True):
        size = max(1.0, float(theirs.abs().max()))
        assert float((ours - theirs).abs().max()) <= TOLERANCE * size, field


@pytest.mark.parametrize(("length", "channels", "states"), [(7, 3, 2), (33, 1, 1), (40, 17, 3)])
def test_gradients_are_those_of_differences(kernel: Kernel, length: int, channels: int, states: int) -> None:
    leaves = tuple(t.requires_grad_() for t in arguments(2, length, channels, states, DOUBLE))
    assert torch.autograd.gradcheck(lambda *t: run(kernel, Inputs(*t)), leaves, fast_mode=True)


@pytest.mark.parametrize("name", ["scan", *KERNELS])
def test_a_long_seam_at_the_blocks_own_sizes(name: str) -> None:
    """Steps of 1 ms to 0.1 and decays up to 0.999: where single precision's roundings pile up the longest."""
    inputs = arguments(1, 4096, 128, 16)
    inputs = inputs._replace(
        dt=0.001 * 100 ** torch.rand(inputs.dt.shape, generator=torch.Generator().manual_seed(1))
    )
    inputs = inputs._replace(a=-torch.arange(1.0, 17).repeat(128, 1))
    found = scan(*inputs) if name == "scan" else run(KERNELS[name], inputs)
    for ours, theirs in zip(found, reference(inputs), strict=True):
        close(ours, theirs)


def test_one_sequence_in_pieces_is_the_whole(kernel: Kernel) -> None:
    inputs = arguments(2, 100, 19, 5)
    whole, last = run(kernel, inputs)
    h, parts = inputs.h, []
    for first, end in ((0, 1), (1, 1), (1, 33), (33, 65), (65, 100)):
        cut = {name: getattr(inputs, name)[:, first:end] for name in ("x", "dt", "b", "c")}
        y, h = run(kernel, inputs._replace(**cut, h=h))
        parts.append(y)
    close(torch.cat(parts, 1), whole)
    close(h, last)


def test_no_step_and_no_sequence_give_nothing_and_keep_the_state(kernel: Kernel) -> None:
    empty = arguments(2, 0, 5, 3)
    y, last = run(kernel, empty._replace(h=empty.h.requires_grad_()))
    assert y.shape == (2, 0, 5)
    assert torch.equal(last, empty.h)
    (grad,) = torch.autograd.grad(last.sum(), empty.h)
    assert torch.equal(grad, torch.ones_like(grad))
    y, last = run(kernel, arguments(0, 10, 5, 3))
    assert (y.shape, last.shape) == ((0, 10, 5), (0, 5, 3))


def test_a_step_that_forgets_everything_leaves_its_own_drive(kernel: Kernel) -> None:
    inputs = arguments(1, 40, 20, 4)
    inputs.dt[0, 20] = 1e6
    inputs.dt[0, 30] = 0.0  # and one that keeps everything
    for ours, theirs in zip(run(kernel, inputs), reference(inputs), strict=True):
        close(ours, theirs)
    reset = run(kernel, inputs._replace(h=inputs.h + 1e3))[0]
    assert torch.equal(reset[:, 20:], run(kernel, inputs)[0][:, 20:])


def test_a_state_that_fades_to_nothing_becomes_exactly_nothing(kernel: Kernel) -> None:
    inputs = arguments(1, 300, 20, 4)
    faded = inputs._replace(x=torch.zeros_like(inputs.x), dt=torch.ones_like(inputs.dt), a=-torch.ones(20, 4))
    _, last = run(kernel, faded)
    assert not last.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["x", "dt", "b", "c"])
def test_a_bad_number_never_comes_out_as_a_good_one(kernel: Kernel, field: str, bad: float) -> None:
    inputs = arguments(1, 50, 37, 5)
    getattr(inputs, field)[0, 20, 2] = bad
    for ours, theirs in zip(run(kernel, inputs), reference(inputs), strict=True):
        assert torch.equal(ours.isnan(), theirs.isnan())
        assert torch.equal(ours.isinf(), theirs.isinf())
        finite = theirs.isfinite()
        close(ours[finite], theirs[finite])


def test_nan_in_one_channel_or_sequence_stays_there(kernel: Kernel) -> None:
    inputs = arguments(2, 50, 37, 5)
    clean = run(kernel, inputs)[0]
    inputs.x[1, 20, 7] = float("nan")
    found = run(kernel, inputs)[0]
    assert found[1, 20:, 7].isnan().all()
    found[1, 20:, 7] = clean[1, 20:, 7]
    assert torch.equal(found, clean)


def test_memory_that_is_not_dense_is_read_right(kernel: Kernel) -> None:
    inputs = arguments(2, 33, 18, 6)
    strided = Inputs(*(t.movedim(-1, 0).contiguous().movedim(0, -1) for t in inputs))
    strided = strided._replace(d=torch.stack([inputs.d, inputs.d], 1)[:, 0], x=strided.x[..., :18])
    assert not any(t.is_contiguous() for t in strided)
    wanted = gradients(lambda *t: run(kernel, Inputs(*t)), inputs, SINGLE)
    for ours, theirs in zip(run(kernel, strided), run(kernel, inputs), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(gradients(lambda *t: run(kernel, Inputs(*t)), strided, SINGLE), wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_the_number_of_threads_changes_no_bit(kernel: Kernel, two_threads: None) -> None:
    inputs = arguments(3, 256, 200, 16)
    many = (*run(kernel, inputs), *gradients(lambda *t: run(kernel, Inputs(*t)), inputs, SINGLE))
    torch.set_num_threads(1)
    one = (*run(kernel, inputs), *gradients(lambda *t: run(kernel, Inputs(*t)), inputs, SINGLE))
    assert all(torch.equal(a, b) for a, b in zip(many, one, strict=True))


def test_two_threads_may_scan_at_once(kernel: Kernel, two_threads: None) -> None:
    inputs = arguments(2, 256, 200, 16)
    wanted, found = run(kernel, inputs)[0], []

    def work() -> None:
        found.extend(run(kernel, inputs)[0] for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 15
    assert all(torch.equal(y, wanted) for y in found)


@pytest.mark.parametrize("field", Inputs._fields)
def test_a_wrong_shape_or_type_is_named_before_memory_is_touched(kernel: Kernel, field: str) -> None:
    inputs = arguments(2, 10, 5, 3)
    tensor = getattr(inputs, field)
    if field not in ("x", "a"):
        with pytest.raises(ValueError, match=f"^{field} must have shape"):
            run(kernel, inputs._replace(**{field: tensor[..., :-1]}))
        with pytest.raises(ValueError, match=f"^{field} is torch.float64"):
            run(kernel, inputs._replace(**{field: tensor.double()}))
    with pytest.raises(ValueError, match=r"must be|must have shape"):
        run(kernel, inputs._replace(**{field: tensor[None]}))


def test_inputs_are_left_as_they_were(kernel: Kernel) -> None:
    inputs, before = arguments(2, 40, 18, 4), arguments(2, 40, 18, 4)
    run(kernel, inputs)
    gradients(lambda *t: run(kernel, Inputs(*t)), inputs, SINGLE)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def _exp2(name: str, z: Tensor) -> Tensor:
    if name == "numba":
        out = torch.empty_like(z)
        numba_loops.exp2(z.numpy(), out.numpy())
        return out
    return cpp.exp2(z, name.removeprefix("cpp-"))


@pytest.mark.parametrize("name", KERNELS)
def test_the_exponential_is_within_its_stated_error(name: str) -> None:
    z = torch.cat([torch.linspace(-126, 127, 2_000_001), torch.linspace(-0.01, 0.01, 200_001)])
    exact = torch.exp2(z.double())
    error = (_exp2(name, z).double() - exact) / exact
    assert float(error.abs().max()) <= EXP2_ERROR
    near_one = error[-200_001:]  # decays lie here: a bias would add up over a time constant
    assert abs(float(near_one.mean())) < 1e-9
    double = torch.linspace(-1000, 1000, 100_001, dtype=DOUBLE)
    relative = _exp2(name, double) / torch.exp2(double) - 1
    assert float(relative.abs().max()) < (2e-13 if name == "numba" else 1e-15)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("name", KERNELS)
def test_the_exponentials_ends(name: str, dtype: torch.dtype) -> None:
    inf, nan = float("inf"), float("nan")
    z = torch.tensor([nan, -inf, inf, -1e30, 1e30, -1080.0, 1030.0, 0.0, -0.0, 1e-30], dtype=dtype)
    wanted = torch.tensor([nan, 0, inf, 0, inf, 0, inf, 1, 1, 1], dtype=dtype)
    torch.testing.assert_close(_exp2(name, z), wanted, equal_nan=True, atol=0, rtol=0)


PEAK = """
import resource, sys, torch
from tests.support.scans import arguments, kernels
from pipelines.selective_scan.function import Inputs, run
kernel = kernels()[sys.argv[1]]
def both(inputs):
    leaves = Inputs(*(t.requires_grad_() for t in inputs))
    with torch.no_grad():
        run(kernel, leaves)
    forward = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(kernel, leaves)[0].sum().backward()
    return forward, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
both(arguments(1, 64, 128, 64))  # what compiling and torch's own first backward take
inputs = arguments(1, 16384, 128, 64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
forward, backward = both(inputs)
print((forward - before) // 1024, (backward - before) // 1024)
"""


@pytest.mark.parametrize("name", ["numba", next(iter(KERNELS))])
def test_no_array_over_steps_channels_and_states_is_ever_held(name: str) -> None:
    """That array would have 512 MB here. x has 8 MB; forward adds y, backward the kept states and the gradients."""
    run_it = [sys.executable, "-c", PEAK, name]
    done = subprocess.run(run_it, capture_output=True, text=True, timeout=100, check=True)
    forward_mb, backward_mb = map(int, done.stdout.split())
    assert forward_mb <= 40
    assert backward_mb <= 160
