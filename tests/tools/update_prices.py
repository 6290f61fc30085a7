"""Brings `money/prices/table.json` up to date with the newest price maps, and prints what has changed.

    python -m tests.tools.update_prices

The maps are installed into an environment of their own, which is removed at the end. Nothing is committed: look at the
report, suspicious prices first, then at the difference of the file. The exit status is that of `irisgate prices diff`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "gateway" / "money" / "prices" / "table.json"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before.json"
        shutil.copy(TABLE, before)
        python = Path(folder) / "environment" / "bin" / "python"
        _run(sys.executable, "-m", "venv", str(python.parents[1]))
        # litellm's price map needs none of its many dependencies
        _run(str(python), "-m", "pip", "install", "--quiet", "--upgrade", "--no-deps", "litellm")
        _run(str(python), "-m", "pip", "install", "--quiet", "--upgrade", "genai-prices")
        _run(str(python), "-m", "tests.tools.build_prices")
        command = [sys.executable, "-m", "gateway", "prices", "diff", str(before), str(TABLE)]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


def _run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
