"""Tests of comparing two price lists: the differences, the prices that are probably wrong ("doubtful"), and the report."""

import json
from decimal import Decimal

import pytest

from gateway.money.prices.differences import Key, compare, doubts, prices_of, rows_by_key
from gateway.money.prices.report import report
from gateway.money.prices.table import BUILTIN_FILE
from gateway.process.command_line import main

ENTRIES = json.loads(BUILTIN_FILE.read_text("utf-8"))["rows"]
ROWS = rows_by_key(ENTRIES)


def row(model="m", **members):
    return {"book": "bedrock", "model": model, "input": "3", "output": "15", "source": "test"} | members


def changes(before, after):
    (changed,) = compare([before], [after]).changed.values()
    return [str(change) for change in changed]


def test_no_price_of_the_built_in_table_is_doubtful():
    assert doubts(ROWS, ROWS) == {}


def scaled(entry, factor):
    text = {kind: f"{Decimal(entry[kind]) * factor:f}" for kind in ("input", "output") if kind in entry}
    return entry | text


@pytest.mark.parametrize("factor", [Decimal(1000), Decimal("0.001")])
def test_a_price_for_a_thousand_tokens_instead_of_a_million_is_doubtful(factor):
    """Check that a price that is 1,000 times too high or too low is reported as doubtful. More than a hundred rows of
    the price list are tried.
    """
    some = [(key, ROWS[key]) for key in list(ROWS)[::7] if Decimal("0.3") <= Decimal(ROWS[key]["input"]) <= 3]
    assert len(some) > 100
    missed = [key.name for key, entry in some if key not in doubts({**ROWS, key: scaled(entry, factor)}, [key])]
    assert missed == []


def test_the_slip_that_a_source_once_made_is_doubtful():
    """Check that a real mistake of LiteLLM 1.109.1 is reported. In its list, the prices of azure_ai/jais-30b-chat were
    3,200 and 9,710 USD for 1M tokens, instead of 3.20 and 9.71.
    """
    key = Key("azure", "jais-30b-chat")
    slip = ROWS[key] | {"input": "3200", "output": "9710"}
    assert doubts({**ROWS, key: slip}, [key])[key] == ("input 3200 is above 200", "output 9710 is above 1000")
    assert doubts(ROWS, [key]) == {}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"output": "3000"}, "output 3000 is above 1000"),
        ({"output": "0.015"}, "output 0.015 is 0.005 times input 3"),
        ({"output": "700"}, "output 700 is 233 times input 3"),
        ({"cache_read": "300"}, "cache_read 300 is 100 times input 3"),
        ({"cache_write_1h": "6000"}, "cache_write_1h 6000 is 2000 times input 3"),
        ({"flex": {"input": "0.0015"}}, "flex input 0.0015 is 0.0005 times input 3"),
        ({"above": [{"tokens": 200_000, "input": "6000"}]}, "input above 200000 6000 is 2000 times input 3"),
        ({"input": "0.003", "output": "0.015"}, "input 0.003 is below 0.004"),
    ],
)
def test_a_price_that_fits_no_other_price_of_its_row_is_doubtful(members, reason):
    rows = rows_by_key([row(**members)])
    assert reason in doubts(rows, rows)[Key("bedrock", "m")]


def test_a_model_that_costs_far_more_at_one_seller_is_doubtful():
    rows = rows_by_key([row("acme.big-v1:0"), row("acme/big", book="vercel", input="0.05", output="0.25")])
    assert doubts(rows, rows)[Key("bedrock", "acme.big-v1:0")] == ("input 3 is 60 times vercel/acme/big 0.05",)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"input": "3.3"}, ["input 3 -> 3.3 (+10.0 %)"]),
        ({}, {"cache_read": "0.3"}, ["cache_read new 0.3"]),
        ({"cache_read": "0.3"}, {}, ["cache_read 0.3 gone"]),
        ({}, {"flex": {"input": "1.5"}}, ["flex input new 1.5"]),
        (
            {"above": [{"tokens": 200, "input": "6"}]},
            {"above": [{"tokens": 200, "input": "5"}]},
            ["input above 200 6 -> 5 (-16.7 %)"],
        ),
        ({"input": "0", "output": "0"}, {"output": "0"}, ["input 0 -> 3"]),
    ],
)
def test_a_change_of_a_price_is_written_with_its_percentage(before, after, expected):
    assert changes(row(**before), row(**after)) == expected


def test_a_row_with_other_words_and_the_same_prices_is_no_difference():
    assert report(compare([row(source="a", why="b")], [row(source="c")])) == (
        "rows: 0 suspicious, 0 changed, 0 added, 0 dropped and kept, 0 gone"
    )


def test_suspicious_prices_come_first_and_equal_regions_share_a_line():
    before = [row(geo=geo) for geo in ("us", "eu", "jp")] + [row("gone"), row("kept")]
    after = [row(geo=geo, input="3.1") for geo in ("us", "eu")] + [row(geo="jp", input="6")]
    after += [row("kept", dropped="2026-11-28"), row("new", flex={"input": "1.5"})]
    assert report(compare(before, after)).splitlines() == [
        "rows: 1 suspicious, 3 changed, 1 added, 1 dropped and kept, 1 gone",
        "",
        "Suspicious, look at these first:",
        "  bedrock/m [jp]: input 3 -> 6 (+100.0 %)",
        "",
        "Changed:",
        "  bedrock/m [eu, us]: input 3 -> 3.1 (+3.3 %)",
        "  bedrock/m [jp]: input 3 -> 6 (+100.0 %)",
        "",
        "Added:",
        "  bedrock/new: input 3, output 15",
        "",
        "Dropped by the sources and kept:",
        "  bedrock, 2026-11-28: kept",
        "",
        "Gone:",
        "  bedrock: gone",
    ]


def test_every_price_of_the_table_has_a_path_of_its_own():
    for entry in ENTRIES:
        text = json.dumps(entry)
        count = sum(text.count(f'"{kind}": "') for kind in {path.split(" ")[-1] for path in ("input", "output")})
        assert sum("input" in path.split(" ") or "output" in path.split(" ") for path in prices_of(entry)) == count


def command(capsys, *files):
    """Return the exit status, the standard output and the standard error of `irisgate prices diff`."""
    return main(["prices", "diff", *files]), *capsys.readouterr()


def written(path, *rows, **members):
    path.write_text(json.dumps({**members, "rows": rows}))
    return str(path)


def test_the_command_compares_files_and_fails_if_a_price_is_suspicious(tmp_path, capsys):
    before = written(tmp_path / "a.json", row(), row("old"), as_of="2026-10-01")
    after = written(tmp_path / "b.json", row(input="3.1"), as_of="2026-11-01")
    status, out, _ = command(capsys, before, after)
    assert (status, out.splitlines()[0]) == (0, f"{before} of 2026-10-01 -> {after} of 2026-11-01")
    assert "  bedrock: old" in out
    jump = written(tmp_path / "c.json", row(input="3000"), as_of="2026-11-02")
    assert command(capsys, before, jump)[0] == 1


def test_the_command_compares_an_operators_file_with_the_built_in_table(tmp_path, capsys):
    path = tmp_path / "prices.hujson"
    path.write_text(
        '{"rows": [ // ours\n{"book": "bedrock", "model": "us.amazon.nova-lite-v1:0", "input": "0.05", "output": "0.24"},]}'
    )
    status, out, _ = command(capsys, str(path))
    assert (status, out.splitlines()[0].startswith("the built-in table of ")) == (0, True)
    assert "bedrock/amazon.nova-lite-v1:0 [us]: input 0.06 -> 0.05 (-16.7 %)" in out
    assert "Gone" not in out


@pytest.mark.parametrize("count", [0, 3])
def test_the_command_needs_one_or_two_files(tmp_path, capsys, count):
    status, _, error = command(capsys, *[written(tmp_path / "a.json", row())] * count)
    assert (status, error) == (2, "irisgate prices diff: name one or two price lists\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is no price list: "),
        ("[]", 'is no price list; it needs "rows"'),
        ('{"rows": 5}', 'is no price list; it needs "rows"'),
        ('{"rows": [5]}', "rows[0]: is no row of a price list"),
        ('{"rows": [{"book": "bedrock"}]}', "rows[0]: is no row of a price list"),
        ('{"rows": [{"book": "bedrock", "model": "m", "input": "x"}]}', "rows[0]: is no row of a price list"),
        ("\xff", "is no price list"),
    ],
)
def test_what_is_no_price_list_is_one_line_of_error(tmp_path, capsys, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    status, _, error = command(capsys, str(path))
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith("irisgate prices diff: ")
    assert message in error
