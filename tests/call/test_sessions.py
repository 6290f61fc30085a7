"""Tests of session ids. An id comes from the client's request, or is computed from the beginning of the chat.

No caller ever gets the session of another caller.
"""

import stat
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import sessions as sessions_module
from gateway.call.agents import agent
from gateway.call.fingerprints import fingerprint as keyed_fingerprint
from gateway.call.sessions import IDLE_SECONDS, KEY_BYTES, Sessions, load_key, named_session
from gateway.contract.flag import OPAQUE, ClientRequest, Members
from gateway.contract.openings import MAX_ITEMS, WINDOW
from tests.helpers.cpu_time import cpu_units
from tests.helpers.gateway import KEY as KEY_OF_PROVIDER
from tests.helpers.gateway import gate
from tests.helpers.own_plugins import discover_own

KEY = bytes(range(32))
UUID = "0a7c51b2-6b1f-4c8e-9a39-0c3a5a1f8c11"
CHAT = {"model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]}


FLAGS = discover_own().flags


def ask(body=CHAT, *, dialect="openai_chat", **headers):
    return ClientRequest(
        flag="bedrock_model_invoke" if dialect == OPAQUE else dialect,
        dialect=dialect,
        operation="generate",
        method="POST",
        path="/",
        query="",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        top=Members(body if isinstance(body, bytes) else orjson.dumps(body)),
        model="m",
        stream=False,
    )


def session_of(request, sessions=None, login="ada@example.com"):
    return (sessions or Sessions(KEY, lambda: 0x6ABC0000)).id_of(
        request, login, agent(request.headers), FLAGS[request.flag]
    )


def of(*args, **kwargs):
    return session_of(ask(*args, **kwargs))


def fingerprint(request, login="ada@example.com", key=KEY):
    begin = FLAGS[request.flag].opening(request)
    return keyed_fingerprint(begin, login, agent(request.headers), key) if begin else ""


@pytest.mark.parametrize(
    "header",
    [name for name in sessions_module.ID_HEADERS if name != "session_id"],
)
def test_a_client_that_names_its_session_in_a_header_is_believed(header):
    assert of(**{header: UUID}) == UUID


def test_codex_before_its_rename_wrote_the_header_with_an_underscore():
    given = ask()
    given.headers["session_id"] = UUID
    assert session_of(given) == UUID


def test_claude_code_names_its_session_in_the_body_too():
    user = orjson.dumps({"device_id": "d", "account_uuid": "", "session_id": UUID}).decode()
    assert of({**CHAT, "metadata": {"user_id": user}}, dialect="anthropic_messages") == UUID


def test_older_releases_of_claude_code_wrote_the_session_into_one_name():
    user = f"user_{'0' * 64}_account__session_{UUID}"
    assert of({**CHAT, "metadata": {"user_id": user}}, dialect="anthropic_messages") == UUID


@pytest.mark.parametrize("dialect", ["openai_responses", "openai_chat"])
@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"user_agent": "codex_exec/0.169.0"}, True),
        ({"user_agent": "Codex Desktop/0.169.0 (Mac OS 26.0; arm64)"}, True),
        ({"user_agent": "OpenAI/JS 6.26.0", "x_codex_turn_metadata": "{}"}, True),
        ({"user_agent": "OpenAI/JS 6.26.0", "x_initiator": "user"}, True),
        ({"user_agent": "copilot/1.0.64"}, True),
        ({"user_agent": "pi/0.73.1"}, True),
        ({"user_agent": "OpenAI/JS 6.26.0", "x_client_request_id": UUID}, True),
        ({"user_agent": "opencode/1.18.33 ai-sdk/openai/3.0"}, True),
        ({"user_agent": "OpenAI/JS 6.26.0", "x_client_request_id": "another"}, False),
        ({"user_agent": "OpenAI/Python 3.54.0"}, False),
        ({"user_agent": "QwenCode/0.6.0"}, False),
        ({}, False),
    ],
)
def test_a_cache_key_names_the_session_of_the_clients_that_mean_it_so(dialect, headers, named):
    body = {"model": "m", "input": "hello", "messages": CHAT["messages"], "prompt_cache_key": UUID}
    session = of(body, dialect=dialect, **headers)
    assert session == UUID if named else session.startswith("fp_")


@pytest.mark.parametrize(
    "members",
    [
        {"metadata": {"session_id": UUID}},
        {"metadata": {"user_id": "somebody", "session_id": UUID}},
        {"session_id": UUID},
        {"litellm_session_id": UUID},
        {"session_id": "not an id", "litellm_session_id": UUID},
    ],
    ids=str,
)
@pytest.mark.parametrize("dialect", ["openai_responses", "openai_chat", "anthropic_messages"])
def test_other_members_that_name_a_session_are_believed(dialect, members):
    assert of({**CHAT, **members}, dialect=dialect) == UUID


@pytest.mark.parametrize("value", [UUID, {"id": UUID}], ids=str)
def test_a_conversation_that_openai_stores_is_a_session(value):
    body = {**CHAT, "input": "hello", "conversation": value}
    assert of(body, dialect="openai_responses") == UUID
    assert of(body, dialect="openai_chat").startswith("fp_")


def test_a_member_that_is_too_large_to_name_a_session_is_not_decoded():
    huge = {"metadata": {"session_id": UUID, "x": "y" * 100_000}}
    assert named_session(ask({**CHAT, **huge}), "", FLAGS["openai_chat"]) == ""


@pytest.mark.parametrize("bad", ["", "a/b", "a b", "x" * 129, "../etc", "<b>", "a, b", "é", "\n", "-x"])
def test_an_id_that_could_not_stand_in_a_path_or_a_log_is_not_taken(bad):
    assert of(x_session_id=bad).startswith("fp_")


@pytest.mark.parametrize(
    "metadata", [None, 7, [], {"user_id": 7}, {"user_id": "x"}, {"user_id": "[1]"}, {"user_id": '{"session_id": 1}'}]
)
def test_metadata_that_names_no_session_is_passed_over(metadata):
    assert of({**CHAT, "metadata": metadata}, dialect="anthropic_messages").startswith("fp_")


def test_later_turns_belong_to_the_session_of_the_first():
    more = {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And now?"}
    assert of({**CHAT, "messages": [*CHAT["messages"], *more]}) == of()


@pytest.mark.parametrize(
    ("dialect", "plain", "marked"),
    [
        (
            "anthropic_messages",
            {"system": "S", "messages": [{"role": "user", "content": "hello"}]},
            {
                "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": {"type": "x"}}]}
                ],
            },
        ),
        (
            "bedrock_converse",
            {"system": [{"text": "S"}], "messages": [{"role": "user", "content": [{"text": "hello"}]}]},
            {
                "system": [{"text": "S"}, {"cachePoint": {"type": "default"}}],
                "messages": [{"role": "user", "content": [{"text": "hello"}, {"cachePoint": {"type": "default"}}]}],
            },
        ),
    ],
)
def test_cache_marks_change_no_fingerprint(dialect, plain, marked):
    assert of(plain, dialect=dialect) == of(marked, dialect=dialect)
    assert of(plain, dialect=dialect).startswith("fp_")


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai_responses", {"instructions": "S", "input": "hello"}),
        (
            "openai_responses",
            {"instructions": "S", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]},
        ),
        ("openai_responses", {"input": [{"role": "developer", "content": "S"}, {"role": "user", "content": "hello"}]}),
        (
            "gemini_generate_content",
            {
                "systemInstruction": {"parts": [{"text": "S"}]},
                "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
            },
        ),
        ("openai_chat", {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "hello"}]}),
        ("anthropic_messages", {"system": "S", "messages": [{"role": "user", "content": "hello"}]}),
    ],
)
def test_the_same_beginning_is_the_same_fingerprint_in_every_dialect(dialect, body):
    expected = fingerprint(ask({"system": "S", "messages": [{"content": "hello"}]}))
    assert fingerprint(ask(body, dialect=dialect)) == expected


def test_callers_prompts_and_keys_have_their_own_fingerprints():
    other = {**CHAT, "messages": [CHAT["messages"][0], {"role": "user", "content": "good evening"}]}
    fingerprints = {
        fingerprint(ask()),
        fingerprint(ask(), "bob@example.com"),
        fingerprint(ask(), key=bytes(32)),
        fingerprint(ask(other)),
        fingerprint(ask({**CHAT, "messages": CHAT["messages"][1:]})),
        fingerprint(ask(user_agent="claude-cli/2.1.197")),
        fingerprint(ask(user_agent="curl/7.88")),
    }
    assert len(fingerprints) == 7


def test_two_images_without_a_text_are_two_sessions():
    def image(url):
        return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}

    assert of(image("data:a")) != of(image("data:b"))


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (OPAQUE, CHAT),
        ("openai_chat", {"messages": []}),
        ("openai_chat", {"messages": 7}),
        ("openai_chat", {"messages": [7]}),
        ("openai_chat", {}),
    ],
)
def test_a_body_without_a_chat_gets_a_random_session(dialect, body):
    first, second = of(body, dialect=dialect), of(body, dialect=dialect)
    assert first.startswith("r_")
    assert first != second


def test_a_body_that_nests_without_end_does_no_harm():
    deep = b'{"messages":[{"role":"user","content":' + b"[" * 500 + b"]" * 500 + b"}]}"
    assert of(deep).startswith("fp_")


def test_a_key_is_made_once_and_is_nobody_elses_to_read(tmp_path):
    key = load_key(tmp_path / "state")
    assert len(key) == KEY_BYTES
    assert load_key(tmp_path / "state") == key
    (made,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_processes_that_start_together_agree_on_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_key(tmp_path), range(32)))
    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["session.key"]


def test_a_damaged_key_stops_the_start(tmp_path):
    (tmp_path / "session.key").write_bytes(b"short")
    with pytest.raises(ValueError, match="this file has 5"):
        load_key(tmp_path)


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["user", "system", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "parts", "user_id", "session_id"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_session_that_was_idle_for_long_is_not_taken_up_again(clock):
    sessions = Sessions(KEY, clock)
    first = session_of(ask(), sessions)
    for _ in range(5):
        clock.now += IDLE_SECONDS
        assert session_of(ask(), sessions) == first
    clock.now += IDLE_SECONDS + 1
    second = session_of(ask(), sessions)
    assert second != first
    assert session_of(ask(), sessions) == second


def test_a_session_that_the_client_names_does_not_end(clock):
    sessions = Sessions(KEY, clock)
    assert session_of(ask(x_session_id=UUID), sessions) == UUID
    clock.now += 100 * IDLE_SECONDS
    assert session_of(ask(x_session_id=UUID), sessions) == UUID


def test_a_clock_that_was_set_back_ends_no_session(clock):
    sessions = Sessions(KEY, clock)
    first = session_of(ask(), sessions)
    clock.now -= 10 * IDLE_SECONDS
    assert session_of(ask(), sessions) == first
    clock.now += 10 * IDLE_SECONDS
    assert session_of(ask(), sessions) == first


def test_programs_with_the_same_first_words_have_their_own_sessions():
    programs = [
        "claude-cli/2.1",
        "codex_exec/0.169",
        "opencode/1.18",
        "OpenAI/Python 3",
        "OpenAI/JS 6",
        "curl/8",
        "",
        "x",
    ]
    sessions = Sessions(KEY)
    ids = [session_of(ask(user_agent=name), sessions) for name in programs]
    assert len(set(ids)) == len(programs)
    assert [session_of(ask(user_agent=name), sessions) for name in programs] == ids


def test_the_sessions_of_another_caller_are_not_restored_as_ones_own(clock):
    sessions = Sessions(KEY, clock)
    first = session_of(ask(), sessions)
    forged = SimpleNamespace(id=f"{first}ff", identity="eve@example.com", last_at=clock.now)
    after = Sessions(KEY, clock)
    after.restore([forged, SimpleNamespace(id=first, identity="ada@example.com", last_at=clock.now)])
    assert session_of(ask(), after) == first


def test_only_so_many_sessions_are_remembered(clock, monkeypatch):
    monkeypatch.setattr(sessions_module, "MAX_OPEN", 3)
    sessions = Sessions(KEY, clock)
    first = session_of(ask({"messages": [{"content": "0"}]}), sessions)
    clock.now += 1
    for number in range(10):
        session_of(ask({"messages": [{"content": str(number)}]}), sessions)
    assert len(sessions._open) == 3
    assert session_of(ask({"messages": [{"content": "0"}]}), sessions) != first


async def test_a_restart_neither_splits_nor_joins_sessions(tmp_path, openai_upstream):
    provider = {
        "baseurl": openai_upstream.url,
        "apikey": KEY_OF_PROVIDER,
        "models": ["gpt"],
        "compatibility": {"openai_chat": True},
    }
    body = {"model": "gpt", "messages": [{"role": "user", "content": "hello"}]}
    ids = []
    for agent_name in ("pi/0.73", "curl/8.0"):
        for _ in range(2):
            async with gate(tmp_path, {"o": provider}) as gw:
                assert (await gw.post("/v1/chat/completions", body, headers={"user-agent": agent_name})).status == 200
                ids.append((await gw.sessions())[0]["id"])
    assert ids[0] == ids[1] != ids[2] == ids[3]


@pytest.mark.parametrize("size", [10, WINDOW - 200, WINDOW, 3 * WINDOW], ids=str)
@pytest.mark.parametrize("place", ["system", "member", "user", "image", "later"])
def test_the_turns_of_a_chat_of_any_size_are_one_session(size, place):
    big = "x" * size
    image = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": big}}]
    body = {
        "system": big if place == "member" else "S",
        "messages": [
            {"role": "system", "content": big if place == "system" else "Be brief."},
            {"role": "user", "content": {"user": big, "image": image}.get(place, "hello")},
            {"role": "assistant", "content": big if place == "later" else "Hi"},
        ],
    }
    longer = {**body, "messages": [*body["messages"], {"role": "user", "content": "more"}]}
    assert fingerprint(ask(longer)) == fingerprint(ask(body)) != ""


@pytest.mark.parametrize(
    "item", [b"1", b"{}", b"[]", b'"x"', b'{"role":"system","content":"x"}', b'{"role":"assistant","content":"x"}']
)
def test_a_list_without_end_is_read_at_its_beginning_only(item):
    few = b'{"messages":[' + b",".join([item] * MAX_ITEMS) + b"]}"
    many = b'{"messages":[' + b",".join([item] * 400_000) + b"]}"
    small, large = ask(few), ask(many)
    assert cpu_units(lambda: fingerprint(large)) < 40 * cpu_units(lambda: fingerprint(small))


@pytest.mark.parametrize("role", [[], {}, [{}], 1, None, True])
def test_a_role_that_is_no_text_begins_no_chat_and_crashes_nothing(role):
    assert of({"model": "m", "messages": [{"role": role, "content": "x"}]}).startswith("r_")


@pytest.mark.parametrize(
    "dialect", ["openai_chat", "anthropic_messages", "openai_responses", "gemini_generate_content"]
)
@given(data=st.data())
def test_any_json_has_a_session(dialect, data):
    members = ["messages", "input", "contents", "system", "instructions", "systemInstruction", "metadata"]
    assert of(data.draw(st.dictionaries(st.sampled_from(members), odd)), dialect=dialect)
