"""A soft PLC in Python, on `edged.client` (or the wheel `edged_client`): expect a seam, act only on its fresh OK.

    python soft_plc.py --control ipc:///var/lib/edged/run/control.sock --program bracket

Options and output are those of soft_plc.c. edged judges quality. It is never a safety device.
"""

import argparse
import time
from pathlib import Path

try:
    from edged_client import Client, Control, Entry, Keys, Lost, NewJournal, Position, Refused, StateChange
except ImportError:  # on a machine that has edged itself
    from edged.client import Client, Control, Entry, Keys, Lost, NewJournal, Position, Refused, StateChange

TURN_S = 0.1
EXPECT_AGAIN_S = 1.0


class SoftPlc:
    """Outputs "this seam is OK": 0 until proven otherwise. With a control socket it announces seam after seam."""

    def __init__(self, options: argparse.Namespace, client: Client, control: Control | None) -> None:
        self._options, self._client, self._control = options, client, control
        self._expected: str | None = None
        self._until_s = 0.0
        self._label = 0
        self._output: int | None = None
        self._journal = ""
        self.acted = self.judged = 0

    def run(self) -> None:
        """Turn after turn, until as many seams as asked for were judged."""
        self._put(0)
        while self._goes_on():
            event = self._client.receive(TURN_S)
            if isinstance(event, Entry):
                self._act(event)
            elif isinstance(event, StateChange):
                print("state", event.state)
            elif isinstance(event, Lost):
                print("lost", event.first, event.last)
                self._label = 0
            elif isinstance(event, NewJournal):
                self._follow(event.new)
            self._put(int(self._client.state == "live" and self._expected is None and self._label == 1))

    def _act(self, entry: Entry) -> None:
        self._follow(entry.journal_id)
        name = entry.message.get("part_id" if entry.topic == "part" else "seam_id")
        print(entry.sequence, entry.message["label"], name)
        self.acted += 1
        if self._control is None:
            self._label = entry.message["label"]
        elif name == self._expected:
            self._label, self._expected, self._until_s = entry.message["label"], None, 0.0
            self.judged += 1
        if self._options.position is not None and self._client.position is not None:
            self._client.position.save(self._options.position)  # after acting, never before

    def _follow(self, journal: str) -> None:
        if journal != self._journal:
            self._journal, self._label = journal, 0
            print("journal", journal)

    def _goes_on(self) -> bool:
        seams = self._options.seams
        if self._control is None:
            return seams == 0 or self.acted < seams
        if self._expected is not None and time.monotonic() > self._until_s:  # no verdict in time is no OK
            self._label, self._expected = 0, None
            self.judged += 1
        if self._expected is None and seams and self.judged >= seams:
            return False
        if self._expected is None and self._client.state == "live" and time.monotonic() > self._until_s:
            self._label = 0
            self._put(0)
            self._expect(self._control)
        return True

    def _expect(self, control: Control) -> None:
        try:
            self._expected = control.expect(self._options.program, part_id=self._options.part)
            print("expect", self._expected)
            self._until_s = time.monotonic() + self._options.within_ms / 1e3
        except (Refused, TimeoutError) as error:
            print("refused", error)
            self._until_s = time.monotonic() + EXPECT_AGAIN_S

    def _put(self, value: int) -> None:
        if value != self._output:
            self._output = value
            print("ok", value, flush=True)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verdicts", default="tcp://127.0.0.1:5560")
    parser.add_argument("--journal")
    parser.add_argument("--control")
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--position", type=Path)
    parser.add_argument("--program", default="")
    parser.add_argument("--part", default="P-1")
    parser.add_argument("--start", choices=("now", "first", "last"), default="now")
    parser.add_argument("--seams", type=int, default=0)
    parser.add_argument("--within-ms", type=int, default=60_000)
    options = parser.parse_args()
    keys = None if options.keys is None else Keys.read(options.keys)
    kept = None if options.position is None else Position.load(options.position)
    control = None if options.control is None else Control(options.control, keys=keys, timeout_s=2.0)
    with Client(options.verdicts, journal=options.journal, keys=keys, start=kept or options.start) as client:
        SoftPlc(options, client, control).run()
    if control is not None:
        control.close()


if __name__ == "__main__":
    main()
