"""Tests that a running gateway keeps the code of its installed plugins, even if their files are changed or removed."""

import pytest

from gateway.contract.plugin_packages import changes, use_packages
from gateway.contract.registry import discover
from gateway.upstream.process_pool import NO_DROP, ProcessPool
from tests.helpers.authors_mistakes import OBSERVER
from tests.helpers.installed import importable, install, uninstall

WORKING = (
    OBSERVER
    + """

def work(number):
    from {lazy} import more
    return f"old {{more()}}"
"""
)
MORE = "def more():\n    return 'old'\n"
LAYOUTS = {
    # name: the module of the entry point, and the module that it imports when it works, both with their paths
    "alone": ("held_alone", "held_alone.py", "held_beside", "held_beside.py"),
    "package": ("held_package", "held_package/__init__.py", "held_package.later", "held_package/later.py"),
    "within": ("held_within.plugin", "held_within/plugin.py", "held_within.deep.later", "held_within/deep/later.py"),
    "shared": ("held_shared.acme.plugin", "held_shared/acme/plugin.py", "held_shared.acme.later", "held_shared/acme/later.py"),
}  # fmt: skip
"""Four ways in which a package can arrange its modules.

Two folders have no `__init__.py`, so that they are namespace packages: the inner folder of `within`, and the outer
folder of `shared`.
"""
PACKAGES = {module.partition(".")[0] for layout in LAYOUTS.values() for module in layout[::2]}


def write(site, layout, version="1", old="old"):
    module, path, lazy, lazy_path = LAYOUTS[layout]
    files = {path: WORKING.format(lazy=lazy).replace("old", old), lazy_path: MORE.replace("old", old)}
    if layout in ("within", "shared"):
        files[path.replace("plugin.py", "__init__.py")] = ""
    options = {"group": "observers", "name": layout, "value": module, "package": f"held-{layout}", "version": version}
    install(site, files=files, **options)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Yield a folder from which Python imports modules. It has one package for each of the `LAYOUTS`."""
    with importable(tmp_path, monkeypatch, *PACKAGES) as folder:
        for layout in LAYOUTS:
            write(folder, layout)
        yield folder
    use_packages(())


def work_of(registry, layout):
    return registry.observers[layout]["seen"].function.__globals__["work"]


def upgrade(site):
    for layout in LAYOUTS:
        write(site, layout, "2", "new")


def remove(site):
    for layout in LAYOUTS:
        uninstall(site, f"held-{layout}")


CHANGES = {"an upgrade": upgrade, "an uninstallation": remove, "no folder": lambda site: site.rename(f"{site}.old")}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_the_code_of_the_start_runs_on_in_all_processes(site, change):
    registry = discover()
    works = {layout: work_of(registry, layout) for layout in LAYOUTS}
    change(site)
    pool = ProcessPool()
    try:
        for layout, work in works.items():
            assert (layout, await pool.run(10_000_000, NO_DROP, work, 1)) == (layout, "old old")
            assert (layout, work(1)) == (layout, "old old")
    finally:
        pool.close()


def test_a_change_of_the_installed_packages_is_described(site):
    running = [package for package in discover().packages if package.name.startswith("held-")]
    assert [str(package) for package in running] == ["held-alone 1", "held-package 1", "held-shared 1", "held-within 1"]

    def differences():
        return [line for line in changes(running) if line.startswith(("held-", "late"))]

    assert differences() == []
    write(site, "alone", "2", "new")
    write(site, "package", "1", "new")
    uninstall(site, "held-shared")
    install(site, package="late")
    assert differences() == [
        "held-alone 1 runs and 2 is installed",
        "held-package 1 runs and its files have changed",
        "held-shared 1 runs and is no longer installed",
        "late 2.1 is installed and does not run",
    ]
