"""The commands `irisgate doctor`, `irisgate backup` and `irisgate restore`, which work on a state folder."""

from __future__ import annotations

import argparse

from gateway.config.findings import escape_control
from gateway.process.backup_command import NotDone, backup_arguments, make_backup, restore_arguments, restore_backup
from gateway.process.common_options import add_state_options, default_state, registry_of
from gateway.process.doctor import command as doctor
from gateway.process.doctor.result import as_json, is_healthy, report
from gateway.process.output import UsageError, say


def prepare_doctor(parser: argparse.ArgumentParser) -> None:
    doctor.arguments(parser)
    add_state_options(parser, default_state())
    parser.set_defaults(run=_doctor)


def prepare_backup(parser: argparse.ArgumentParser) -> None:
    backup_arguments(parser)
    add_state_options(parser, default_state())
    parser.set_defaults(run=_in_state, work=make_backup)


def prepare_restore(parser: argparse.ArgumentParser) -> None:
    restore_arguments(parser)
    add_state_options(parser, default_state())
    parser.set_defaults(run=_in_state, work=restore_backup)


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
