"""`edged keys`: who may read verdicts and who may use the control socket. A running daemon follows at once."""

import datetime
import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from edged.config import DEFAULT_DATA_DIR, ConfigError, load_config
from edged.keys import RIGHTS, ClientKey, KeysError, KeyStore, Right, write_private
from edged.net_rules import keys_folder

__all__ = ["keys_app"]

keys_app = typer.Typer(name="keys", no_args_is_help=True, help="Who may read verdicts, and who may control edged.")

ConfigOption = Annotated[Path | None, typer.Option(help="Configuration of the daemon, for its folder of keys.")]
FolderOption = Annotated[Path | None, typer.Option("--keys", help="Folder of keys, instead of --config.")]
NameArgument = Annotated[str, typer.Argument(help="Of the client, such as press-plc.")]


@keys_app.command("new")
def new(
    name: NameArgument,
    right: Annotated[list[str] | None, typer.Option(help="verdict, control, or both: give it twice.")] = None,
    out: Annotated[Path | None, typer.Option(help="The client's own keys; by default NAME.toml, here.")] = None,
    config: ConfigOption = None,
    folder: FolderOption = None,
) -> None:
    """Make a client's keys. Carry the file to the client, and leave no copy: it holds a secret."""
    rights = _rights(right or [])
    target = out or Path(f"{name}.toml")
    if target.exists():
        _fail(f"{target}: is there already; move it away, or name another file with --out", 2)
    store = _store(config, folder)
    try:
        bundle = store.add(name, rights, datetime.datetime.now(datetime.UTC))
    except KeysError as error:
        _fail(str(error), 1)
    try:
        write_private(target, bundle.model_dump())
    except OSError as error:
        # Without its file the key is of no use to anybody, and must not stay allowed.
        store.revoke(name, datetime.datetime.now(datetime.UTC))
        _fail(f"{target}: {error.strerror}; the key was revoked again", 1)
    typer.echo(f"{target}: keys of {name} with the right {', '.join(bundle.rights)}; its secret is nowhere else")


@keys_app.command("list")
def list_keys(
    config: ConfigOption = None,
    folder: FolderOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the list here.")] = None,
) -> None:
    """Show who has a key, and who had."""
    try:
        clients = _store(config, folder).clients()
    except KeysError as error:
        _fail(str(error), 1)
    if json_file is not None:
        rows = [item.model_dump(mode="json") for item in clients]
        json_file.write_text(json.dumps({"clients": rows}, indent=1) + "\n", encoding="utf-8")
    table = Table("client", "rights", "since (UTC)", "public key", "")
    for item in clients:
        table.add_row(item.name, ", ".join(item.rights), f"{item.created_utc:%Y-%m-%d}", item.public, _state(item))
    Console().print(table)


@keys_app.command("revoke")
def revoke(name: NameArgument, config: ConfigOption = None, folder: FolderOption = None) -> None:
    """Shut a client out. A running daemon ends its connections within a second."""
    try:
        revoked = _store(config, folder).revoke(name, datetime.datetime.now(datetime.UTC))
    except KeysError as error:
        _fail(str(error), 1)
    typer.echo(f"{name} is shut out (its key was {revoked.public})")


@keys_app.command("server")
def server(config: ConfigOption = None, folder: FolderOption = None) -> None:
    """Show the daemon's public key, and make its pair where there is none."""
    store = _store(config, folder)
    try:
        public = store.make_server().public
    except KeysError as error:
        _fail(str(error), 1)
    typer.echo(f"{store.server_path}: public key {public}")


def _state(client: ClientKey) -> str:
    return "" if client.revoked_utc is None else f"revoked {client.revoked_utc:%Y-%m-%d %H:%M}"


def _rights(asked: list[str]) -> list[Right]:
    wrong = [right for right in asked if right not in RIGHTS]
    if wrong or not asked:
        found = f"{wrong[0]!r} is no right" if wrong else "say what the client may do"
        _fail(f"{found}: --right verdict (read verdicts), --right control (name seams, arm)", 2)
    return [right for right in RIGHTS if right in asked]


def _store(config: Path | None, folder: Path | None) -> KeyStore:
    if folder is not None:
        return KeyStore(folder)
    if config is None:
        return KeyStore(DEFAULT_DATA_DIR / "keys")
    try:
        return KeyStore(keys_folder(load_config(config)))
    except ConfigError as error:
        _fail(str(error), 2)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
