"""Tests of Gemini's generateContent requests that are translated to Messages, Converse and Chat."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from gateway_plugins.dialects.gemini_generate_content.signatures import packed
from tests.helpers.gemini_to import (
    CLAUDE,
    GPT,
    IMAGE,
    call,
    conversions,
    dropped,
    model,
    refusal,
    response,
    sent,
    tool,
    user,
)
from tests.helpers.samples import PDF, PNG

SIGNED = [{"thinking": "hm", "signature": "irisgate1:claude:s"}, {"data": "irisgate1:claude:abc"}]
THINKER = replace(GPT, family="deepseek", reasoning_content=True)
CONFIG = "/generationConfig"


def messages(*contents, conversion="anthropic_messages", **more):
    return sent(conversion, {"contents": list(contents), **more})["messages"]


def config(**members):
    return {"generationConfig": members}


# spellings


def snake(value):
    """Return a request with its field names in snake_case. Names that the client chose, as in a tool's arguments, are
    not changed.
    """
    if isinstance(value, list):
        return [snake(each) for each in value]
    if not isinstance(value, dict):
        return value
    own = ("args", "response", "parametersJsonSchema", "responseJsonSchema", "properties")
    return {
        "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name): inner
        if name in own
        else snake(inner)
        for name, inner in value.items()
    }


WHOLE = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        user("See", IMAGE),
        model({"text": "So.", "thoughtSignature": packed(SIGNED)}, call(args={"fooBar": 1}, id="c1")),
        user(response(id="c1", value={"fooBar": 2})),
    ],
    "tools": [
        {"functionDeclarations": [{"name": "look", "parametersJsonSchema": {"type": "object", "minProperties": 1}}]}
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
    "generationConfig": {"maxOutputTokens": 5000, "topP": 0.99, "stopSequences": ["END"], "candidateCount": 1},
    "serviceTier": "flex",
}


@conversions
def test_members_may_have_the_names_of_proto_fields(conversion):
    assert snake(WHOLE)["tool_config"]["function_calling_config"]["allowed_function_names"] == ["look"]
    assert sent(conversion, snake(WHOLE)) == sent(conversion, WHOLE)


@conversions
def test_losses_and_faults_are_named_in_the_clients_spelling(conversion):
    body = {"generation_config": {"media_resolution": "MEDIA_RESOLUTION_LOW"}, "safety_settings": [{"a": 1}]}
    assert dropped(conversion, body) == ["/safety_settings", "/generation_config/media_resolution"]
    assert refusal(conversion, {"generation_config": {"top_p": 2}}).param == "generation_config.top_p"


@conversions
def test_of_two_spellings_the_first_counts_and_the_other_is_reported(conversion):
    body = {"generationConfig": {"maxOutputTokens": 50, "max_output_tokens": 60}}
    assert "60" not in str(sent(conversion, body))
    assert dropped(conversion, body) == [f"{CONFIG}/max_output_tokens"]


@conversions
def test_one_element_may_stand_for_a_list_of_one(conversion):
    single = {
        "system_instruction": {"parts": {"text": "Be brief."}},
        "contents": {"parts": {"text": "Hi"}},
        "tools": {"function_declarations": {"name": "look"}},
        "generationConfig": {"stopSequences": "END"},
    }
    listed = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"parts": [{"text": "Hi"}]}],
        "tools": [{"functionDeclarations": [{"name": "look"}]}],
        "generationConfig": {"stopSequences": ["END"]},
    }
    assert sent(conversion, single) == sent(conversion, listed)


@conversions
def test_numbers_may_be_strings(conversion):
    texts = config(maxOutputTokens="50", temperature="0.5", topK="3", seed="0", candidateCount="1")
    numbers = config(maxOutputTokens=50.0, temperature=0.5, topK=3, seed=0, candidateCount=1)
    assert sent(conversion, texts) == sent(conversion, numbers)


# turns


def test_chunks_of_a_stored_stream_are_one_turn_and_one_text():
    turns = messages(user("Hi"), model("Hel"), model("lo"), model("", call()), user(response(), "Go on"))
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert [block.get("text") or block["type"] for block in turns[1]["content"]] == ["Hello", "tool_use"]


@conversions
@pytest.mark.parametrize("role", ["user", "function", "USER", "", None])
def test_a_role_other_than_the_models_is_the_users(conversion, role):
    assert sent(conversion, {"contents": [{"role": role, "parts": [{"text": "Hi"}]}]}) == sent(conversion, {})


@conversions
def test_contents_without_parts_are_left_out(conversion):
    turns = messages(
        user("Hi"), {"role": "model", "parts": []}, {"role": "model"}, user("Go on"), conversion=conversion
    )
    assert [turn["role"] for turn in turns] in (["user"], ["user", "user"])


# calls and responses


@conversions
def test_calls_without_ids_are_answered_in_the_order_of_their_names(conversion):
    contents = [
        user("Hi"),
        model(call("a", {"n": 1}), call("b"), call("a", {"n": 2})),
        user(response("b", {"output": "B"}), response("a", {"output": "A1"}), response("a", {"output": "A2"})),
    ]
    body = sent(conversion, {"contents": contents})
    assert answers(body) == [("a", 1, "A1"), ("b", None, "B"), ("a", 2, "A2")]


@conversions
def test_the_clients_own_ids_need_not_be_those_of_the_calls(conversion):
    """Check that the response to a tool call without an id is found by the tool's name.

    The response may have an id that the client made up, as Gemini CLI does.
    """
    contents = [user("Hi"), model(call("a"), call("b")), user(response("b", id="cli-2"), response("a", id="cli-1"))]
    assert [name for name, *_ in answers(sent(conversion, {"contents": contents}))] == ["a", "b"]


@conversions
def test_a_made_id_is_not_that_of_another_call(conversion):
    contents = [
        user("Hi"),
        model(call("a", id="gemini_call_9"), call("b"), call("c", id="call_1")),
        user(response("c", {"output": "C"}), response("b", {"output": "B"}), response("a", {"output": "A"})),
    ]
    body = sent(conversion, {"contents": contents})
    assert [answer for *_, answer in answers(body)] == ["A", "B", "C"]


@conversions
def test_an_id_of_a_call_is_the_same_each_time(conversion):
    first = [user("Hi"), model(call("a")), user(response("a"))]
    longer = [*first, model(call("a")), user(response("a"))]
    one, two = sent(conversion, {"contents": first})["messages"], sent(conversion, {"contents": longer})["messages"]
    assert two[: len(one)] == one


def answers(body):
    """Return (name of the tool, argument `n`, text of the result) of each tool call, in the order of the calls."""
    calls, results = [], {}
    for message in body["messages"]:
        if message["role"] == "tool":
            results[message["tool_call_id"]] = message["content"]
        calls += [
            (made["id"], made["function"]["name"], json.loads(made["function"]["arguments"]).get("n"))
            for made in message.get("tool_calls") or ()
        ]
        for block in message["content"] if isinstance(message["content"], list) else ():
            use, result = block.get("toolUse"), block.get("toolResult")
            if use or block.get("type") == "tool_use":
                use = use or block
                calls.append((use.get("toolUseId") or use["id"], use["name"], use["input"].get("n")))
            if result or block.get("type") == "tool_result":
                result = result or block
                results[result.get("toolUseId") or result["tool_use_id"]] = result["content"][0]["text"]
    return [(name, n, results[call_id]) for call_id, name, n in calls]


@pytest.mark.parametrize(
    ("value", "text", "failed"),
    [
        ({"output": "Sunny"}, "Sunny", False),
        ({"output": {"degrees": 21}}, '{"degrees":21}', False),
        ({"error": "No such file."}, "No such file.", True),
        ({"error": {"code": 5}}, '{"code":5}', True),
        ({"result": "x"}, '{"result":"x"}', False),
        ({"output": "x", "more": 1}, '{"output":"x","more":1}', False),
        ({"output": "x", "error": None}, '{"output":"x","error":null}', False),
        ({}, "(no output)", False),
    ],
)
def test_the_output_of_a_function_is_a_member_or_the_whole_response(value, text, failed):
    contents = [user("Hi"), model(call()), user({"functionResponse": {"name": "look", "response": value}})]
    (result,) = messages(*contents)[-1]["content"]
    assert ([block["text"] for block in result["content"]], result.get("is_error", False)) == ([text], failed)


@conversions
def test_a_response_may_have_files(conversion):
    contents = [user("Hi"), model(call()), user(response(parts=[IMAGE]))]
    assert PNG in str(sent(conversion, {"contents": contents}))


# thinking


def test_a_signature_becomes_the_thinking_before_its_part():
    signed = {**call(), "thoughtSignature": packed(SIGNED)}
    turns = messages(user("Hi"), model({"text": "hm", "thought": True}, "Well.", signed), user(response()))
    assert turns[1]["content"] == [
        {"type": "text", "text": "Well."},
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "abc"},
        {"type": "tool_use", "id": "gemini_call_0", "name": "look", "input": {}},
    ]


@conversions
def test_a_client_that_leaves_out_thoughts_sends_the_same(conversion):
    signed = {**call(), "thoughtSignature": packed(SIGNED)}
    shown = [user("Hi"), model({"text": "hm", "thought": True}), model(signed), user(response())]
    hidden = [user("Hi"), model(signed), user(response())]
    assert sent(conversion, {"contents": shown}) == sent(conversion, {"contents": hidden})


@conversions
@pytest.mark.parametrize("decode", [base64.urlsafe_b64encode, base64.standard_b64encode])
@pytest.mark.parametrize("padded", [True, False])
def test_a_signature_comes_back_in_either_alphabet(conversion, decode, padded):
    signature = packed([{"thinking": "hm?~\xff", "signature": "irisgate1:claude:s"}])
    text = decode(base64.b64decode(signature)).decode()
    again = {"text": "Well.", "thoughtSignature": text if padded else text.rstrip("=")}
    plain = {"text": "Well.", "thoughtSignature": signature}
    made = [sent(conversion, {"contents": [user("Hi"), model(part), user("Go on")]}) for part in (again, plain)]
    assert made[0] == made[1]


SKIPPED = "skip_thought_signature_validator"


@conversions
@pytest.mark.parametrize(
    ("signature", "lost"),
    [
        ("Zm9yZWlnbg==", True),
        ("not base64 %", True),
        (base64.b64encode(b"irisgate1+[1").decode(), True),
        (base64.b64encode(b"irisgate1+{}").decode(), True),
        (base64.b64encode(b'irisgate1+[{"data": 1}]').decode(), True),
        (SKIPPED, False),
        (base64.b64encode(SKIPPED.encode()).decode(), False),
        ("", False),
        (None, False),
    ],
)
def test_a_foreign_signature_is_reported_and_a_placeholder_is_not(conversion, signature, lost):
    body = {"contents": [user("Hi"), model({"text": "Well.", "thoughtSignature": signature}), user("Go on")]}
    assert dropped(conversion, body) == (["/contents/1/parts/0/thoughtSignature"] if lost else [])


def test_unsigned_thoughts_are_reported_or_go_to_a_model_that_takes_them():
    contents = [
        user("Hi"),
        model({"text": "h", "thought": True}, {"text": "m", "thought": True}, call()),
        user(response()),
    ]
    assert dropped("anthropic_messages", {"contents": contents}) == ["/contents/1/parts/0"]
    assert sent("openai_chat", {"contents": contents}, THINKER)["messages"][1]["reasoning_content"] == "hm"


@conversions
def test_a_turn_of_thoughts_alone_is_left_out(conversion):
    body = {"contents": [user("Hi"), model({"text": "hm", "thought": True}), user("Go on")]}
    assert dropped(conversion, body) == ["/contents/1/parts/0"]


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ({"thinkingBudget": 5000}, {"type": "enabled", "budget_tokens": 5000}),
        ({"thinkingBudget": "5000"}, {"type": "enabled", "budget_tokens": 5000}),
        ({"thinkingBudget": -1}, {"type": "enabled", "budget_tokens": 16_384}),
        ({"includeThoughts": True}, {"type": "enabled", "budget_tokens": 16_384}),
        ({"thinkingLevel": "LOW"}, {"type": "enabled", "budget_tokens": 2048}),
        ({"thinkingLevel": "low", "includeThoughts": False}, {"type": "enabled", "budget_tokens": 2048}),
        ({"thinkingBudget": 0}, None),
        ({"thinkingBudget": 0, "includeThoughts": True}, None),
        ({"includeThoughts": False}, None),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_thinking_is_asked_for_in_the_models_form(thinking, expected):
    body = config(thinkingConfig=thinking)
    assert sent("anthropic_messages", body).get("thinking") == expected
    assert dropped("anthropic_messages", body) == []


def test_a_budget_that_a_model_cannot_take_is_reported_where_it_is():
    body = config(thinkingConfig={"thinkingBudget": 100}, maxOutputTokens=3000)
    assert dropped("anthropic_messages", body) == [f"{CONFIG}/thinkingConfig/thinkingBudget"]
    off = replace(CLAUDE, reasoning="none")
    assert dropped("anthropic_messages", config(thinkingConfig={"includeThoughts": True}), off) == [
        f"{CONFIG}/thinkingConfig/includeThoughts"
    ]


# tools


def declared(*tools, **more):
    return sent("anthropic_messages", {"tools": list(tools), **more})


@pytest.mark.parametrize(
    ("calling", "names", "choice"),
    [
        ({"mode": "AUTO"}, ["a", "b"], None),
        ({"mode": "MODE_UNSPECIFIED"}, ["a", "b"], None),
        ({}, ["a", "b"], None),
        ({"mode": "ANY"}, ["a", "b"], {"type": "any"}),
        ({"mode": "any"}, ["a", "b"], {"type": "any"}),
        ({"mode": "NONE"}, ["a", "b"], {"type": "none"}),
        ({"mode": "ANY", "allowedFunctionNames": ["b"]}, ["a", "b"], {"type": "tool", "name": "b"}),
        ({"mode": "ANY", "allowedFunctionNames": ["b", "a", "x"]}, ["a", "b"], {"type": "any"}),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["b"]}, ["b"], None),
    ],
)
def test_the_choice_of_a_tool_and_the_allowed_names(calling, names, choice):
    body = declared(tool("a"), tool("b"), toolConfig={"functionCallingConfig": calling})
    assert ([made["name"] for made in body["tools"]], body.get("tool_choice")) == (names, choice)


@conversions
def test_what_no_other_api_says_of_a_tool_is_reported(conversion):
    function = {"name": "look", "behavior": "NON_BLOCKING", "response": {"type": "OBJECT"}, "description": "Looks."}
    body = {
        "tools": [{"functionDeclarations": [function]}],
        "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}, "retrievalConfig": {"languageCode": "de"}},
    }
    assert dropped(conversion, body) == [
        "/tools/0/functionDeclarations/0/response",
        "/tools/0/functionDeclarations/0/behavior",
        "/toolConfig/retrievalConfig",
        "/toolConfig/functionCallingConfig/mode",
    ]


# faults

REFUSED = {
    # name: (body, field in the error)
    "no contents": ({"contents": []}, "contents"),
    "contents are a text": ({"contents": "Hi"}, "contents"),
    "a content is a text": ({"contents": ["Hi"]}, "contents[0]"),
    "an unknown role": ({"contents": [{"role": "system", "parts": []}]}, "contents[0].role"),
    "a part is a text": ({"contents": [{"parts": ["Hi"]}]}, "contents[0].parts[0]"),
    "a part of nothing": ({"contents": [{"parts": [{}]}]}, "contents[0].parts[0]"),
    "a part of two kinds": ({"contents": [{"parts": [{"text": "x", **IMAGE}]}]}, "contents[0].parts[0]"),
    "a text that is none": ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts[0].text"),
    "a call of the user": ({"contents": [user(call())]}, "contents[0].parts[0].functionCall"),
    "code of the user": (
        {"contents": [user({"executableCode": {"code": "1"}})]},
        "contents[0].parts[0].executableCode",
    ),
    "a response of the model": (
        {"contents": [user("Hi"), model(response())]},
        "contents[1].parts[0].functionResponse",
    ),
    "a call without a name": ({"contents": [user("Hi"), model(call(""))]}, "contents[1].parts[0].functionCall.name"),
    "arguments that are a list": (
        {"contents": [user("Hi"), model({"functionCall": {"name": "a", "args": [1]}})]},
        "contents[1].parts[0].functionCall.args",
    ),
    "a response to nothing": ({"contents": [user(response())]}, "contents[0].parts[0].functionResponse.name"),
    "a response to an older turn": (
        {"contents": [user("Hi"), model(call("a")), user(response("a")), model(call("b")), user(response("a"))]},
        "contents[4].parts[0].functionResponse.name",
    ),
    "a file of Google's": (
        {"contents": [user({"fileData": {"fileUri": "gs://bucket/a.png"}})]},
        "contents[0].parts[0].fileData",
    ),
    "a video": (
        {"contents": [user({"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}})]},
        "contents[0].parts[0].inlineData.data",
    ),
    "data that is no base64": (
        {"contents": [user({"inlineData": {"mimeType": "image/png", "data": "%"}})]},
        "contents[0].parts[0].inlineData.data",
    ),
    "an image in the system instruction": (
        {"systemInstruction": {"parts": [IMAGE]}},
        "systemInstruction.parts[0].inlineData",
    ),
    "a search": ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
    "a search in snake_case": ({"tools": [{"google_search": {}}]}, "tools[0].google_search"),
    "code execution": ({"tools": [tool("a"), {"codeExecution": {}}]}, "tools[1].codeExecution"),
    "a tool without a name": ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
    "a demand without tools": (
        {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        "toolConfig.functionCallingConfig.mode",
    ),
    "a demand of an unknown tool": (
        {
            "tools": [tool("a")],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["b"]}},
        },
        "toolConfig.functionCallingConfig.allowedFunctionNames",
    ),
    "an unknown mode": (
        {"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}},
        "toolConfig.functionCallingConfig.mode",
    ),
    "stored contents": ({"cachedContent": "cachedContents/1"}, "cachedContent"),
    "two candidates": (config(candidateCount=2), "generationConfig.candidateCount"),
    "log probabilities": (config(responseLogprobs=True), "generationConfig.responseLogprobs"),
    "an image as the answer": (
        config(responseModalities=["TEXT", "IMAGE"]),
        "generationConfig.responseModalities[1]",
    ),
    "an enum as the answer": (config(responseMimeType="text/x.enum"), "generationConfig.responseMimeType"),
    "a schema that is none": (config(responseSchema=[1]), "generationConfig.responseSchema"),
    "a limit of 0": (config(maxOutputTokens=0), "generationConfig.maxOutputTokens"),
    "a limit of a half": (config(maxOutputTokens=0.5), "generationConfig.maxOutputTokens"),
    "a limit in words": (config(maxOutputTokens="ten"), "generationConfig.maxOutputTokens"),
    "an infinite temperature": (config(temperature="Infinity"), "generationConfig.temperature"),
    "a negative temperature": (config(temperature=-1), "generationConfig.temperature"),
    "too high a top_p": (config(topP=1.5), "generationConfig.topP"),
    "a stop that is no text": (config(stopSequences=["a", 1]), "generationConfig.stopSequences[1]"),
    "a budget below -1": (
        config(thinkingConfig={"thinkingBudget": -2}),
        "generationConfig.thinkingConfig.thinkingBudget",
    ),
    "an unknown level": (
        config(thinkingConfig={"thinkingLevel": "HUGE"}),
        "generationConfig.thinkingConfig.thinkingLevel",
    ),
    "an unknown tier": ({"serviceTier": "gold"}, "serviceTier"),
}


@conversions
@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_cannot_be_carried_is_refused_by_its_field(conversion, name):
    body, field = REFUSED[name]
    problem = refusal(conversion, body)
    assert (problem.code, problem.param) == ("invalid_request", field)
    assert problem.message.startswith(field)


@conversions
@pytest.mark.parametrize(
    "part",
    [
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK"}},
        {"toolCall": {"toolType": "GOOGLE_SEARCH"}},
        {"toolResponse": {}},
        IMAGE,
        {"fileData": {"fileUri": "https://example.com/a"}},
    ],
)
def test_a_part_of_the_model_that_others_cannot_read_is_reported(conversion, part):
    body = {"contents": [user("Hi"), model(part, "So."), user("Go on")]}
    assert dropped(conversion, body) == ["/contents/1/parts/0"]


@pytest.mark.parametrize(
    ("mime", "data", "kind"),
    [
        ("application/pdf", PDF, "document"),
        ("text/plain", base64.b64encode(b"Hello").decode(), "document"),
        ("text/x-python", base64.b64encode(b"1 + 1").decode(), "document"),
        ("IMAGE/PNG", PNG, "image"),
        ("image/png; charset=utf-8", PNG, "image"),
        ("image/jpeg", PNG, "image"),
        ("", PNG, "image"),
    ],
)
def test_a_file_is_what_its_bytes_or_its_type_say(mime, data, kind):
    (turn,) = messages(user("See", {"inlineData": {"mimeType": mime, "data": data}}))
    assert turn["content"][1]["type"] == kind


# answers that are no object

PLACES = {
    "type": "ARRAY",
    "items": {"type": "OBJECT", "properties": {"city": {"type": "STRING", "maxLength": "9"}}, "required": ["city"]},
}
WRAPPED = {
    "type": "object",
    "properties": {
        "answer": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 9}},
                "required": ["city"],
            },
        }
    },
    "required": ["answer"],
}


@pytest.mark.parametrize("native", [True, False])
def test_a_list_as_the_answer_is_the_member_of_an_object(native):
    caps = replace(GPT, json_schema=native)
    body = sent("openai_chat", config(responseMimeType="application/json", responseSchema=PLACES), caps)
    schema = body["response_format"]["json_schema"]["schema"] if native else body["tools"][0]["function"]["parameters"]
    assert schema == WRAPPED


@pytest.mark.parametrize("conversion", ["anthropic_messages", "bedrock_converse"])
def test_what_the_schema_of_a_list_loses_is_reported_where_it_is(conversion):
    lost = dropped(conversion, config(responseSchema=PLACES), replace(CLAUDE, json_schema=True))
    assert lost == [f"{CONFIG}/responseSchema/items/properties/city/maxLength"]


def test_definitions_stay_at_the_root_of_the_schema():
    place = {"type": "object", "properties": {"city": {"type": "string"}}}
    schema = {"type": "array", "items": {"$ref": "#/$defs/Place"}, "$defs": {"Place": place}}
    body = sent("openai_chat", config(responseJsonSchema=schema), GPT)
    assert body["response_format"]["json_schema"]["schema"]["$defs"] == {"Place": place}
