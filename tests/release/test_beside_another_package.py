"""Test that tests about all plugins pass while another author's package of plugins is installed.

`IRISGATE_OUTER_WHEEL=1 tests/run` runs the whole suite with this package.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.tools.outer_package import PLUGINS, install_without_build

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = (
    "tests/contract/test_registry.py",
    "tests/contract/test_conversions.py",
    "tests/config/test_export.py",
    "tests/pages/test_compatibility.py",
)
SLOW = "not features and not by_the_data"
"""Value of pytest's option `-k`. It leaves out the slow tests in the files `SAMPLE`."""
SAMPLE_SECONDS = 600


def test_the_tests_that_enumerate_plugins_pass_beside_another_package(tmp_path):
    site = tmp_path / "site"
    install_without_build(site)
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "plugins", site)))
    python = [sys.executable, "-m"]
    options = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": paths}, "capture_output": True, "text": True}
    listed = subprocess.run([*python, "gateway", "plugins", "list"], check=True, timeout=SAMPLE_SECONDS, **options)
    assert f"zenith 1: {', '.join(sorted(PLUGINS))}" in listed.stdout.splitlines()
    suite = [*python, "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "-k", SLOW, *SAMPLE]
    ended = subprocess.run(suite, check=False, timeout=SAMPLE_SECONDS, **options)
    assert ended.returncode == 0, ended.stdout[-4000:]
