"""Tests of the names of client programs, which the gateway reads from request headers. An unknown program cannot add a
metric label.
"""

import re

import pytest
from multidict import CIMultiDict

from gateway.call.agents import AGENTS, RULES, agent

SDK = "OpenAI/JS 6.26.0"
UUID = "0a7c51b2-6b1f-4c8e-9a39-0c3a5a1f8c11"


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
        ("aws-sdk-java/2.40.1 ua/2.1 api/Bedrock_Runtime#2.40 md/io#async", "aws-sdk-java"),
        ("aws-sdk-kotlin/1.5.1 ua/2.1 api/bedrockruntime", "aws-sdk-kotlin"),
        ("aws-sdk-swift/1.6.0 ua/2.1", "aws-sdk-swift"),
        ("aws-sdk-dotnet-coreclr/3.7.500 ua/2.1", "aws-sdk-net"),
        ("aws-sdk-net/4.0.1 ua/2.1", "aws-sdk-net"),
        ("aws-sdk-php/3.369.0 ua/2.1", "aws-sdk-php"),
        ("aws-sdk-ruby3/3.240.0 ua/2.1", "aws-sdk-ruby"),
        ("aws-sdk-cpp/1.11.700 ua/2.1", "aws-sdk-cpp"),
        ("aws-cli/2.32.0 md/awscrt#0.29", "aws-cli"),
        ("Boto3/1.44.5 md/Botocore#1.44.5 x-client-framework:langchain-aws", "langchain"),
        ("Boto3/1.44.5 md/Botocore#1.44.5 x-client-framework:llama_index", "llama-index"),
        ("Boto3/1.44.5 md/Botocore#1.44.5 x-client-framework:haystack", "haystack"),
        ("Boto3/1.44.5 md/Botocore#1.44.5 x-client-framework:semantic-kernel", "semantic-kernel"),
        ("Boto3/1.44.5 md/Botocore#1.44.5 strands-agents", "strands"),
        ("pydantic-ai/2.68.0", "pydantic-ai"),
        ("OpenAI::Client/Ruby 0.40.0", "OpenAI/Ruby"),
        ("OpenAI/2.8.0 (.NET 10.0.1; Linux)", "OpenAI/.NET"),
        ("Anthropic::Client/Ruby 1.20.0", "Anthropic/Ruby"),
        ("AnthropicClient/C# 12.0.0", "Anthropic/C#"),
        ("AsyncAzureOpenAI/Python 3.54.0", "OpenAI/Python"),
        ("AzureOpenAI/JS 6.26.0", "OpenAI/JS"),
        ("ai/6.0.326 ai-sdk/provider-utils/4.0.3 runtime/node.js/v20", "ai-sdk"),
        ("opencode/1.18.33 ai-sdk/provider-utils/4.0.3 runtime/bun/1.4.0", "opencode"),
        ("claude-cli/2.1.332 (external, claude-desktop, agent-sdk/0.3)", "claude-cli"),
        ("claude-code/1.0.0", "claude-cli"),
        ("codex_cli_rs/0.149.0 (Ubuntu 24.04; x86_64) WindowsTerminal", "codex"),
        ("codex_vscode/0.169.0", "codex"),
        ("codex-tui/0.169.0", "codex"),
        ("Codex Desktop/0.169.0", "codex"),
        ("GeminiCLI/0.56.0/gemini-3 (linux; x64; terminal)", "gemini-cli"),
        ("Cline/3.40.0", "cline"),
        ("RooCode/3.52.1", "roo-code"),
        ("Roo-Code 3.52.1", "roo-code"),
        ("Kilo-Code/7.3.40", "kilo-code"),
        ("Continue/1.0.0 (VS Code)", "continue"),
        ("Zed/0.211.6 (macos; x86_64)", "zed"),
        ("goose/1.4.2", "goose"),
        ("Charm-Crush/v0.97.1 (https://charm.land/crush)", "crush"),
        ("factory-cli/0.232.0", "droid"),
        ("KimiCLI/1.28.0", "kimi-cli"),
        ("Mozilla/5.0 (Windows NT 10.0) CherryStudio/1.4.0 Chrome/132 Electron/35", "cherry-studio"),
        ("GitHubCopilotChat/0.35.0", "copilot-chat"),
        ("copilot/1.0.64 (client/cli linux)", "copilot-cli"),
        ("pi/0.73.1", "pi"),
        ("axios/1.12.2", "axios"),
        ("Java-http-client/21.0.5", "java"),
        ("Bun/1.4.0", "node"),
    ],
)
def test_user_agents_belong_to_families(name, family):
    assert agent(CIMultiDict({"User-Agent": name})) == family
    assert agent({"user-agent": name}) == family


@pytest.mark.parametrize(
    "name",
    [
        "<script>", "codexa/1.0", "MyCherryStudio/x", "claude-cli 2.0", "myopencode-tool/1.0", "pip/25.0", "pi (codeassist)",
        "my-claude-cli/2.0", "x" * 100_000, "\x00", "é", "Anthropic", "OpenAI/2.8.0", "zed", "gooseberry/1.0",
    ],
    ids=lambda name: repr(name[:20]),
)  # fmt: skip
def test_a_program_that_is_not_known_is_other(name):
    assert agent({"user-agent": name}) == "other"


@pytest.mark.parametrize(
    ("headers", "family"),
    [
        ({"x-initiator": "user"}, "copilot-cli"),
        ({"x-initiator": "agent"}, "copilot-cli"),
        ({"x-client-request-id": UUID, "session_id": UUID}, "pi"),
        ({"x-client-request-id": UUID, "x-session-affinity": UUID}, "pi"),
        ({"x-client-request-id": UUID, "session_id": "another"}, "OpenAI/JS"),
        ({"x-client-request-id": UUID}, "OpenAI/JS"),
        ({"session_id": UUID}, "OpenAI/JS"),
        ({"x-claude-code-session-id": UUID}, "claude-cli"),
        ({"x-codex-turn-metadata": "{}"}, "codex"),
        ({"x-codex-window-id": "w"}, "codex"),
        ({"x-opencode-session": "ses_1"}, "opencode"),
        ({"x-openwebui-chat-id": UUID}, "open-webui"),
        ({"x-librechat-conversation-id": UUID}, "librechat"),
        ({"x-session-id": UUID}, "OpenAI/JS"),
        ({"x-initiator": ""}, "OpenAI/JS"),
        ({}, "OpenAI/JS"),
    ],
    ids=str,
)
def test_a_header_of_a_program_counts_more_than_the_sdk_it_is_built_on(headers, family):
    assert agent({"user-agent": SDK, **headers}) == family
    assert agent({"user-agent": "Anthropic/JS 0.30.0", **headers}) == family.replace("OpenAI", "Anthropic")


def test_the_user_agent_of_a_program_counts_more_than_headers():
    headers = {"x-initiator": "agent", "x-client-request-id": UUID, "session_id": UUID}
    assert agent({"user-agent": "opencode/1.18.33", **headers}) == "opencode"
    assert agent({"user-agent": "codex_exec/0.169.0", **headers}) == "codex"


def test_without_a_user_agent_there_is_an_agent_only_by_a_header():
    assert agent({}) == agent({"user-agent": ""}) == ""
    assert agent({"x-claude-code-session-id": UUID}) == "claude-cli"


def test_every_rule_has_one_way_to_match_and_its_source():
    for rule in RULES:
        assert bool(rule.user_agent) != bool(rule.header)
        assert not rule.equal_to or rule.header
        assert rule.header == rule.header.lower()
        assert re.fullmatch(r"[A-Za-z0-9./#-]{1,20}", rule.agent)


def test_there_are_few_enough_agents_for_a_label():
    assert len(AGENTS) < 100
    assert {agent({"user-agent": f"client-{number}/1.0"}) for number in range(500)} == {"other"}
