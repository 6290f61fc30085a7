"""The command `irisgate plugins`."""

from __future__ import annotations

import argparse

from gateway.config.findings import escape_control
from gateway.config.load import load
from gateway.process import new_plugin
from gateway.process.common_options import add_plugin_options, path, registry_of
from gateway.process.output import UsageError, say
from gateway.process.plugins_list import plugins_list


def prepare_plugins(parser: argparse.ArgumentParser) -> None:
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
    from gateway.testkit.laws.check import NotChecked, check  # noqa: PLC0415 (the testkit is an extra)

    try:
        report = check(options.name, registry_of(options))
    except NotChecked as error:
        raise UsageError(f"irisgate plugins check: {error}") from None
    say("\n".join(map(escape_control, str(report).split("\n"))))
    return 0 if report.holds else 1
