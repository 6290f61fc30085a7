"""The start of the command `irisgate`; `process/command_line.py` has the commands."""

import gc
import sys


def main() -> int:
    """Import the commands, run the one that the arguments name, and return the exit status.

    Garbage collection is off during the imports: it would find little, and take a tenth of the start's CPU time.
    """
    gc.disable()
    from gateway.process import command_line  # noqa: PLC0415 (garbage collection must be off before)

    gc.freeze()
    gc.enable()
    return command_line.main()


if __name__ == "__main__":
    sys.exit(main())
