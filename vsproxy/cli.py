"""The command `vsproxy`: from arguments to a Config to what runs it."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Annotated

import typer

from vsproxy.config.check import Checked, check_file, load_checked, warnings
from vsproxy.config.model import Config
from vsproxy.config.schema import json_schema
from vsproxy.demo import run_demo
from vsproxy.errors import ConfigError, Problem, VsproxyError
from vsproxy.remote import ask
from vsproxy.run import run_foreground
from vsproxy.version import version_line

# The exit status of a command line or a file that is wrong.
WRONG = 2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="FILE", help="Serve this configuration.")
    ] = "",
    version: Annotated[bool, typer.Option("--version", help="Print versions and stop.")] = False,
) -> None:
    """A load balancer: pools, checks, retries, WebSocket tunnels, TLS. Serves with --config lb.toml."""
    if version:
        typer.echo(version_line())
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    if not config:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(WRONG)
    try:
        loaded = load_checked(config, os.environ)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG) from error
    raise typer.Exit(run_foreground(loaded, config))


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The configuration, TOML.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List every mistake in a configuration, one a line; open its certificates, resolve its servers.

    Exit status 0 if it can be used (names that do not resolve are warnings), 2 if there are mistakes.
    """
    checked = check_file(file, os.environ)
    cautions = warnings(checked)
    if as_json:
        typer.echo(json.dumps(_as_json(checked, cautions), indent=2))
    else:
        for line in (*checked.problems, *cautions):
            typer.echo(str(line))
        if checked.config is not None:
            typer.echo(f"{file}: ok: {_summary(checked.config)}")
    raise typer.Exit(WRONG if checked.problems else 0)


@app.command()
def reload(
    config: Annotated[str, typer.Option("--config", "-c", metavar="FILE", help="What vsproxy runs with.")],
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the outcome.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Have the running vsproxy read its configuration again, wait, and say what came of it.

    Exit status 0 if it was reloaded, 2 if there are mistakes in the file, 1 in any other case.
    """
    try:
        answer = ask(config, {"command": "reload"}, timeout)
    except VsproxyError as error:
        answer = {"message": str(error)}
    done = answer.get("ok") is True
    message, problems, notes = answer.get("message", ""), _lines(answer, "problems"), _lines(answer, "notes")
    if as_json:
        outcome = {"file": config, "ok": done, "message": message, "problems": problems, "notes": notes}
        typer.echo(json.dumps(outcome, indent=2))
    else:
        for line in (*problems, *notes, message):
            typer.echo(line, err=not done)
    raise typer.Exit(0 if done else WRONG if problems else 1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration."""
    typer.echo(json.dumps(json_schema(Config), indent=2))


@app.command()
def demo(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the proxy; 0 takes a free one.")
    ] = 8080,
    duration: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live display.")] = False,
) -> None:
    """Start three small servers and the proxy in front of them, on loopback, and show the balancing."""
    raise typer.Exit(run_demo(port, duration, plain))


def _summary(config: Config) -> str:
    servers = sum(len(pool.servers) for pool in config.pools.values())
    counts = (
        (len(config.listeners), "listener"),
        (len(config.routes), "route"),
        (len(config.pools), "pool"),
        (servers, "server"),
    )
    return ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)


def _lines(answer: dict[str, object], key: str) -> list[str]:
    """The texts at `key`; a supervisor of another version may have none."""
    found = answer.get(key)
    return [str(line) for line in found] if isinstance(found, list) else []


def _as_json(checked: Checked, cautions: list[Problem]) -> dict[str, object]:
    return {
        "file": checked.document.file,
        "ok": not checked.problems,
        "problems": [dataclasses.asdict(problem) for problem in checked.problems],
        "warnings": [dataclasses.asdict(problem) for problem in cautions],
    }


def main() -> None:
    """Entry point of the command."""
    app(prog_name="vsproxy")
