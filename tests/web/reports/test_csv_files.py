"""Tests of the cells of CSV files."""

import csv
import io
from itertools import product

import pytest

from gateway.web.reports.csv_files import LINE_END, csv_lines, safe_text, texts_as_csv

TEXTS = (
    "",
    "claude",
    "a b",
    "x-team",
    "=1+1",
    "+1",
    "-1",
    "@a",
    "\ta",
    "a\tb",
    "a,b",
    'a"b',
    "a\nb",
    "a\rb",
    "＝1",
    "é",
    "\ud800",
)


@pytest.mark.parametrize("texts", [*product(TEXTS, repeat=2)])
def test_texts_are_the_cells_that_the_csv_module_writes(texts):
    line = texts_as_csv(*texts, "end")
    assert (line + LINE_END).encode("utf-8", "replace") == csv_lines([(*texts, "end")])
    if "\ud800" not in texts:
        assert next(csv.reader(io.StringIO(line, newline=""))) == [*map(safe_text, texts), "end"]
