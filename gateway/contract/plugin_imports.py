"""Imports a plugin's module. A failed import is reported with the line in the plugin's code and a correction.

During an import, printed text goes to standard error, because standard output is for the log and results of commands.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, Final

from gateway.contract.plugin_checks import Mistake
from gateway.contract.plugin_files import FOLDER_PACKAGE, sources_in_use

MAX_CAUSE: Final = 300
"""Maximum number of characters of the cause of a failed import."""


_LASTING: Final[set[threading.Thread]] = set()
"""The threads that imports of plugins started, except daemons. Before the process ends, Python waits for these threads.
"""


def import_or_mistake(name: str, load: Callable[[], Any], package: str, place: str) -> Any:
    """Import a plugin by calling `load`, and return the module. Return a `Mistake` if the import fails.

    Return a `Mistake` too if the import starts a thread that would keep the process from ending. `import_mistake`
    describes the other arguments.
    """
    before = set(threading.enumerate())
    try:
        with redirect_stdout(sys.stderr):
            module = load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 (whatever a plugin raises)
        return import_mistake(name, error, package, place)
    lasting = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    _LASTING.update(lasting)
    if not lasting:
        return module
    wrong = f'its import starts the thread "{lasting[0].name}", without whose end the process could not end'
    return Mistake(name, f"{wrong}; start it with daemon=True", place)


def has_lasting_threads() -> bool:
    """Return whether a thread that the import of a plugin started is still running. Such a thread keeps the process
    from ending.
    """
    return any(thread.is_alive() for thread in _LASTING)


def import_mistake(name: str, error: BaseException, package: str, place: str) -> Mistake:
    """Return a `Mistake` for an exception that an import raised. The mistake has the file and line in the plugin's
    code.

    `package` is the top-level package of the plugin. If none of the package's code has run, the mistake has `place`
    instead of a file and line.
    """
    cause = " ".join(f"{type(error).__name__}: {_text(error)}".split())[:MAX_CAUSE]
    line = _line(error, package)
    right = _advice(error)
    if isinstance(error, ModuleNotFoundError) and not line:
        # nothing of the package has run
        right = f"; the package has no module {error.name}; mend its entry point, or add the module to the package"
    return Mistake(name, f"{cause}{right}", line or place)


def _text(error: BaseException) -> str:
    """Return the text of an exception, even if its `__str__` fails."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 (whatever a plugin raises)
        return "(its text cannot be shown)"


def _line(error: BaseException, package: str) -> str:
    """Return the file and line at which an import failed: of a syntax error, or else of the innermost traceback frame
    that is in the package.

    Return "" if no frame is in the package.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno or 1}"
    frames = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return frames[-1] if frames else ""


def _advice(error: BaseException) -> str:
    """Return advice on correcting the plugin, to append to the error message, or "" if the exception says enough."""
    if isinstance(error, SystemExit):
        return "; a plugin must not end the process"
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    sources = sources_in_use()
    first = error.name.removeprefix(f"{FOLDER_PACKAGE}.").partition(".")[0]
    files = sources.files if sources is not None else {}
    if not error.name.startswith(FOLDER_PACKAGE):
        own = any(path.endswith((f"/{first}.py", f"/{first}/__init__.py")) for path in files)
        right = f'write "from .{first} import …"' if own else f"install {first} where the gateway is installed"
        return f"; {right}"
    return f"; there is no {first}.py beside the plugin"
