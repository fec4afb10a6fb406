"""`edged calibrate …`: measure a device, write its calibration; `docs/calibration.md`."""

import typer

from edged.calibrate.camera import board, camera
from edged.calibrate.lag import lag
from edged.calibrate.listing import show
from edged.calibrate.microphone import microphone
from edged.calibrate.profile import profile
from edged.calibrate.views import views
from edged.calibrate.welder import welder

__all__ = ["calibrate_app"]

calibrate_app = typer.Typer(name="calibrate", no_args_is_help=True, help="Measure the cell's devices, one at a time.")
calibrate_app.command("lag")(lag)
calibrate_app.command("microphone")(microphone)
calibrate_app.command("board")(board)
calibrate_app.command("camera")(camera)
calibrate_app.command("profile")(profile)
calibrate_app.command("show")(show)
calibrate_app.command("views")(views)
calibrate_app.command("welder")(welder)
