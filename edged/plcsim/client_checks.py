"""`edged plc-sim client`: a daemon is played against an integrator's client, scene by scene.

Scenes are rows of a table, played in order on one `Stage`; each says what is wrong, or None. One scene may tell of
several clauses.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from edged.keys import KeyStore
from edged.plcsim.clauses import CLIENT, Outcome
from edged.plcsim.stage import NOT_OK, Due, Stage, compare
from edged.types import Label

__all__ = ["check_client"]

CONNECT_S = 30.0
JOIN_S = 1.0
OLD_ENTRIES = 40
PROGRAMS = ("bracket", "lap", "rail")
STALE_AFTER_S = 3.0
STALE_WITHIN_S = 3.0
"""How much later than three seconds without a heartbeat a client may say so."""

LIVE_WITHIN_S = 4.0
LOST_AT_ONCE = 2_500
LOST_WITHIN_S = 30.0
OVERSIZED_BYTES = 2 * 1024 * 1024
WRONG_KEY_S = 2.0
NOTICE_S = 3.0
RECONNECT_S = 15.0

NO_LABELS: tuple[Any, ...] = (7, -1, True, 1.0, 1.5, "1", None, [1], {}, 2**63, ...)
"""The last one stands for no label at all."""

Said = dict[str, str | None]
"""Clause → what is wrong, None where nothing is."""


class NotTried(Exception):
    """The scene cannot be played here; the text is why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scene:
    """What is played, and which clauses it tells of."""

    clauses: tuple[str, ...]
    play: Callable[[Stage], Said]


def check_client(stage: Stage, only: Collection[str] = ()) -> list[Outcome]:
    """Every scene, in order; with `only`, those of these clauses. A client that never says anything fails in all."""
    found: dict[str, Outcome] = {}
    is_there = _begin(stage)
    if only and "C2" not in only:
        stage.delivery.serve(JOIN_S)
        stage.skip()
    for scene in SCENES:
        if only and not set(only) & set(scene.clauses):
            continue
        if not is_there:
            said: Said = dict.fromkeys(scene.clauses, "the client never said live, and accepted nothing")
        else:
            try:
                said = scene.play(stage)
            except NotTried as why:
                found |= {clause: Outcome(clause, "skip", str(why)) for clause in scene.clauses}
                continue
        for clause, problem in said.items():
            found[clause] = Outcome(clause, "pass" if problem is None else "fail", problem or "")
    return [found[clause] for clause in CLIENT if clause in found]


def _begin(stage: Stage) -> bool:
    """A daemon whose journal is not empty; whether the client came and said so."""
    stage.enter()
    for number in range(OLD_ENTRIES):
        stage.publish(program=PROGRAMS[number % len(PROGRAMS)])
    return stage.until(lambda: bool(stage.reports.states or stage.reports.accepted), CONNECT_S)


def _late_join(stage: Stage) -> Said:
    stage.delivery.serve(JOIN_S)
    old = list(stage.due)
    said = [(report.sequence, report.label, report.seam_id) for report in stage.reports.accepted]
    # Whether a client wants old verdicts is its own choice; those that it takes must be true, once and in order.
    problem = compare([Due(item.sequence, item.seam_id, item.labels | {None}) for item in old], said)
    stage.skip()
    for number in range(6):
        stage.publish(program=PROGRAMS[number % len(PROGRAMS)])
    return {"C2": problem or stage.settle()}


def _labels(stage: Stage) -> Said:
    for label in (Label.OK, Label.NOK, Label.INDETERMINATE, Label.OK):
        stage.publish(label)
        stage.publish_part()
    return {"C1": stage.settle()}


def _gap(stage: Stage) -> Said:
    stage.publish()
    stage.lose(5)
    stage.publish(Label.NOK)
    return {"C3": stage.settle()}


def _gap_at_the_end(stage: Stage) -> Said:
    stage.publish()
    stage.lose(3)
    return {"C4": stage.settle()}


def _restart(stage: Stage) -> Said:
    stage.publish()
    stage.restart()
    stage.lose(4)
    stage.publish()
    return {"C5": stage.settle(RECONNECT_S)}


def _duplicate(stage: Stage) -> Said:
    stage.publish(times=3)
    stage.publish()
    return {"C7": stage.settle()}


def _silence(stage: Stage) -> Said:
    stage.publish()
    problem = stage.settle()
    stage.delivery.beat()
    stage.delivery.beats, began_s, mark = False, time.monotonic(), len(stage.reports.states)

    def said(state: str) -> bool:
        return any(found == state for _, found in stage.reports.states[mark:])

    is_stale = stage.until(lambda: said("stale"), STALE_AFTER_S + STALE_WITHIN_S)
    at_s = time.monotonic() - began_s
    stage.delivery.beats = True
    if not is_stale:
        problem = problem or f"no stale within {STALE_AFTER_S + STALE_WITHIN_S:g} s of silence"
        return {"C8": problem, "C9": "it never said stale"}
    if at_s < STALE_AFTER_S / 2:
        problem = problem or f"stale after only {at_s:.1f} s"
    mark = len(stage.reports.states)
    is_live = stage.until(lambda: said("live"), LIVE_WITHIN_S)
    stage.publish()
    missing = stage.settle()
    return {"C8": problem, "C9": missing if is_live else f"no live within {LIVE_WITHIN_S:g} s of a heartbeat"}


def _standing_still(stage: Stage) -> Said:
    with stage.standing_still():
        stage.lose(LOST_AT_ONCE // 2)
        for _ in range(20):
            stage.publish()
        stage.lose(LOST_AT_ONCE // 2)
    stage.publish()
    return {"C10": stage.settle(LOST_WITHIN_S)}


def _oversized(stage: Stage) -> Said:
    stage.publish()
    stage.send("verdict/bracket", stage.forged(detail="x" * OVERSIZED_BYTES))
    stage.delivery.serve(0.5)
    stage.publish(Label.NOK)
    stage.publish()
    problem = stage.settle(RECONNECT_S)
    stage.delivery.serve(STALE_AFTER_S + 1.0)  # a client whose connection has ended for good says so within this
    if not stage.until(lambda: not stage.reports.is_stale, RECONNECT_S):
        problem = problem or f"still stale {RECONNECT_S:g} s later"
    return {"C12": problem}


def _nonsense(stage: Stage) -> Said:
    stage.publish()
    forged = stage.forged()
    for payload in (b"", b"\xc1", b"\x91" * 2000, [1, 2, 3], "text", {1: 2}, {}, 7, None):
        stage.send("verdict/bracket", payload)
    for topic in ("live", "health", "heartbeat", "tomorrow", "verdict"):
        stage.send(topic, forged)
    stage.delivery.beat()
    stage.publish()
    return {"C16": stage.settle()}


def _odd(stage: Stage) -> Said:
    """Entries of the journal that only a newer or a broken daemon writes."""
    stage.skip()
    odd: list[tuple[str, dict[str, Any]]] = [
        ("C13", {"label": 1, "tomorrow": {"a": [1, 2]}, "more": "x"}),
        ("C14", {"label": 1, "schema": 2}),
        ("C14", {"label": 1, "schema": "1"}),
        *(("C15", {"label": label}) for label in NO_LABELS),
    ]
    due = stage.write_odd([change for _, change in odd])
    due = [
        dataclasses.replace(item, labels=frozenset({1}) if clause == "C13" else NOT_OK)
        for item, (clause, _) in zip(due, odd, strict=True)
    ]
    clause_of = {item.sequence: clause for item, (clause, _) in zip(due, odd, strict=True)}
    start = len(stage.reports.accepted)
    stage.due = list(due)
    stage.publish()
    problem = stage.settle(RECONNECT_S)
    said: Said = {}
    for clause in ("C13", "C14", "C15"):
        of = [item for item in due if clause_of[item.sequence] == clause]
        those = [r for r in stage.reports.accepted[start:] if clause_of.get(r.sequence) == clause]
        said[clause] = compare(of, [(r.sequence, r.label, r.seam_id) for r in those])
    if problem is not None and not any(said.values()):
        said["C15"] = problem
    return said


def _new_journal(stage: Stage) -> Said:
    stage.publish()
    problem = stage.settle()
    stage.new_journal()
    for label in (Label.OK, Label.NOK, Label.OK):
        stage.publish(label)
    return {"C6": problem or stage.settle(RECONNECT_S)}


def _set_back(stage: Stage) -> Said:
    stage.publish()
    with stage.set_back():
        for _ in range(3):
            stage.publish()
        problem = stage.settle(RECONNECT_S)
    stage.delivery.serve(NOTICE_S)  # once numbers are taken again, nobody can tell that they were others before
    for label in (Label.NOK, Label.OK):
        stage.publish(label)
    return {"C17": problem or stage.settle(RECONNECT_S)}


def _wrong_key(stage: Stage) -> Said:
    if stage.keys is None:
        raise NotTried("no --keys")
    stage.publish()
    problem = stage.settle()
    stage.leave()
    other = _other_daemon(stage.keys)
    before = len(stage.reports.accepted)
    stage.enter(other)
    stage.publish()
    stage.delivery.serve(WRONG_KEY_S)
    count = len(stage.reports.accepted) - before
    stage.restart()
    stage.publish()
    return {"C11": problem or (f"{count} verdicts were accepted" if count else stage.settle(RECONNECT_S))}


def _other_daemon(keys: Path) -> Path:
    """Keys of another daemon that knows the same clients."""
    other = keys.parent / f"{keys.name}-other"
    if not other.exists():
        KeyStore(other).make_server()
        clients = other / "clients.toml"
        clients.write_bytes((keys / "clients.toml").read_bytes())
        clients.chmod(0o600)
    return other


SCENES: Sequence[Scene] = (
    Scene(("C2",), _late_join),
    Scene(("C1",), _labels),
    Scene(("C3",), _gap),
    Scene(("C4",), _gap_at_the_end),
    Scene(("C7",), _duplicate),
    Scene(("C16",), _nonsense),
    Scene(("C5",), _restart),
    Scene(("C13", "C14", "C15"), _odd),
    Scene(("C10",), _standing_still),
    Scene(("C8", "C9"), _silence),
    Scene(("C11",), _wrong_key),
    Scene(("C6",), _new_journal),
    Scene(("C17",), _set_back),
    Scene(("C12",), _oversized),  # last: a client that does not come back from it would fail in all that follow
)
assert {clause for scene in SCENES for clause in scene.clauses} == set(CLIENT)
