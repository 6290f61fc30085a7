"""The commands `irisgate check` and `irisgate schema`. They use neither a running gateway nor a state folder."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from gateway.config.export import json_schema
from gateway.config.findings import escape_control
from gateway.config.load import Loaded, load, load_stream
from gateway.process.common_options import add_plugin_options, path, registry_of
from gateway.process.output import UsageError, say

STANDARD_INPUT: Final = ("-", "/dev/stdin")


def prepare_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=path, metavar="FILE", help='"-" is standard input')
    add_plugin_options(parser)
    parser.set_defaults(run=_check)


def prepare_schema(parser: argparse.ArgumentParser) -> None:
    add_plugin_options(parser)
    parser.set_defaults(run=_schema)


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


def _load_checked(options: argparse.Namespace) -> tuple[str, Loaded]:
    registry = registry_of(options)
    known = registry.known
    if str(options.file) not in STANDARD_INPUT:
        return str(options.file), load(options.file, plugins=known)
    if sys.stdin is None:
        raise UsageError("irisgate check: standard input is closed")
    name = "standard input"
    return name, load_stream(sys.stdin.buffer, name=name, plugins=known)


def _schema(options: argparse.Namespace) -> int:
    known = registry_of(options).known
    say(json.dumps(json_schema(known.flags, known.filters, known.options), indent=2))
    return 0
