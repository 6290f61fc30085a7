"""What the README's table of clients says is what works, copied as it stands."""

import asyncio
from contextlib import closing

import anthropic
import boto3
import openai

from tests.clients import client_settings
from tests.clients.samples import PLAIN, SAID, check_upstream
from tests.helpers.gateway import HAIKU, NOVA

HELLO = [{"role": "user", "content": "hello"}]


async def test_boto3_as_in_the_readme(gw, bedrock_sim):
    bedrock_sim.script(PLAIN)
    (expression,) = client_settings.settings("boto3", gw.url)
    messages = [{"role": "user", "content": [{"text": "hello"}]}]
    with closing(eval(expression, {"boto3": boto3})) as client:
        reply = await asyncio.to_thread(client.converse, modelId=NOVA, messages=messages)
    assert reply["output"]["message"]["content"][0]["text"] == SAID
    check_upstream(bedrock_sim)


async def test_both_clients_of_anthropics_sdk_as_in_the_readme(gw, bedrock_sim):
    expressions = client_settings.settings("Anthropic SDK", gw.url)
    assert len(expressions) == 2
    for expression in expressions:
        bedrock_sim.script(PLAIN)
        with eval(expression, vars(anthropic)) as client:
            given = {"model": HAIKU, "max_tokens": 50, "messages": HELLO}
            message = await asyncio.to_thread(client.messages.create, **given)
        assert message.content[0].text == SAID
    check_upstream(bedrock_sim)


async def test_openais_sdk_as_in_the_readme(gw, bedrock_sim):
    bedrock_sim.script(PLAIN)
    (url,) = client_settings.settings("OpenAI SDK", gw.url)
    async with openai.AsyncOpenAI(base_url=url, api_key="any key") as client:
        completion = await client.chat.completions.create(model=HAIKU, messages=HELLO)
    assert completion.choices[0].message.content == SAID
    check_upstream(bedrock_sim)
