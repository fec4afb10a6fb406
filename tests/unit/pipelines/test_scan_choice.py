"""Which scan runs: the best that loads, each on demand, and what is said when it is not the best."""

import logging
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines.mamba import Mamba
from pipelines.selective_scan import (
    BackendError,
    choice,
    cpp,
    forced_backend,
    numba_kernel,
    scan,
    scan_backend,
    selective_scan,
)
from tests.support.scans import arguments

ROOT = Path(__file__).parents[3]


@pytest.fixture
def afresh() -> Iterator[None]:
    choice._load.cache_clear()
    choice._best.cache_clear()
    yield
    choice._load.cache_clear()
    choice._best.cache_clear()


def available() -> list[str]:
    names = []
    for name in choice.BACKENDS:
        try:
            with forced_backend(name):
                names.append(name)
        except BackendError:
            continue
    return names


@pytest.mark.parametrize("name", available())
def test_each_form_runs_when_it_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for owner, at in ((cpp.CppKernel, "cpp"), (numba_kernel.NumbaKernel, "numba")):
        forward = owner.forward
        monkeypatch.setattr(owner, "forward", lambda *a, f=forward, at=at, **k: ran.append(at) or f(*a, **k))
    monkeypatch.setattr(choice.reference, "scan", lambda *a: ran.append("torch") or scan(*a))
    with forced_backend(name):
        assert scan_backend() == name
        y, _ = selective_scan(*arguments(1, 20, 5, 3))
    assert ran == [name]
    torch.testing.assert_close(y, scan(*arguments(1, 20, 5, 3))[0], atol=1e-5, rtol=1e-5)


def test_the_best_that_loads_is_chosen_and_said_once(afresh: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="edged.scan"):
        assert scan_backend() == available()[0]
        scan_backend()
    assert [r.message.split(",")[0].split(" (")[0] for r in caplog.records] == [f"selective scan: {available()[0]}"]


def test_without_the_library_numba_runs_and_the_log_says_how_to_get_it(
    afresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cpp, "LIBRARY", "_never_built")
    assert scan_backend() == "numba"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "install a C++ compiler and install edged again" in record.message


@pytest.mark.skipif("cpp" not in available(), reason="the C++ form was not built")
def test_a_library_of_another_version_is_refused(afresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp, "ABI", cpp.ABI + 1)
    assert scan_backend() == "numba"
    with pytest.raises(BackendError, match="of another version"), forced_backend("cpp"):
        pass


@pytest.mark.skipif("cpp" not in available(), reason="the C++ form was not built")
def test_an_instruction_set_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"no 'avx9000'; it has .*generic"):
        cpp.load("avx9000")


def test_with_neither_plain_torch_runs() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from pipelines.selective_scan import cpp, scan_backend, selective_scan\n"
        "from pipelines.selective_scan import choice\n"
        "cpp.LIBRARY = '_never_built'\n"
        "print(scan_backend())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch"
    assert "numba" in done.stderr  # and why


def test_half_types_take_plain_torch() -> None:
    inputs = [t.bfloat16() for t in arguments(1, 10, 4, 2)]
    y, _ = selective_scan(*inputs)
    assert y.dtype == torch.bfloat16


def test_a_block_can_be_exported_and_the_graph_agrees() -> None:
    torch.manual_seed(0)
    block, x = Mamba(d_model=8, d_state=4), torch.randn(1, 12, 8)
    graph = torch.export.export(block, (x,)).module()
    torch.testing.assert_close(graph(x)[0], block(x)[0], atol=1e-5, rtol=1e-5)


def test_without_a_compiler_the_build_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    built = _build(tmp_path, {"CC": "/bin/false", "CXX": "/bin/false", "PATH": "/nowhere"})
    assert built.returncode == 0, built.stderr
    assert "pipelines.selective_scan._kernel" in built.stderr
    assert not list(tmp_path.rglob("_kernel*.so"))


@pytest.mark.skipif("cpp" not in available(), reason="the C++ form was not built")
def test_with_a_compiler_the_build_gives_a_library_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    built = _build(tmp_path, {"CFLAGS": "-Wall -Wextra -Werror"})
    assert built.returncode == 0, built.stderr
    (library,) = tmp_path.rglob(f"_kernel{sysconfig.get_config_var('EXT_SUFFIX')}")
    assert library.parent.parts[-2:] == ("pipelines", "selective_scan")


def _build(out: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    where = ["--build-lib", str(out / "lib"), "--build-temp", str(out / "temp")]
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", *where],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
