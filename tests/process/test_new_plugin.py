"""Tests of `irisgate plugins new`: each kind of package passes its own tests and checks, and is found as a plugin."""

import os
import subprocess
import sys
import tomllib

import pytest

from gateway.process.command_line import main
from gateway.process.new_plugin import KINDS, package_files
from tests.helpers.source_tree import ROOT

NAME = "acme_text"


def ran(folder, *command):
    """Run a Python module in a folder. Return its status, and what it prints."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "plugins")))  # mypy does not follow an editable installation
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "MYPYPATH": paths}
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stdout + ended.stderr


def passes(folder, *command):
    """Run a Python module in a folder, and check that it succeeds. Return what it prints."""
    status, printed = ran(folder, *command)
    assert status == 0, printed
    return printed


@pytest.fixture(params=KINDS)
def package(request, tmp_path, capsys):
    """Return the kind and the folder of a new package."""
    folder = tmp_path / "new" / "package"
    assert main(["plugins", "new", NAME, "--kind", request.param, "--folder", str(folder)]) == 0
    assert (
        "pip install -e '.[test]' && pytest && irisgate plugins check acme_text --plugins ." in capsys.readouterr().out
    )
    return request.param, folder


def test_the_tests_of_a_new_package_pass(package):
    _, folder = package
    assert " passed" in passes(folder, "pytest", "-q", "-p", "no:cacheprovider")


MISTAKES = {
    # kind of the plugin: (a line of it, a line with a mistake, the law that is broken)
    "flag": ('yield Place(("text",))', 'yield Place(("texts",))', "filters see the text of a whole reply"),
    "filter": ("len(self.word) - 1, last", "0, last", "pieces"),
    "observer": ("cost = record[", "record = None\n    cost = record[", "record"),
}


def test_the_tests_of_a_package_fail_by_a_broken_law(package):
    kind, folder = package
    right, wrong, law = MISTAKES[kind]
    module = folder / f"{NAME}.py"
    text = module.read_text()
    assert right in text
    module.write_text(text.replace(right, wrong))
    status, printed = ran(folder, "pytest", "-q", "-p", "no:cacheprovider", "-k", "laws")
    assert status == 1
    assert any("BROKEN" in line and law in line for line in printed.splitlines()), printed


@pytest.fixture(scope="module")
def known_types(tmp_path_factory):
    """Return the folder of mypy's cache. All tests share it, because mypy takes most of its time for the gateway's own
    types.
    """
    return tmp_path_factory.mktemp("mypy")


def test_a_new_package_is_formatted_linted_and_typed(package, known_types):
    _, folder = package
    passes(folder, "ruff", "format", "--isolated", "--check", ".")
    passes(folder, "ruff", "check", "--isolated", "--no-cache", ".")
    passes(folder, "mypy", "--strict", "--cache-dir", str(known_types), f"{NAME}.py", f"tests/test_{NAME}.py")


def test_a_new_package_names_its_module_as_entry_point(package):
    kind, folder = package
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"] == {KINDS[kind].group: {NAME: NAME}}
    assert project["tool"]["setuptools"]["py-modules"] == [NAME]


def test_a_new_plugin_passes_the_check(package, tmp_path, capsys):
    kind, folder = package
    (plugins := tmp_path / "plugins").mkdir()
    (folder / f"{NAME}.py").rename(plugins / f"{NAME}.py")
    assert main(["plugins", "check", NAME, "--plugins", str(plugins)]) == 0
    report = capsys.readouterr().out
    assert report.startswith(f"{kind} {NAME}: ")
    assert "BROKEN" not in report


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Acme", '"Acme" cannot be a plugin\'s name; acme can'),
        ("acme-text", '"acme-text" cannot be a plugin\'s name; acme_text can'),
        ("_acme", '"_acme" cannot be a plugin\'s name; acme can'),
        ("acme.text", '"acme.text" cannot be a plugin\'s name; acme_text can'),
        ("../acme", '"../acme" cannot be a plugin\'s name; acme can'),
        ("7up", '"7up" cannot be a plugin\'s name; a name has lower-case letters, digits and underscores, begins'),
        ("", '"" cannot be a plugin\'s name; a name has'),
        ("é", '"é" cannot be a plugin\'s name; a name has'),
        ("class", '"class" cannot be a plugin\'s name; a name has'),
        ("a__b", '"a__b": only names of translators have two underscores in a row; use one'),
        ("a" * 65, "the name has 65 characters; use at most 64"),
        ("openai_chat", "there is a plugin openai_chat already; use another name"),
        ("json", "there is a Python module json already, which the plugin would hide; use another name"),
        ("gateway", "there is a Python module gateway already, which the plugin would hide; use another name"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path, capsys, name, message):
    folder = tmp_path / "new"
    assert main(["plugins", "new", "--kind", "flag", "--folder", str(folder), "--", name]) == 2
    assert capsys.readouterr().err.startswith(f"irisgate plugins new: {message}")
    assert not folder.exists()


def test_nothing_that_exists_is_changed(tmp_path, capsys):
    """Check that an existing folder, file or broken link is not changed if the new package would have its path.

    A file in the place of the parent folder is not changed either.
    """
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name, message in [
        ("folder", " already"),
        ("file", " already"),
        ("link", " already"),
        ("file/in", ": Not a dir"),
    ]:
        assert main(["plugins", "new", NAME, "--kind", "flag", "--folder", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert f"{name}{message}" in error
        assert "--folder DIR" in error
    assert list((tmp_path / "folder").iterdir()) == []
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_package_of_the_same_name_needs_another_folder(tmp_path, monkeypatch, capsys):
    """Check that a second package of the same name is refused, and that the error advises another folder.

    Python finds the first package in the current folder, as if it were installed. The error must not say that the name
    belongs to an installed module.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    command = ["plugins", "new", NAME, "--kind", "filter"]
    assert main(command) == 0
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"irisgate plugins new: there is a file or folder {NAME} already; name a new folder")


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_names_the_folder_of_the_check(kind):
    assert f"irisgate plugins check {NAME} --plugins .\n" in package_files(NAME, kind)["README.md"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_placeholder_is_left(kind):
    assert [path for path, text in package_files(NAME, kind).items() if "$" in text or not text.endswith("\n")] == []
