"""An application on version 1 of Anthropic's SDK, which prints the answers and errors that it gets.

The script runs in a separate process, because versions 1 and 2 of the SDK cannot be imported into the same process. Its
argument is the gateway's URL.
"""

import json
import sys

import anthropic

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
HELLO = [{"role": "user", "content": "hello"}]
ASK = {"model": HAIKU, "max_tokens": 50, "messages": HELLO}
CITIES = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"name": name, "description": "Of a city.", "input_schema": CITIES} for name in ("get_weather", "get_time")]


def whole(client, **given):
    return client.messages.create(**{**ASK, **given})


def streamed(client, **given):
    with client.messages.stream(**{**ASK, **given}) as stream:
        return stream.get_final_message()


def tool_loop(client, answer):
    """Run the tools that the model calls, send their results, and return the model's answer."""
    message = answer(client, tools=TOOLS, messages=[{"role": "user", "content": "[[scenario: tools]]"}])
    calls = [block for block in message.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": f"{call.name}: yes"} for call in calls]
    history = [*HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    return answer(client, tools=TOOLS, messages=history).content[0].text


def refused(client, answer, prompt, **given):
    """Make a call that must fail. Return the class and the status of the SDK's error, or [] if the call succeeds.

    `prompt` selects the provider's error, or `given` names an unknown model.
    """
    try:
        answer(client, messages=[{"role": "user", "content": prompt}], **given)
    except anthropic.APIStatusError as error:
        return [type(error).__name__, error.status_code]
    return []


def tried(client):
    return {
        answer.__name__: {
            "said": answer(client, messages=[{"role": "user", "content": "[[scenario: text]]"}]).content[0].text,
            "of the tools": tool_loop(client, answer),
            "throttled": refused(client, answer, "[[scenario: throttle]]"),
            "not there": refused(client, answer, "hello", model="us.anthropic.claude-opus-4-6-v1"),
        }
        for answer in (whole, streamed)
    } | {"in mid-stream": refused(client, streamed, "[[scenario: error_in_stream]]")[:1]}


def main(url):
    options = {"max_retries": 0}
    clients = {
        "native": anthropic.Anthropic(base_url=url, api_key="-", **options),
        "bedrock": anthropic.AnthropicBedrock(
            base_url=url + "/bedrock", api_key="-", aws_region="us-east-1", **options
        ),
        "bedrock with a signature": anthropic.AnthropicBedrock(
            base_url=url + "/bedrock", aws_access_key="-", aws_secret_key="-", aws_region="us-east-1", **options
        ),
    }
    outcomes = {name: tried(client) for name, client in clients.items()}
    models = [model.id for model in clients["native"].models.list()]
    json.dump({"version": anthropic.__version__, "models": models, "clients": outcomes}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
