"""Tests of `irisgate usage`: the table, the source of its data, and the error line if there is no answer."""

import asyncio
import json
from decimal import Decimal
from functools import partial

import pytest
from aiohttp import web

from gateway.process.command_line import main
from gateway.testkit import scenarios
from gateway.web.usage.table import table
from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.processes import irisgate
from tests.helpers.records import Kept, record

TOKENS = {"input": 1_234_567, "output": 20, "cache_read": 7, "cache_write_5m": 5, "cache_write_1h": 3, "reasoning": 2}


def row(cost="1.5", unknown=0, **more):
    known = None if cost is None else Decimal(cost)
    sums = {"calls": 1, "failed": 0, "tokens": TOKENS, "cost_usd": known, "cost_unknown_calls": unknown}
    return {"user": "ada@example.com", "model": "opus", **sums, **more}


def table_lines(*rows, by=("user", "model"), **more):
    return table({"usage": list(rows), "by": list(by), **more}).splitlines()


def test_a_table_is_aligned_and_has_totals():
    assert table_lines(row(), row(model="claude-haiku", calls=1200, failed=3, cost="0.00123")) == [
        "user             model         calls  failed      input  output  cache read  cache write     cost",
        "ada@example.com  opus              1       0  1,234,567      20           7            8  $1.5000",
        "ada@example.com  claude-haiku  1,200       3  1,234,567      20           7            8  $0.0012",
        "total                          1,201       3  2,469,134      40          14           16  $1.5012",
    ]


def test_a_single_row_is_its_own_total():
    assert len(table_lines(row())) == 2


def test_an_unknown_cost_is_said_to_be_unknown_with_its_calls():
    lines = table_lines(row(None, 3, calls=3), row("2", 1, calls=4), row("0"))
    assert lines[1].endswith("  unknown (3 calls)")
    assert lines[2].endswith("  $2.0000 + unknown (1 call)")
    assert lines[3].endswith("  $0.0000")
    assert lines[4].endswith("  $2.0000 + unknown (4 calls)")


def test_where_no_cost_is_known_the_total_is_none_either():
    assert table_lines(row(None, 1), row(None, 2))[-1].endswith("  unknown (3 calls)")


def test_a_cost_that_is_small_does_not_look_like_nothing():
    assert table_lines(row("0.000000001"))[1].endswith("  <$0.0001")


def test_a_name_cannot_move_the_cursor():
    assert "\x1b" not in "".join(table_lines(row(model="\x1b[2Jopus\n")))


def test_an_empty_name_is_a_dash():
    assert table_lines(row(model=""))[1].startswith("ada@example.com  -  ")


def test_totals_need_no_groups():
    assert table_lines(row(), by=())[1].split()[0] == "1"


def test_no_calls_are_said_to_be_none():
    assert table_lines() == ["no calls"]
    assert table_lines(row(calls=0), by=()) == ["no calls"]


def test_a_table_that_was_cut_says_so():
    assert table_lines(row(), truncated=True)[-1] == "only the first 1 rows are shown; ask for fewer days or groups"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs `irisgate usage` with the given arguments and environment variables."""
    return partial(irisgate, tmp_path, "usage")


async def test_a_running_gateway_is_asked(run, tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.NAMED["text"]
    body = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url)}) as gw:
        await gw.post("/v1/chat/completions", body)
        await gw.sessions()
        # a proxy of the environment is not asked: it would be who is calling
        table_run, csv_run, json_run = await asyncio.gather(
            run("--url", gw.url, http_proxy="http://127.0.0.1:1"),
            run("--url", f"{gw.url}/", "--csv", "--by", "model"),
            run("--url", gw.url, "--json", "--by", "user,provider", "--user", "(loopback)"),
        )
    assert table_run[0] == 0
    assert table_run[1].splitlines()[1].split()[:4] == ["(loopback)", HAIKU, "1", "0"]
    assert csv_run[1].splitlines()[0].startswith("model,calls,failed,input,")
    (only,) = json.loads(json_run[1])["usage"]
    assert (only["user"], only["provider"], only["calls"]) == ("(loopback)", "bedrock", 1)


async def test_a_gateway_that_says_no_is_quoted_in_one_line(run, tmp_path, bedrock_sim):
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url)}, grants=[]) as gw:
        code, out, err = await run("--url", gw.url)
    assert (code, out) == (2, "")
    assert err == f"irisgate usage: {gw.url} refuses: access denied: no role granted\n"


async def test_another_server_is_no_gateway(run, aiohttp_server):
    async def other(_request):
        return web.Response(text="<html>")

    app = web.Application()
    app.add_routes([web.get("/api/usage", other)])
    server = await aiohttp_server(app)
    code, _, err = await run("--url", f"http://127.0.0.1:{server.port}")
    assert (code, err) == (2, "irisgate usage: what answered is no Irisgate of this release; look at --url\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://127.0.0.1:1"], "http://127.0.0.1:1 cannot be reached: "),
        (["--url", "http://[::1"], "http://[::1 cannot be asked: Invalid IPv6 URL"),
        (["--url", "file:///etc/passwd"], "--url file:///etc/passwd: is no http or https URL; "),
        (["--from", "monday"], 'from: "monday" is no day; '),
        (["--by", "colour"], 'by: "colour" is none of '),
        (["--header", "a b"], 'header: "a b" names no header; '),
        (["--store", "not/there.db"], "--store not/there.db: cannot be read: "),
    ],
)
def test_a_failure_of_the_command_is_one_line_and_status_2(capsys, arguments, message):
    """Check that an error of the command is reported in one line, with exit status 2."""
    assert main(["usage", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"irisgate usage: {message}")
    assert err.count("\n") == 1


@pytest.fixture
async def state_file(tmp_path):
    store = Kept(tmp_path / "a state & more.db")
    for number in range(3):
        cost = None if number else 2_500_000_000
        store.put(record(id=f"req_{number}", cost=cost, headers={"x-team": f"team-{number}"}))
    await store.flush()
    await store.close()
    return tmp_path / "a state & more.db"


async def test_the_file_of_a_gateway_that_is_down_is_read_and_not_changed(run, state_file):
    before = state_file.read_bytes()
    code, out, _ = await run("--store", str(state_file), "--by", "user")
    assert (code, out.splitlines()[1].split()[:2]) == (0, ["ada@example.com", "3"])
    assert out.splitlines()[1].endswith("$2.5000 + unknown (2 calls)")
    code, out, _ = await run("--store", str(state_file), "--by", "user", "--header", "X-Team:team-0")
    assert (code, out.splitlines()[1].split()[:2]) == (0, ["ada@example.com", "1"])
    assert state_file.read_bytes() == before


async def test_the_file_and_the_gateway_answer_alike(run, tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.NAMED["text"]
    async with gate(tmp_path, {"bedrock": bedrock(bedrock_sim.url)}) as gw:
        await gw.post("/v1/messages", {"model": HAIKU, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]})
        await gw.sessions()
        # the file can be read while it is in use, too
        answer, read = await asyncio.gather(
            run("--url", gw.url, "--json", "--by", "hour,agent"),
            run("--store", str(tmp_path / "irisgate.db"), "--json", "--by", "hour,agent"),
        )
    assert answer == read
    assert answer[0] == 0


async def test_a_file_of_another_release_is_not_touched(run, state_file):
    import sqlite3

    with sqlite3.connect(state_file) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    code, _, err = await run("--store", str(state_file))
    assert code == 2
    assert "its schema is version 1, and this irisgate reads version " in err


async def test_a_folder_is_the_store_in_it_or_says_which_file_to_name(run, tmp_path, state_file):
    (tmp_path / "nothing").mkdir()
    code, _, err = await run("--store", str(tmp_path / "nothing"))
    assert code == 2
    assert err.endswith("is a folder: name the file irisgate.db of a gateway's state folder\n")
    (tmp_path / "state").mkdir()
    state_file.rename(tmp_path / "state" / "irisgate.db")
    whole = await run("--store", str(tmp_path / "state"), "--by", "user")
    assert whole == await run("--store", str(tmp_path / "state" / "irisgate.db"), "--by", "user")
    assert whole[0] == 0


async def test_a_file_that_is_no_store_is_told(run, tmp_path):
    (tmp_path / "notes.txt").write_text("notes " * 1000)
    code, _, err = await run("--store", str(tmp_path / "notes.txt"))
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be read: file is not a database" in err
