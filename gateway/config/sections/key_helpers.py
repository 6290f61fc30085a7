"""A provider's key that a program prints: `"apikey": "exec:NAME ARGUMENTS"`.

The program must be in the folder `helpers` beside the configuration. So a person who may save a configuration, through
the API or a page, cannot run any other program.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path as FilePath
from typing import Final

from gateway.config.credentials import KeyHelper
from gateway.config.document.hujson import Path
from gateway.config.document.secrets import HELPER, HELPER_NAME
from gateway.config.reading import Reading

FOLDER: Final = "helpers"


def read_key_helper(apikey: str, path: Path, reading: Reading) -> KeyHelper | None:
    """Return the program that an `apikey` of the form `exec:NAME` refers to, or None for an `apikey` of another form.

    `path` is the path of `apikey` in the document.
    """
    if not apikey.startswith(HELPER):
        return None
    try:
        words = shlex.split(apikey.removeprefix(HELPER))
    except ValueError:
        words = []
    if not words or not HELPER_NAME.fullmatch(words[0]):
        message = f'"{HELPER}" is followed by the name of a program in the folder "{FOLDER}", and its arguments'
        reading.report.error(path, f'{message}: "{HELPER}bedrock-token --region us-east-1"')
        return None
    program = reading.folder.absolute() / FOLDER / words[0]
    if fault := _fault(program):
        reading.report.error(path, fault)
    return KeyHelper((str(program), *words[1:]))


def _fault(program: FilePath) -> str:
    """Return the reason why a program cannot be used, or "" if it can be used.

    The program must be executable, and only its owner may write it.
    """
    try:
        status = program.stat()
    except OSError:
        return f"there is no program {program}; write it there"
    if not stat.S_ISREG(status.st_mode) or not os.access(program, os.X_OK):
        return f"{program} cannot be executed; give the right with chmod u+x"
    if status.st_mode & stat.S_IWOTH:
        return f"every user of this machine can change {program}; take the right away with chmod o-w"
    if status.st_mode & stat.S_IWGRP:
        return f"every user of its group can change {program}; take the right away with chmod g-w"
    return ""
