"""Tests of the section `exporters`: the settings that it becomes, and its faults."""

import json
from pathlib import Path

import pytest

from gateway.config.exporters import Exporter
from gateway.config.load import loads
from tests.config.test_messages import assert_said


def exporters(**section):
    return loads(json.dumps({"exporters": section}), folder=Path("/etc/irisgate")).config.exporters


def test_nothing_is_exported_unless_a_destination_is_named():
    assert loads("{}").config.exporters == ()
    assert exporters() == ()


def test_a_folder_begins_at_that_of_the_configuration():
    assert exporters(folder={"path": "/out"}) == (Exporter("folder", Path("/out"), "cbor.zstd", 3600, 1000),)
    (export,) = exporters(folder={"path": "out", "format": "json.gz", "every": 60, "limit": 50, "bodies": True})
    assert export == Exporter("folder", Path("/etc/irisgate/out"), "json.gz", 60, 50, bodies=True)


def test_each_destination_and_format_has_a_position_of_its_own():
    names = {
        exporters(folder={"path": path, "format": form})[0].name for path in "ab" for form in ("json.gz", "cbor.zstd")
    }
    assert len(names) == 4


@pytest.mark.parametrize(("given", "used"), [(0, 1000), (1, 1), (20_000, 10_000)])
def test_the_limit_is_at_most_ten_thousand_as_in_the_hosted_product(given, used):
    assert exporters(folder={"path": "out", "limit": given})[0].limit == used


def test_an_export_is_made_at_most_once_a_second():
    assert exporters(folder={"path": "out", "every": 0})[0].every == 1


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ('"exporters": {»"folder": {}}', "exporters.folder.path: is missing"),
        ('"exporters": {"folder": {»"path": ""}}', "exporters.folder.path: must be the path of a folder, such as"),
        (
            '"exporters": {"folder": {"path": "a", »"format": "csv"}}',
            'exporters.folder.format: "csv" is not one of cbor.zstd, json.gz',
        ),
        ('"exporters": {"folder": {"path": "a", »"limit": -1}}', "exporters.folder.limit: "),
        ('"exporters": {»"files": {}}', "warning: exporters.files: unknown key; it has no effect"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(section, expected):
    assert_said(section, expected)
