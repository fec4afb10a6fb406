"""The example clients of docs/clients in C, JavaScript and Python, as commands.

`.ci/setup-clients` installs what they need; where it has not run, they are left out, but never in CI.
"""

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["LANGUAGES", "missing", "soft_plcs"]

CLIENTS = Path(__file__).parents[2] / "docs" / "clients"
HEADERS = [Path("/usr/include/zmq.h"), Path("/usr/include/msgpack.h")]


def missing() -> dict[str, str]:
    """Language → why its example cannot run here."""
    found = {}
    if shutil.which("cc") is None or not all(path.exists() for path in HEADERS):
        found["c"] = "a C compiler, libzmq3-dev and libmsgpack-dev are needed"
    if shutil.which("node") is None or not (CLIENTS / "node_modules" / "zeromq").exists():
        found["mjs"] = "node and its packages in docs/clients are needed"
    return found


LANGUAGES = [name for name in ("py", "c", "mjs") if name not in missing()]


def soft_plcs(folder: Path) -> dict[str, list[str]]:
    """Language → how its example is run; the one in C is compiled into `folder`."""
    found = {"py": [sys.executable, str(CLIENTS / "soft_plc.py")], "mjs": ["node", str(CLIENTS / "soft_plc.mjs")]}
    if "c" in LANGUAGES:
        program = folder / "soft_plc"
        strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-fsanitize=address,undefined"]
        source = str(CLIENTS / "soft_plc.c")
        subprocess.run(["cc", *strict, source, "-lzmq", "-lmsgpackc", "-o", str(program)], check=True, timeout=60)
        found["c"] = [str(program)]
    return {language: found[language] for language in LANGUAGES}
