"""The digest that freezes the virtual cell: over its physics and severity grid, blind to comments and formatting.

Results carry `SIM_VERSION` and this digest; a test holds it against `FROZEN_DIGEST`, so that nobody changes the
physics without noticing (docs/adr/0008 says what a change needs).
"""

import ast
import functools
import hashlib
from pathlib import Path

__all__ = ["PHYSICS", "physics_digest", "source_digest"]

PHYSICS = (
    "arc", "arc_camera", "arc_draw", "arc_kernel", "arc_scene", "arc_stage", "bead", "damage", "faults", "jpeg",
    "pairs", "photo_marks", "photograph", "profile", "programs", "randomness", "render", "seam", "sessions", "sound",
    "surface", "truth", "variation", "views",
)  # fmt: skip
"""Modules of this package that decide what a seam looks like and how grave a fault is."""


@functools.cache
def physics_digest() -> str:
    """16 hex digits over the code of `PHYSICS`."""
    here = Path(__file__).parent
    return source_digest([(here / f"{name}.py").read_text(encoding="utf-8") for name in PHYSICS])


def source_digest(sources: list[str]) -> str:
    """16 hex digits over what the sources do: their syntax trees without docstrings."""
    text = "\n".join(_canonical(ast.parse(source)) for source in sources)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(node: object) -> str:
    """The tree as text. Empty fields are left out, since Python versions differ in which they have."""
    if isinstance(node, list):
        return "[" + ",".join(_canonical(item) for item in node if not _is_note(item)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    inside = ",".join(f"{name}={_canonical(value)}" for name, value in fields if name not in ("kind", "ctx"))
    return f"{type(node).__name__}({inside})"


def _is_note(item: object) -> bool:
    """A string that stands as a statement: a docstring of a module, class, function or constant."""
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)
