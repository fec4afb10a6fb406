"""The virtual cell is frozen: a change of its physics shows as a change of the digest."""

from drivers.sim import FROZEN_DIGEST, SIM_VERSION
from drivers.sim.digest import physics_digest, source_digest

SOURCE = '''"""Doc."""
LIMIT = 3.0
"""Of it."""


def f(x):
    """More doc."""
    # Why.
    return x * LIMIT
'''


def test_the_physics_is_the_one_that_was_frozen() -> None:
    assert physics_digest() == FROZEN_DIGEST, (
        f"physics or severities differ from those of version {SIM_VERSION}: undo it, or follow docs/adr/0008"
    )


def test_comments_docstrings_and_formatting_do_not_count() -> None:
    bare = "LIMIT = 3.0\ndef f( x ):\n  return x*LIMIT\n"
    assert source_digest([SOURCE]) == source_digest([bare])


def test_a_changed_constant_or_formula_counts() -> None:
    assert source_digest([SOURCE.replace("3.0", "3.1")]) != source_digest([SOURCE])
    assert source_digest([SOURCE.replace("x * LIMIT", "x + LIMIT")]) != source_digest([SOURCE])
    assert source_digest([SOURCE, SOURCE]) != source_digest([SOURCE])
