"""A made-up seam goes through a model before the first real one, whatever the model knows."""

import dataclasses
from pathlib import Path

import pytest

from drivers.base import StreamSpec
from edged.warm_up import ARC_S, STREAMS, warm_up
from pipelines.models import load_detector
from pipelines.window import LivePoint, Score, Seam, SeamWindow, UnknownProgramError
from tests.support.models import write_band_model


@dataclasses.dataclass
class Picky:
    """Knows one program and notes what it is given."""

    known: str
    refuses: bool = False
    model_id: str = "picky"
    requires: tuple[str, ...] = ()
    begun: list[str] = dataclasses.field(default_factory=list)
    pushed_s: dict[str, float] = dataclasses.field(default_factory=dict)
    windows: list[SeamWindow] = dataclasses.field(default_factory=list)

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> "Picky":
        if seam.program != self.known:
            raise UnknownProgramError(seam.program)
        self.begun.append(seam.program)
        return self

    def push(self, chunk) -> None:  # type: ignore[no-untyped-def]
        if self.refuses:
            raise ValueError("no such stream")
        self.pushed_s[chunk.stream] = chunk.end_ns / 1e9

    def live(self) -> list[LivePoint]:
        return []

    def prepare(self, window: SeamWindow) -> None:
        self.windows.append(window)

    def finish(self, window: SeamWindow) -> Score:
        raise AssertionError("a warm-up gives no score")


def test_every_stream_is_pushed_and_a_photograph_prepared() -> None:
    model = Picky("b")
    warm_up(model, ["a", "b", "c"])
    assert model.begun == ["b"]
    assert model.pushed_s == pytest.approx({spec.name: ARC_S for spec in STREAMS})
    (window,) = model.windows
    assert window.seam.arc_off_ns == round(ARC_S * 1e9)
    assert window.views["top"].jpeg[:2].tolist() == [0xFF, 0xD8]


@pytest.mark.parametrize("model", [Picky("z"), Picky("a", refuses=True)])
def test_a_model_that_cannot_take_it_is_left_as_it_is(model: Picky) -> None:
    warm_up(model, ["a", "b"])
    assert model.windows == []


def test_a_real_detector_is_warmed(tmp_path: Path) -> None:
    warm_up(load_detector(write_band_model(tmp_path / "model")), ["T1"])
