"""Tests of unusual packages with plugins. Such a package works, or it is left out with a message. Other packages are
loaded in both cases.
"""

import json
import os
import subprocess
import sys
import zipfile

import pytest

from gateway.contract import registry as registries
from gateway.contract.registry import discover
from tests.helpers.authors_mistakes import FLAG, OBSERVER
from tests.helpers.installed import importable, install
from tests.helpers.packages_mistakes import THREAD
from tests.helpers.processes import environment


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Yield a folder from which Python imports modules."""
    with importable(tmp_path, monkeypatch, "acme_plugin", "odd_names", "odd_place") as folder:
        yield folder


def observer(folder, source=OBSERVER, **options):
    install(folder, source, group="observers", **options)


def in_namespace(site):
    observer(site, value="odd_names.plugin", files={"odd_names/plugin.py": OBSERVER})
    # another package of the same namespace
    (site / "odd_names/other").mkdir()


def in_place(site):
    """Install a module in place, as `pip install -e` does: put the folder of its source on Python's path."""
    project = site.with_name("project")
    project.mkdir()
    (project / "odd_place.py").write_text(OBSERVER)
    sys.path.append(str(project))
    observer(site, value="odd_place", files={})


def in_archive(site):
    archive = site / "acme_plugins-2.1-py3-none-any.whl"
    observer(site.with_name("unpacked"))
    with zipfile.ZipFile(archive, "w") as wheel:
        for path in site.with_name("unpacked").rglob("*"):
            wheel.write(path, path.relative_to(site.with_name("unpacked")))
    sys.path.append(str(archive))


WORKING = {
    "a namespace package": in_namespace,
    "an installation in place": in_place,
    "a wheel on the path": in_archive,
    "an import that prints": lambda site: observer(site, f"print('hello')\n{OBSERVER}"),
    "a thread that ends with the process": lambda site: observer(site, THREAD.format(daemon=True) + OBSERVER),
    "a thread that has ended": lambda site: observer(
        site, "import threading\n\nt = threading.Thread(target=int)\nt.start()\nt.join()\n" + OBSERVER
    ),
    "a list of files that cannot be read": lambda site: (
        observer(site), (site / "acme_plugins-2.1.dist-info/RECORD").write_bytes(b'"\xff\0\n,,,,\n')
    ),
    "no list of files": lambda site: (observer(site), (site / "acme_plugins-2.1.dist-info/RECORD").unlink()),
}  # fmt: skip


@pytest.mark.parametrize("make", WORKING.values(), ids=WORKING)
def test_an_unusual_package_works_and_prints_nothing(site, monkeypatch, capsys, make):
    monkeypatch.setattr(sys, "path", list(sys.path))
    make(site)
    registry = discover()
    assert "acme" in registry.observers
    assert "acme-plugins 2.1" in map(str, registry.packages)
    assert capsys.readouterr().out == ""


def test_the_mistake_of_a_package_whose_description_is_lost_is_named(site):
    """Check that the error of a broken plugin is reported even if its package has no file METADATA, as after an
    interrupted installation.
    """
    observer(site, "import acme_sdk\n")
    (site / "acme_plugins-2.1.dist-info/METADATA").unlink()
    (skipped,) = discover().skipped
    assert skipped.reason == (
        f"a package without a name in {site}: {site}/acme_plugin.py:1: plugin acme: "
        "ModuleNotFoundError: No module named 'acme_sdk'; install acme_sdk where the gateway is installed"
    )


def test_entry_points_that_cannot_be_read_harm_no_other_package(site):
    observer(site)
    install(site, package="damaged", files={"odd_place.py": OBSERVER})
    (site / "damaged-2.1.dist-info/entry_points.txt").write_text("[irisgate.flags\n=\n\x00")
    registry = discover()
    assert "acme" in registry.observers
    assert registry.skipped == ()


def test_a_package_that_stands_twice_on_the_path_counts_once(site, tmp_path, monkeypatch):
    """Check that if two packages with the same name are installed, only the one that comes first on Python's path is
    used (jaraco/keyring#486).

    A folder with the name `.dist-info` must do no harm (python/cpython#100455).
    """
    observer(site)
    (site / ".dist-info").mkdir()
    first = tmp_path / "first"
    first.mkdir()
    monkeypatch.syspath_prepend(first)
    observer(first, version="3", name="later", files={"acme_plugin.py": OBSERVER})
    registry = discover()
    assert {"acme", "later"} & set(registry.observers) == {"later"}
    assert "acme-plugins 3" in map(str, registry.packages)
    install(first, group="others", files={})
    assert not {"acme", "later"} & set(discover().observers)


def test_a_name_of_two_packages_is_used_for_neither(site):
    observer(site)
    observer(site, package="other", version="3", value="odd_place", files={"odd_place.py": OBSERVER})
    registry = discover()
    assert "acme" not in registry.observers
    assert registry.known.unusable["acme"].startswith("other 3: entry point acme = odd_place: plugin acme: ")
    assert {(skipped.package, skipped.mistakes[0].message) for skipped in registry.skipped} == {
        ("acme-plugins 2.1", "other 3 has a plugin of that name too; uninstall one of the packages"),
        ("other 3", "acme-plugins 2.1 has a plugin of that name too; uninstall one of the packages"),
    }
    assert not {"acme_plugin", "odd_place"} & set(sys.modules)
    left_out = discover(without=["acme"])
    assert (left_out.skipped, left_out.left_out) == ((), ("acme",))


def test_a_slow_import_is_named_with_its_seconds(site, monkeypatch):
    monkeypatch.setattr(registries, "SLOW_IMPORT_SECONDS", 0.01)
    observer(site, f"import time\n\ntime.sleep(0.02)\n{OBSERVER}")
    assert discover().slow_imports["acme"] >= 0.02


def test_a_command_ends_in_spite_of_a_thread_and_prints_its_result_alone(tmp_path):
    """Check a command with two odd plugins installed: one starts a thread that does not end, and the other prints when
    it is imported.

    The command must end, and print nothing but its result.
    """
    site = tmp_path / "site"
    site.mkdir()
    observer(site, THREAD.format(daemon=False) + OBSERVER)
    install(
        site, f"print('hello')\n{FLAG}", package="other", value="odd_place", name="odd", files={"odd_place.py": FLAG}
    )
    variables = environment(tmp_path)
    variables["PYTHONPATH"] += os.pathsep + str(site)
    command = [sys.executable, "-m", "gateway", "schema"]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=variables)
    assert "providers" in json.loads(ended.stdout)["properties"]
    assert "ends without the threads that a plugin has started" in ended.stderr
