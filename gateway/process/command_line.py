"""The command line: `irisgate serve | check | doctor | backup | restore | export | explain | usage | providers | ...`.

The options and the work of a command are in `commands/`. Only the module of the called command is imported.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway import __version__
from gateway.process.output import OutputFailed, UsageError, complain, fill_closed_outputs, writing

USAGE_ERROR: Final = 2


class Command(NamedTuple):
    """A command: its module in `commands/`, and its line in the help."""

    module: str
    help: str


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "serve": Command("serving", "serve the providers of a configuration until SIGTERM"),
        "check": Command("checking", "check a configuration: every error and warning, with its place"),
        "doctor": Command("state", "check the machine and the state, and repair what is damaged"),
        "backup": Command("state", "copy the state to a new folder, also while the gateway serves"),
        "restore": Command("state", "put a backup in the place of the state of a stopped gateway"),
        "export": Command("exporting", "export the calls that are not exported yet, or those of some days"),
        "explain": Command("explaining", "say why somebody may use a model, or what they lack for it"),
        "usage": Command("asking", "print who used how much: a table of a running gateway's usage"),
        "providers": Command("asking", "print the health of each model at each provider"),
        "prices": Command("pricing", "about price lists"),
        "schema": Command("checking", "print the JSON Schema of the configuration, for editors"),
        "plugins": Command("plugging", "about plugins: those that are found, and new ones"),
        "demo": Command("demonstrating", "serve in front of a simulated Bedrock, or the real one with --real"),
    }
)


def main(arguments: Sequence[str] | None = None, imported: Callable[[], None] = lambda: None) -> int:
    """Run the command that the arguments name, and return the exit status.

    `imported` is called when the command's module has been imported, before the command runs.
    """
    fill_closed_outputs()
    status = _status(sys.argv[1:] if arguments is None else arguments, imported)
    if _has_lasting_threads():
        complain("irisgate: ends without the threads that a plugin has started; see irisgate plugins list")
        # Python itself would wait for these threads
        os._exit(status)
    return status


def _status(arguments: Sequence[str], imported: Callable[[], None]) -> int:
    """Run a command and return its exit status. Print the error if the command fails.

    `imported` is called when the command's module has been imported, before the command runs.
    """
    try:
        return _run(arguments, imported)
    except OutputFailed as error:
        complain(_one_line(f"irisgate: {error}"))
    except UsageError as error:
        complain(_one_line(str(error)))
    except KeyboardInterrupt:
        return 130
    except SystemExit:
        # argparse has printed a help or the version, for which no types of errors are imported
        raise
    except _operators_errors() as error:
        complain(_lines(error))
    return USAGE_ERROR


def _run(arguments: Sequence[str], imported: Callable[[], None]) -> int:
    name = next((each for each in arguments if not each.startswith("-")), "")
    parser = parser_of({name} & COMMANDS.keys())
    imported()
    with writing():
        # argparse prints the help here
        options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def parser_of(names: Collection[str] = COMMANDS.keys()) -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Only the commands in `names` get their options, because adding the options of a command imports the command's
    module.
    """
    parser = argparse.ArgumentParser(
        prog="irisgate", description="A self-hosted AI gateway for a tailnet: identity from the network, Bedrock first."
    )
    parser.add_argument("--version", action="version", version=f"irisgate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(name, help=command.help)
        if name in names:
            module = import_module(f"gateway.process.commands.{command.module}")
            getattr(module, f"prepare_{name}")(of_command)
    return parser


def _operators_errors() -> tuple[type[Exception], ...]:
    """Return the types of errors in plugins and in the configuration.

    They are imported only here, because only a command that fails needs them.
    """
    from gateway.config.findings import ConfigError  # noqa: PLC0415
    from gateway.contract.plugin_candidates import PluginError  # noqa: PLC0415

    return PluginError, ConfigError


def _lines(error: Exception) -> str:
    """Return the lines of an error in plugins or in the configuration. Text of plugins is made safe to print."""
    from gateway.contract.plugin_candidates import PluginError  # noqa: PLC0415 (see `_operators_errors`)

    return "\n".join(map(_one_line, str(error).splitlines())) if isinstance(error, PluginError) else str(error)


def _one_line(message: str) -> str:
    """Return the message as one line that is safe to print: long text is shortened, and control characters are
    escaped.
    """
    from gateway.config.findings import escape_control, shorten  # noqa: PLC0415 (only errors need it)

    return escape_control(shorten(message))


def _has_lasting_threads() -> bool:
    """Return whether a plugin has started threads that would keep the Python interpreter from exiting."""
    # without this module, no plugin was imported
    imports = sys.modules.get("gateway.contract.plugin_imports")
    return imports is not None and imports.has_lasting_threads()
