"""What a detector would have been given of recorded seams: photographs and scans, bound to them as in the cell."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from calibration.files import CalibrationError
from drivers.mcap_codec import RecordingReader
from edged.calibrate.pictures import Picture, decoded
from edged.calibrate.readings import recording_files
from edged.null_scorer import NullScorer
from edged.recorded import rescore
from edged.recording import recorded_seam
from pipelines.window import SeamWindow

__all__ = ["WindowKeeper", "recorded_photographs", "recorded_windows"]


class WindowKeeper(NullScorer):
    """Keeps what a scorer is given at the seam's end."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[SeamWindow] = []

    def finish(self, window: SeamWindow) -> None:
        """Keep it, and answer that nothing was scored."""
        self.windows.append(window)
        super().finish(window)


def recorded_windows(paths: Sequence[Path], program: str | None = None) -> Iterator[tuple[Path, SeamWindow]]:
    """Each recorded seam's window. Raises RecordingError; CalibrationError where no seam is of the program."""
    found = 0
    for path in recording_files(paths):
        if program is not None and recorded_seam(RecordingReader(path)).program != program:
            continue
        keeper = WindowKeeper()
        rescore(path, keeper, "calibration")
        for window in keeper.windows:
            found += 1
            yield path, window
    if not found:
        raise CalibrationError(f"{paths[0]} …: holds no whole seam{'' if program is None else f' of {program!r}'}")


def recorded_photographs(paths: Sequence[Path], view: str) -> Iterator[Picture]:
    """The photograph of a view of each recorded seam that has one."""
    for path, window in recorded_windows(paths):
        if view in window.views:
            yield path.name, decoded(window.views[view].jpeg)
