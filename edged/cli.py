"""The command line: `edged VERB`. One verb is one function in the module it belongs to.

Exit codes: 0 done, 1 a run or bar failed, 2 bad config or arguments, 130 interrupted.
"""

import typer

from edged.arm import arm, disarm, programs
from edged.bench.app import bench_app
from edged.bridges.app import bridge
from edged.bridges.opcua_users import opcua_user
from edged.calibrate.app import calibrate_app
from edged.check import check
from edged.convert_checkpoint import convert_checkpoint
from edged.daemon import run
from edged.demo import demo
from edged.devices import devices
from edged.evaluate import evaluate
from edged.importing.intel_weld import import_app
from edged.keys_app import keys_app
from edged.learn import learn
from edged.plcsim.app import plcsim_app
from edged.record import record
from edged.recover import recover
from edged.replay import replay
from edged.simulate import simulate
from edged.status import status
from edged.train import train
from edged.watch import watch

__all__ = ["app"]

app = typer.Typer(
    name="edged",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Watches a robotic welding cell: one verdict per seam. It judges quality; it is never a safety device.",
)


@app.callback()
def _main() -> None:
    """Keep verbs as sub-commands even while there is only one."""


app.command("run")(run)
app.command("check")(check)
app.command("convert-checkpoint")(convert_checkpoint)
app.command("watch")(watch)
app.command("bridge")(bridge)
app.command("opcua-user")(opcua_user)
app.command("status")(status)
app.command("demo")(demo)
app.command("devices")(devices)
app.command("eval")(evaluate)
app.command("record")(record)
app.command("recover")(recover)
app.command("replay")(replay)
app.command("simulate")(simulate)
app.command("train")(train)
app.command("learn")(learn)
app.command("arm")(arm)
app.command("disarm")(disarm)
app.command("programs")(programs)

app.add_typer(bench_app)
app.add_typer(calibrate_app)
app.add_typer(import_app)
app.add_typer(plcsim_app)
app.add_typer(keys_app)

if __name__ == "__main__":
    app()
