"""The command `irisgate explain`."""

from __future__ import annotations

import argparse

from gateway.config.load import load
from gateway.process import explain_command
from gateway.process.common_options import add_plugin_options, path, registry_of
from gateway.process.output import UsageError, say


def prepare_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=path, metavar="FILE", required=True, help="the configuration (HuJSON)")
    explain_command.arguments(parser)
    add_plugin_options(parser)
    parser.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> int:
    try:
        identity = explain_command.caller(options)
    except explain_command.BadName as error:
        raise UsageError(f"irisgate explain: {error}") from None
    config = load(options.config, plugins=registry_of(options).known).config
    text, is_allowed = explain_command.explanation(options, identity, config)
    say(text)
    return 0 if is_allowed else 1
