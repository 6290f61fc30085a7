"""The command `irisgate export`."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import get_args

from gateway.config.exporters import Format
from gateway.config.findings import escape_control
from gateway.config.load import load
from gateway.config.model import Config
from gateway.process.common_options import add_state_options, default_state, path, registry_of
from gateway.process.exports.command import NotExported, Range, catch_up, export_range
from gateway.process.output import UsageError, say
from gateway.telemetry.log import configure


def prepare_export(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Export the calls that the exporters of the configuration have not exported yet. With --output, export the "
        "calls of some days to a folder instead. A gateway may serve meanwhile."
    )
    parser.add_argument("--config", type=path, metavar="FILE", help="the configuration, with its exporters")
    parser.add_argument("--output", type=path, metavar="FOLDER", help="export calls of a range of days there")
    parser.add_argument("--from", dest="first", type=_day, metavar="DAY", help="the first day, such as 2026-11-01")
    parser.add_argument("--to", dest="last", type=_day, metavar="DAY", help="the last day, which is included")
    parser.add_argument(
        "--format", choices=get_args(Format), help="the format of files in --output (default: cbor.zstd)"
    )
    parser.add_argument("--bodies", action="store_true", help="with --output: export stored bodies of calls too")
    add_state_options(parser, default_state())
    parser.set_defaults(run=_export)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!a} is no day; write one such as 2026-11-01") from None


def _export(options: argparse.Namespace) -> int:
    if options.output is None and any((options.first, options.last, options.format, options.bodies)):
        raise UsageError("irisgate export: --from, --to, --format and --bodies need --output FOLDER")
    config, state, log = _config(options), options.state, configure()
    try:
        lines = (
            catch_up(config, state, log)
            if options.output is None
            else export_range(config, state, log, _range(options, options.output))
        )
    except NotExported as error:
        raise UsageError(f"irisgate export: {error}") from None
    say("\n".join(map(escape_control, lines)))
    return 0


def _config(options: argparse.Namespace) -> Config:
    return load(options.config, plugins=registry_of(options).known).config if options.config is not None else Config()


def _range(options: argparse.Namespace, folder: Path) -> Range:
    return Range(folder, options.first, options.last, options.format or "cbor.zstd", options.bodies)
