"""The command line: `irisgate serve | check | doctor | backup | restore | explain | usage | providers | ...`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from gateway import __version__
from gateway.config.document.atomic_file import sweep
from gateway.config.example import MINIMAL
from gateway.config.export import json_schema
from gateway.config.findings import ConfigError, escape_control, shorten
from gateway.config.load import Loaded, load, load_stream
from gateway.contract.plugin_imports import has_lasting_threads
from gateway.contract.registry import PluginError
from gateway.process import explain_command, new_plugin
from gateway.process import prices_command as prices
from gateway.process.backup_command import NotDone, backup_arguments, make_backup, restore_arguments, restore_backup
from gateway.process.common_options import (
    UsageError,
    add_plugin_options,
    add_state_options,
    default_state,
    listener_of,
    path,
    registry_of,
    state_folder,
)
from gateway.process.development import OPTION, develop
from gateway.process.doctor import command as doctor
from gateway.process.doctor.result import as_json, is_healthy, report
from gateway.process.output import OutputFailed, complain, fill_closed_outputs, say, writing
from gateway.process.plugins_list import plugins_list
from gateway.process.restarts import TAKE_OVER, command
from gateway.process.serve import CannotStart, Options, serve
from gateway.telemetry.log import configure
from gateway.web import provider_table
from gateway.web.usage import command as usage

USAGE_ERROR = 2
MAX_PRICE_LISTS = 2
STANDARD_INPUT = ("-", "/dev/stdin")


def main(arguments: Sequence[str] | None = None) -> int:
    fill_closed_outputs()
    status = _status(arguments)
    if has_lasting_threads():
        complain("irisgate: ends without the threads that a plugin has started; see irisgate plugins list")
        # Python itself would wait for these threads
        os._exit(status)
    return status


def _status(arguments: Sequence[str] | None) -> int:
    """Run a command and return its exit status. Print the error if the command fails."""
    try:
        return _run(arguments)
    except OutputFailed as error:
        complain(_one_line(f"irisgate: {error}"))
    except UsageError as error:
        complain(_one_line(str(error)))
    except PluginError as error:
        complain("\n".join(map(_one_line, str(error).splitlines())))
    except ConfigError as error:
        complain(str(error))
    except KeyboardInterrupt:
        return 130
    return USAGE_ERROR


def _run(arguments: Sequence[str] | None) -> int:
    with writing():
        # argparse prints the help here
        options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except CannotStart as error:
        raise UsageError(f"irisgate {options.command}: {error}") from None
    return status


def _one_line(message: str) -> str:
    """Return the message as one line that is safe to print: long text is shortened, and control characters are
    escaped.
    """
    return escape_control(shorten(message))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="irisgate", description="A self-hosted AI gateway for a tailnet: identity from the network, Bedrock first."
    )
    parser.add_argument("--version", action="version", version=f"irisgate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _serving(commands.add_parser("serve", help="serve the providers of a configuration until SIGTERM"))

    checking = commands.add_parser("check", help="check a configuration: every error and warning, with its place")
    checking.add_argument("file", type=path, metavar="FILE", help='"-" is standard input')
    add_plugin_options(checking)
    checking.set_defaults(run=_check)

    examining = commands.add_parser("doctor", help="check the machine and the state, and repair what is damaged")
    doctor.arguments(examining)
    add_state_options(examining, default_state())
    examining.set_defaults(run=_doctor)

    backing_up = commands.add_parser("backup", help="copy the state to a new folder, also while the gateway serves")
    backup_arguments(backing_up)
    add_state_options(backing_up, default_state())
    backing_up.set_defaults(run=_in_state, work=make_backup)

    restoring = commands.add_parser("restore", help="put a backup in the place of the state of a stopped gateway")
    restore_arguments(restoring)
    add_state_options(restoring, default_state())
    restoring.set_defaults(run=_in_state, work=restore_backup)

    _explaining(commands.add_parser("explain", help="say why somebody may use a model, or what they lack for it"))

    _asking(commands.add_parser("usage", help="print who used how much: a table of a running gateway's usage"), usage)
    _asking(commands.add_parser("providers", help="print the health of each model at each provider"), provider_table)

    _pricing(commands.add_parser("prices", help="about price lists"))

    describing = commands.add_parser("schema", help="print the JSON Schema of the configuration, for editors")
    add_plugin_options(describing)
    describing.set_defaults(run=_schema)

    _plugging(commands.add_parser("plugins", help="about plugins: those that are found, and new ones"))

    demo = commands.add_parser("demo", help="serve in front of a simulated Bedrock, or the real one with --real")
    calls = demo.add_mutually_exclusive_group()
    calls.add_argument(
        "--real", action="store_true", help="the real Bedrock, by AWS_BEARER_TOKEN_BEDROCK and AWS_REGION; costs money"
    )
    calls.add_argument("--sample", action="store_true", help="fill the pages with a month of invented calls")
    demo.add_argument(
        "--listen", metavar="HOST:PORT", default="127.0.0.1:8080", help="default: %(default)s, or the next free port"
    )
    # the demo has a separate state folder, because its calls must not count as real usage and because another gateway
    # may run at the same time
    add_state_options(demo, default_state() / "demo")
    demo.set_defaults(run=_demo)
    return parser


def _serving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=path, metavar="FILE", help="the configuration (HuJSON); followed for changes")
    parser.add_argument("--listen", metavar="HOST:PORT", help="listen there only, instead of on the file's listeners")
    parser.add_argument(
        TAKE_OVER, action="store_true", help="take over from the gateway that runs with this state, if there is one"
    )
    parser.add_argument(
        OPTION, action="store_true", help="for authors of plugins: run new code of --plugins as soon as a file changes"
    )
    add_state_options(parser, default_state())
    parser.set_defaults(run=_serve)


def _explaining(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=path, metavar="FILE", required=True, help="the configuration (HuJSON)")
    explain_command.arguments(parser)
    add_plugin_options(parser)
    parser.set_defaults(run=_explain)


def _asking(parser: argparse.ArgumentParser, command: ModuleType) -> None:
    """Add the options of a command that sends requests to a running gateway, such as `usage`."""
    command.arguments(parser)
    parser.set_defaults(run=_ask, answer=command.answer)


def _pricing(parser: argparse.ArgumentParser) -> None:
    about = parser.add_subparsers(dest="about", required=True, metavar="WHAT")
    described = (
        "Print what differs between two price lists: suspicious prices first, then changed, new and dropped rows. "
        "The exit status is 1 if a price is suspicious: hardly believable, or changed by half or more."
    )
    comparing = about.add_parser("diff", help="print what differs between two price lists", description=described)
    prices.arguments(comparing)
    comparing.set_defaults(run=_prices_diff)


def _plugging(parser: argparse.ArgumentParser) -> None:
    about = parser.add_subparsers(dest="about", required=True, metavar="WHAT")
    listing = about.add_parser(
        "list", help="print the flags, their routes, and the conversions from each client to each provider"
    )
    listing.set_defaults(run=_plugins)
    creating = about.add_parser("new", help="write the package of a new plugin, with a test that passes")
    new_plugin.arguments(creating)
    creating.set_defaults(run=_new_plugin)
    checking = about.add_parser("check", help="try a plugin on its samples, and print which laws hold and which do not")
    checking.add_argument("name", metavar="NAME", help="the plugin's name")
    checking.set_defaults(run=_check_plugin)
    listing.add_argument("--config", type=path, metavar="FILE", help="print the filters that this file switches on")
    for each in (listing, creating, checking):
        add_plugin_options(each)


def _serve(options: argparse.Namespace) -> int:
    if options.config is None:
        say(MINIMAL)
        raise UsageError("irisgate serve: name a configuration with --config FILE; a minimal one is printed above")
    if options.dev:
        if options.plugins is None:
            raise UsageError("irisgate serve: --dev needs a folder of plugin files; name it with --plugins DIR")
        return asyncio.run(develop(sys.orig_argv, options.plugins))
    registry = registry_of(options)
    sweep(options.config)
    loaded = load(options.config, plugins=registry.known)
    if loaded.warnings:
        complain("\n".join(map(str, loaded.warnings)))
    log = configure()
    state, listener = state_folder(options), listener_of(options.listen)
    how = Options(listener=listener, take_over=options.take_over, restart=command(sys.orig_argv))
    asyncio.run(serve(options.config, loaded, registry, state=state, log=log, options=how))
    return 0


def _check(options: argparse.Namespace) -> int:
    name, loaded = _load_checked(options)
    models = sum(len(provider.models) for provider in loaded.config.providers.values())
    counts = f"{len(loaded.config.providers)} providers, {models} models, {len(loaded.warnings)} warnings"
    unchecked = [
        f"{name}: providers.{provider.id} lists its models at run time, so their names are not checked"
        for provider in loaded.config.providers.values()
        if provider.discovers
    ]
    say("\n".join([*map(str, loaded.warnings), *map(escape_control, [*unchecked, f"{name}: {counts}"])]))
    return 1 if loaded.warnings else 0


def _doctor(options: argparse.Namespace) -> int:
    try:
        results = doctor.examine(options, registry_of(options))
    except doctor.NoRepair as error:
        raise UsageError(f"irisgate doctor: {error}") from None
    say(as_json(results) if options.json else report(results))
    return 0 if is_healthy(results) else 1


def _in_state(options: argparse.Namespace) -> int:
    """Run `backup` or `restore`."""
    try:
        say(escape_control(options.work(options, registry_of(options))))
    except NotDone as error:
        raise UsageError(f"irisgate {options.command}: {error}") from None
    return 0


def _load_checked(options: argparse.Namespace) -> tuple[str, Loaded]:
    registry = registry_of(options)
    known = registry.known
    if str(options.file) not in STANDARD_INPUT:
        return str(options.file), load(options.file, plugins=known)
    if sys.stdin is None:
        raise UsageError("irisgate check: standard input is closed")
    name = "standard input"
    return name, load_stream(sys.stdin.buffer, name=name, plugins=known)


def _explain(options: argparse.Namespace) -> int:
    try:
        identity = explain_command.caller(options)
    except explain_command.BadName as error:
        raise UsageError(f"irisgate explain: {error}") from None
    config = load(options.config, plugins=registry_of(options).known).config
    text, is_allowed = explain_command.explanation(options, identity, config)
    say(text)
    return 0 if is_allowed else 1


def _ask(options: argparse.Namespace) -> int:
    """Run `usage` or `providers`. These commands send requests to a running gateway."""
    try:
        answer: bytes = options.answer(options)
    except (usage.BadUsage, usage.NoUsage, provider_table.NoHealth) as error:
        raise UsageError(f"irisgate {options.command}: {error}") from None
    # written as bytes, because a text stream would change the line ends of CSV
    say(answer if answer.endswith(b"\n") else answer + b"\n")
    return 0


def _prices_diff(options: argparse.Namespace) -> int:
    if not 1 <= len(options.files) <= MAX_PRICE_LISTS:
        raise UsageError("irisgate prices diff: name one or two price lists")
    try:
        text, differences = prices.differences(options.files)
    except prices.NoPrices as error:
        raise UsageError(f"irisgate prices diff: {error}") from None
    say("\n".join(map(escape_control, text.split("\n"))))
    return 1 if differences.doubts else 0


def _schema(options: argparse.Namespace) -> int:
    known = registry_of(options).known
    say(json.dumps(json_schema(known.flags, known.filters, known.options), indent=2))
    return 0


def _plugins(options: argparse.Namespace) -> int:
    registry = registry_of(options)
    config = None if options.config is None else load(options.config, plugins=registry.known).config
    say(plugins_list(registry, config))
    return 0


def _new_plugin(options: argparse.Namespace) -> int:
    registry = registry_of(options)
    taken = {*registry.flags, *registry.observers, *registry.filters}
    try:
        say(new_plugin.write_package(options.name, options.kind, options.folder, taken))
    except new_plugin.NotWritten as error:
        raise UsageError(f"irisgate plugins new: {error}") from None
    return 0


def _check_plugin(options: argparse.Namespace) -> int:
    from gateway.testkit.laws.check import NotChecked, check  # noqa: PLC0415 (serving does without the testkit)

    try:
        report = check(options.name, registry_of(options))
    except NotChecked as error:
        raise UsageError(f"irisgate plugins check: {error}") from None
    say("\n".join(map(escape_control, str(report).split("\n"))))
    return 0 if report.holds else 1


def _demo(options: argparse.Namespace) -> int:
    from gateway.process.demo import demo  # noqa: PLC0415 (the testkit is an extra, which serving does without)

    listener = listener_of(options.listen)
    return demo(
        registry_of(options), state=state_folder(options), listen=listener, real=options.real, sample=options.sample
    )
