"""The table of seams that burn, from messages as they are received."""

from rich.console import Console

from edged.live_view import LiveView
from edged.wire import TimePair, as_map
from edged.wire_encode import encode_live
from tests.support.verdicts import a_point, a_verdict

PAIR = TimePair(0, 1_800_000_000_000_000_000)


def shown(view: LiveView) -> str:
    console = Console(width=120, record=True, file=None)
    with console.capture() as found:
        console.print(view.table())
    return found.get()


def test_a_seam_stands_there_until_its_verdict_comes() -> None:
    view, seam = LiveView(), a_verdict().seam
    for score in (0.1, 0.5, 1.7, None):
        view.add(as_map(encode_live(seam, a_point(score=score), PAIR, is_simulated=True)))
    text = shown(view)
    assert "T1" in text
    assert "▁▃█·" in text
    assert "label" not in text
    view.end("another")
    assert "▁▃█·" in shown(view)
    view.end(seam.seam_id)
    assert "T1" not in shown(view)
