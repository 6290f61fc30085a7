"""Session ids: what clients send, what a chat begins with, and never another caller's."""

import stat
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.call.sessions import KEY_BYTES, agent, fingerprint, load_key, session_id
from gateway.contract.flag import OPAQUE, ClientRequest, Members

KEY = bytes(range(32))
UUID = "0a7c51b2-6b1f-4c8e-9a39-0c3a5a1f8c11"
CHAT = {"model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]}


def ask(body=CHAT, *, dialect="openai_chat", **headers):
    return ClientRequest(
        flag=dialect,
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


def of(*args, **kwargs):
    return session_id(ask(*args, **kwargs), "ada@example.com", KEY)


@pytest.mark.parametrize(
    "header",
    ["x-claude-code-session-id", "session-id", "thread-id", "x-session-affinity", "x-session-id"],
)
def test_a_client_that_names_its_session_in_a_header_is_believed(header):
    assert of(**{header: UUID}) == UUID


def test_codex_before_its_rename_wrote_the_header_with_an_underscore():
    given = ask()
    given.headers["session_id"] = UUID
    assert session_id(given, "ada@example.com", KEY) == UUID


def test_claude_code_names_its_session_in_the_body_too():
    user = orjson.dumps({"device_id": "d", "account_uuid": "", "session_id": UUID}).decode()
    assert of({**CHAT, "metadata": {"user_id": user}}, dialect="anthropic_messages") == UUID


def test_older_releases_of_claude_code_wrote_the_session_into_one_name():
    user = f"user_{'0' * 64}_account__session_{UUID}"
    assert of({**CHAT, "metadata": {"user_id": user}}, dialect="anthropic_messages") == UUID


def test_a_cache_key_is_a_session_for_codex_only():
    body = {"model": "m", "input": "hello", "prompt_cache_key": UUID}
    assert of(body, dialect="openai_responses", user_agent="codex_exec/0.169.0") == UUID
    assert of(body, dialect="openai_responses", user_agent="OpenAI/Python 3.54.0").startswith("fp_")


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
    expected = fingerprint(ask({"system": "S", "messages": [{"content": "hello"}]}), "ada@example.com", KEY)
    assert of(body, dialect=dialect) == expected


def test_callers_prompts_and_keys_have_their_own_fingerprints():
    other = {**CHAT, "messages": [CHAT["messages"][0], {"role": "user", "content": "good evening"}]}
    fingerprints = {
        fingerprint(ask(), "ada@example.com", KEY),
        fingerprint(ask(), "bob@example.com", KEY),
        fingerprint(ask(), "ada@example.com", bytes(32)),
        fingerprint(ask(other), "ada@example.com", KEY),
        fingerprint(ask({**CHAT, "messages": CHAT["messages"][1:]}), "ada@example.com", KEY),
    }
    assert len(fingerprints) == 5


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


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("claude-cli/2.1.197 (external, sdk-cli)", "claude-cli"),
        ("codex_exec/0.169.0 (Debian 12.0.0; x86_64) unknown", "codex"),
        ("opencode/1.18.33", "opencode"),
        ("ai-sdk/provider-utils/3.0.1 runtime/bun/1.4.0", "ai-sdk"),
        ("Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux", "Boto3"),
        ("OpenAI/Python 3.54.0", "OpenAI/Python"),
        ("AsyncOpenAI/Python 3.54.0", "OpenAI/Python"),
        ("Anthropic/Python 2.12.0", "Anthropic/Python"),
        ("AnthropicBedrock/Python 2.12.0", "Anthropic/Python"),
        ("AsyncAnthropicBedrockMantle/Python 2.12.0", "Anthropic/Python"),
        ("GeminiCLI-tui/0.61.0/gemini", "gemini-cli"),
        ("litellm/1.81.10", "litellm"),
        ("langchain-anthropic/1.0", "langchain"),
        ("aws-sdk-js/3.1160.0 ua/2.1", "aws-sdk-js"),
        ("aws-sdk-java/2.40.1 md/io#sync", "aws-sdk-java"),
        ("aws-sdk-go-v2/1.42.0 ua/2.1 os/linux", "aws-sdk-go"),
        ("aws-sdk-rust/1.5.1 os/linux", "aws-sdk-rust"),
        ("OpenAI/Go 3.20.0", "OpenAI/Go"),
        ("Anthropic/Go 1.30.0", "Anthropic/Go"),
        ("OpenAIClientImpl/Java 4.10.0", "OpenAI/Java"),
        ("AnthropicClientImpl/Java 2.11.0", "Anthropic/Java"),
        ("AnthropicBedrock/JS 0.30.0", "Anthropic/JS"),
        ("QwenCode/0.6.0 (linux; x64)", "qwen-code"),
        ("Agents/Python 0.7.0", "Agents/Python"),
        ("Agents/JavaScript 0.4.0", "Agents/JavaScript"),
        ("agent-framework-python/1.0.0", "agent-framework"),
        ("DSPy/3.1.0", "dspy"),
        ("lm15/0.2.0", "lm15"),
        ("ls/JS 0.4.0", "langchain"),
        ("curl/7.88.1", "curl"),
        ("Python/3.11 aiohttp/3.14.5", "aiohttp"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "browser"),
        ("<script>", "other"),
        ("", ""),
    ],
)
def test_user_agents_belong_to_families(name, family):
    assert agent(CIMultiDict({"User-Agent": name})) == family


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
