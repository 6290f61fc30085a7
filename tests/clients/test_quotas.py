"""Tests of the exceptions that the vendors' own libraries raise when a quota is used up."""

import asyncio

import anthropic
import openai
import pytest
from botocore.exceptions import ClientError

from tests.clients.test_boto3 import HELLO as TURNS
from tests.clients.test_boto3 import connect
from tests.end_to_end.test_quotas import HELLO, limited, quota
from tests.helpers.gateway import HAIKU


async def test_the_openai_sdk_raises_its_rate_limit_error(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(0)) as gw:
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="-", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model=HAIKU, messages=HELLO)
        assert caught.value.code == "insufficient_quota"


async def test_the_anthropic_sdk_raises_its_rate_limit_error(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(0)) as gw:
        client = anthropic.AsyncAnthropic(base_url=gw.url, api_key="-", max_retries=0)
        with pytest.raises(anthropic.RateLimitError):
            await client.messages.create(model=HAIKU, max_tokens=5, messages=HELLO)
        await client.close()


async def test_boto3_raises_its_throttling_exception(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(0)) as gw:
        client = connect(gw.url + "/bedrock")
        with pytest.raises(client.exceptions.ThrottlingException) as caught:
            await asyncio.to_thread(client.converse, modelId=HAIKU, messages=TURNS)
        client.close()
        assert isinstance(caught.value, ClientError)
        assert caught.value.response["Error"]["Code"] == "ThrottlingException"
