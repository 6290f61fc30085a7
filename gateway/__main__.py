"""The start of the command `irisgate`; `process/command_line.py` has the commands."""

import gc
import sys

from gateway.process import command_line


def main() -> int:
    """Run the command that the arguments name, and return the exit status.

    Garbage collection is off during the imports: it would find little, and take a tenth of the start's CPU time.
    """
    gc.disable()
    return command_line.main(imported=_collect_garbage)


def _collect_garbage() -> None:
    """Switch garbage collection on. Exempt all existing objects, such as the imported modules."""
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    sys.exit(main())
