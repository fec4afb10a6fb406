"""`edged opcua-user`: who may log in to the OPC UA bridge. Its file holds hashes of passwords, never passwords."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from edged.bridges.daemon_link import BridgeError
from edged.bridges.passwords import hash_password
from edged.bridges.private_file import read_private, write_private
from edged.bridges.settings_opcua import OpcuaConfig

__all__ = ["opcua_user"]

MIN_CHARS = 8
FOLDER = OpcuaConfig().folder
RIGHTS = ("verdict", "control")


def opcua_user(
    name: Annotated[str, typer.Argument(help="User name.")],
    right: Annotated[list[str] | None, typer.Option(help="verdict (read) or control (call Expect); repeat.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the user out.")] = False,
    folder: Annotated[Path, typer.Option(help="bridges.opcua.folder.")] = FOLDER,
) -> None:
    """Add, change or remove a user of the OPC UA bridge; counts at the next login, without a restart."""
    rights = right or ["verdict"]
    if unknown := set(rights) - set(RIGHTS):
        typer.echo(f"--right {', '.join(sorted(unknown))}: known are {', '.join(RIGHTS)}", err=True)
        raise typer.Exit(2)
    path = folder / "users.toml"
    try:
        users: dict[str, Any] = tomllib.loads(read_private(path).decode()) if path.exists() else {}
        if remove:
            if users.pop(name, None) is None:
                typer.echo(f"{path}: there is no user {name!r}", err=True)
                raise typer.Exit(1)
        else:
            users[name] = {"password": _hashed(), "rights": rights}
        write_private(path, _toml(users).encode())
    except (BridgeError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{name}: {'removed' if remove else ', '.join(rights)}")


def _hashed() -> str:
    """Asks for the password. Raises ValueError for one that is too short."""
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    if len(password) < MIN_CHARS:
        raise ValueError(f"the password has {len(password)} characters, at least {MIN_CHARS} are needed")
    return hash_password(password)


def _toml(users: dict[str, Any]) -> str:
    """Names as quoted keys: a user may be called anything."""
    return "".join(
        f"[{json.dumps(name)}]\npassword = {json.dumps(user['password'])}\nrights = {json.dumps(user['rights'])}\n\n"
        for name, user in users.items()
    )
