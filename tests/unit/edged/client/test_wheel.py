"""The wheel `edged_client`: built, and run where there is nothing but pyzmq and msgpack."""

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import msgpack
import zmq

from tests.support.source import Source, free_endpoint

ROOT = Path(__file__).parents[4]
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import edged_client
with edged_client.Client(sys.argv[2], start="first") as client:
    found = [(entry.sequence, entry.is_ok) for _, entry in zip(range(2), client)]
roots = {name.partition(".")[0] for name in sys.modules if "cython" not in name} - set(sys.stdlib_module_names)
print(json.dumps([found, sorted(roots - {"__main__"}), edged_client.__file__]))
"""


def build(folder: Path) -> Path:
    """The wheel, made from a copy, so that no build folder stays in the source."""
    source = shutil.copytree(
        ROOT / "edged" / "client",
        folder / "source",
        ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"),
    )
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True, timeout=60)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_runs_with_pyzmq_and_msgpack_alone(tmp_path: Path) -> None:
    wheel = build(tmp_path)
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
        (metadata,) = [name for name in packed.namelist() if name.endswith("METADATA")]
        needed = [line for line in packed.read(metadata).decode().splitlines() if line.startswith("Requires-Dist")]
        assert "edged_client/py.typed" in packed.namelist()
    assert needed == ["Requires-Dist: pyzmq>=26", "Requires-Dist: msgpack>=1.0"]
    for package in (msgpack, zmq):
        folder = Path(str(package.__file__)).parent
        (site / folder.name).symlink_to(folder)
    if (libs := Path(str(zmq.__file__)).parents[1] / "pyzmq.libs").exists():
        (site / libs.name).symlink_to(libs)
    with Source(tmp_path / "journal.db", free_endpoint()) as source:
        source.add(2)
        # -I -S: neither this checkout nor the environment's packages can be found.
        command = [sys.executable, "-I", "-S", "-c", RUN, str(site), source.verdicts]
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    found, roots, file = json.loads(run.stdout)
    assert found == [[1, True], [2, True]]
    assert set(roots) <= {"edged_client", "zmq", "msgpack"}
    assert file.startswith(str(site))


def test_the_client_of_the_daemon_imports_nothing_of_it() -> None:
    script = "import json, sys, edged.client; print(json.dumps([name for name in sys.modules if 'edged.' in name]))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, cwd=ROOT, check=True
    )
    assert all(name.startswith("edged.client") for name in json.loads(run.stdout))


def test_versions_are_the_same() -> None:
    files = [ROOT / "pyproject.toml", ROOT / "edged" / "client" / "pyproject.toml"]
    one, other = [tomllib.loads(file.read_text())["project"]["version"] for file in files]
    assert one == other
