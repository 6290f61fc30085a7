"""The command `irisgate serve`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from gateway.config.document.atomic_file import sweep
from gateway.config.example import MINIMAL
from gateway.config.load import Loaded, load
from gateway.process.common_options import (
    add_state_options,
    default_state,
    listener_of,
    path,
    registry_of,
    state_folder,
)
from gateway.process.development import OPTION, develop
from gateway.process.output import UsageError, complain, say
from gateway.process.restarts import TAKE_OVER, command
from gateway.process.serve import CannotStart, Options, serve
from gateway.process.workers.sites import WorkerOptions, count_of
from gateway.store.base import StoreFailed
from gateway.telemetry.log import configure


def prepare_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=path, metavar="FILE", help="the configuration (HuJSON); followed for changes")
    parser.add_argument("--listen", metavar="HOST:PORT", help="listen there only, instead of on the file's listeners")
    parser.add_argument(
        TAKE_OVER, action="store_true", help="take over from the gateway that runs with this state, if there is one"
    )
    parser.add_argument(
        "--workers", metavar="N", default="1", help="number of processes that serve calls, or auto: one for each CPU"
    )
    parser.add_argument(
        OPTION, action="store_true", help="for authors of plugins: run new code of --plugins as soon as a file changes"
    )
    add_state_options(parser, default_state())
    parser.set_defaults(run=_serve)


def _workers(options: argparse.Namespace, loaded: Loaded) -> WorkerOptions | None:
    """Return the options of the worker processes, or None if `--workers` is 1, so that there are none.

    Raises `UsageError` for a wrong value of `--workers`.
    """
    try:
        count = count_of(options.workers)
    except ValueError:
        message = f"irisgate serve: --workers {options.workers}: write a number from 1 on, or auto"
        raise UsageError(message) from None
    if count == 1:
        return None
    return WorkerOptions(
        count=count,
        path=options.config,
        text=loaded.text,
        listen=options.listen or "",
        plugins="" if options.plugins is None else str(options.plugins),
        without=tuple(options.without),
    )


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
    how = Options(
        listener=listener,
        take_over=options.take_over,
        restart=command(sys.orig_argv),
        workers=_workers(options, loaded),
    )
    try:
        asyncio.run(serve(options.config, loaded, registry, state=state, log=log, options=how))
    except (CannotStart, StoreFailed) as error:
        raise UsageError(f"irisgate serve: {error}") from None
    return 0
