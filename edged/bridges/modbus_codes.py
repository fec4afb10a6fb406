"""Numbers that stand for words on Modbus. They are fixed for ever: a PLC's program has them compiled in.

A new word gets the next free number; a word that edged no longer uses keeps its own.
"""

from typing import Final

__all__ = ["ANSWERS", "COMMANDS", "FAULTS", "KINDS", "MODES", "OTHER_REASON", "REASONS", "STATUS", "reason_code"]

OTHER_REASON: Final = 255

REASONS: Final = {
    "ok": 1,
    "score_above_threshold": 2,
    "limit": 3,
    "limit_unknown": 4,
    "sensor": 5,
    "unknown_program": 6,
    "collecting": 7,
    "shadow": 8,
    "no_arc": 9,
    "no_result": 10,
    "no_model": 11,
    "no_threshold": 12,
    "stream_missing": 13,
    "stream_broken": 14,
    "sync": 15,
    "calibration": 16,
    "arc_count": 17,
    "arc_too_short": 18,
    "worker_failed": 19,
    "overload": 20,
    "interrupted": 21,
    "not_recorded": 22,
    "seam_nok": 23,
    "seam_indeterminate": 24,
    "seam_missing": 25,
    "seam_extra": 26,
    "part_budget": 27,
}
"""A verdict's `reason`. 0: no result. `OTHER_REASON`: one that this bridge is too old to know."""

KINDS: Final = {"verdict": 1, "part": 2}
MODES: Final = {"unknown": 0, "collecting": 1, "shadow": 2, "armed": 3}

STATUS: Final = {
    "ready": (0, "the daemon is there and an `expect` would be followed"),
    "trigger": (1, "the Trigger that was last answered, as the PLC wrote it"),
    "busy": (2, "a command is being asked, or a seam announced here has no verdict yet"),
    "result_valid": (3, "the result block holds a result that is not acknowledged yet"),
    "ok": (4, "that result is OK; never set without result_valid"),
    "nok": (5, "that result is NOK; neither ok nor nok: INDETERMINATE, which is not OK"),
    "fault": (6, "a bit of `faults` is set"),
    "armed": (7, "a program that this bridge shows is armed"),
    "degraded": (8, "the daemon says that something is missing; verdicts say what"),
    "simulated": (9, "the daemon watches a simulated cell: its welds are not real"),
}
"""Bit of `status`, which is also the number of the discrete input."""

FAULTS: Final = {
    "stale": (0, "no heartbeat of the daemon; goes when it is back", False),
    "daemon": (1, "the daemon can make no verdicts; goes with its cause", False),
    "overflow": (2, "more results waited than the queue holds; the rest is in the journal", True),
    "lost": (3, "the daemon's journal no longer has results that were due", True),
    "new_journal": (4, "the daemon has another journal: results not yet shown of the old one are gone", True),
}
"""Bit of `faults`, and whether it stays until FaultReset toggles."""

COMMANDS: Final = {0: "expect", 1: "view", 2: "end_part"}
"""What a Trigger asks for. Arming is not among them, and never will be."""

ANSWERS: Final = {
    0: "none yet",
    1: "accepted; `answer_seam_id` names the seam, where there is one",
    2: "refused; `answer_text` says why",
    3: "no answer of the daemon in time: nobody knows whether it was followed",
    4: "a text in the registers is empty, too long or not ASCII; `answer_text` says which",
    5: "`command` is a number without a meaning",
    6: "not asked: the daemon is not there",
}


def reason_code(reason: object) -> int:
    """The number of a reason, `OTHER_REASON` for one that is not known."""
    return REASONS.get(reason, OTHER_REASON) if isinstance(reason, str) else OTHER_REASON
