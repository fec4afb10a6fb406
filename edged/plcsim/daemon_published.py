"""What a daemon publishes, as a PLC hears it: heartbeats, health, last values, the journal's own bytes."""

import itertools

from edged.plcsim.peer import Listener
from edged.plcsim.visit import Failed, Skipped, Visit, as_map, has_fields, must

__all__ = ["health", "heartbeats", "late_joiner", "same_bytes"]

SCHEMA = 1
BEATS = 3
BEAT_S = 1.0
BEAT_SLACK_S = 0.75
JOIN_S = 3.0
TOPICS = ("verdict/", "part", "health", "heartbeat", "live")


def heartbeats(visit: Visit) -> str:
    """Clause D1."""
    if not visit.listener.until(lambda: len(visit.listener.of("heartbeat")) >= BEATS, BEATS * BEAT_S + JOIN_S):
        raise Failed(f"{len(visit.listener.of('heartbeat'))} heartbeats within {BEATS * BEAT_S + JOIN_S:g} s")
    beats = visit.beats()
    for _, beat in beats:
        has_fields(
            beat, "heartbeat", kind=str, schema=int, journal_id=str, last_sequence=int, utc_ns=int, software=str
        )
        must((beat["kind"], beat["schema"]) == ("heartbeat", SCHEMA), f"{beat['kind']!r}, schema {beat['schema']}")
        must(beat["state"] in ("ok", "degraded", "fault"), f"state {beat['state']!r}")
        must(isinstance(beat["armed"], list), f"armed {beat['armed']!r}")
    gaps_s = [later[0] - earlier[0] for earlier, later in itertools.pairwise(beats)]
    must(max(gaps_s) <= BEAT_S + BEAT_SLACK_S, f"{max(gaps_s):.2f} s between two heartbeats")
    lasts = [beat["last_sequence"] for _, beat in beats]
    must(lasts == sorted(lasts), f"last_sequence falls: {lasts}")
    return f"{beats[-1][1]['software']}, state {beats[-1][1]['state']}, at most {max(gaps_s):.2f} s apart"


def late_joiner(visit: Visit) -> str:
    """Clause D11."""
    last = dict(visit.ask("snapshot")["last"])
    if not last:
        raise Skipped("the journal is empty")
    with Listener(visit.context, visit.place, visit.place.keys) as joined:
        is_complete = joined.until(lambda: {topic for _, topic, _ in joined.received} >= set(last), JOIN_S)
        missing = set(last) - {topic for _, topic, _ in joined.received}
    if not is_complete:
        raise Failed(f"nothing of {', '.join(sorted(missing))} within {JOIN_S:g} s of subscribing")
    return f"{len(last)} topics"


def same_bytes(visit: Visit) -> str:
    """Clause D12."""
    with Listener(visit.context, visit.place, visit.place.keys) as joined:
        joined.listen(JOIN_S / 2)
        heard = [*visit.listener.received, *joined.received]
    entries = [(topic, payload) for _, topic, payload in heard if topic == "part" or topic.startswith("verdict/")]
    if not entries:
        raise Skipped("nothing of the journal was published meanwhile, and no last value")
    for topic, payload in entries[-20:]:
        sequence = as_map(payload, topic)["sequence"]
        stored = visit.ask("range", from_sequence=sequence, to_sequence=sequence)["entries"]
        must(stored == [[sequence, topic, payload]], f"entry {sequence} of {topic} is another one in the journal")
    return f"{len(entries[-20:])} entries"


def health(visit: Visit) -> str:
    """Clause D13."""
    journal_id = visit.ask("snapshot")["journal_id"]
    visit.listener.until(lambda: len(visit.listener.of("health")) >= 2, JOIN_S)
    found = visit.listener.of("health")
    other = {topic for _, topic, _ in visit.listener.received if not topic.startswith(TOPICS)}
    must(not other, f"topics {', '.join(sorted(other))}")
    must(len(found) >= 2, f"{len(found)} messages of health")
    health = as_map(found[-1][2], "health")
    has_fields(health, "health", kind=str, schema=int, journal_id=str, state=str, warnings=list, net=dict)
    must(health["journal_id"] == journal_id, f"health speaks of journal {health['journal_id']}")
    return f"{health['state']}, {len(health['warnings'])} warnings"
