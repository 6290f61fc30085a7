"""The rules of the Open Responses specification for a response and for the events of a stream.

Only the rules for items of a model's reply are included (openresponses.org: ResponseResource, ItemField, events).
"""

NUMBER, WHOLE_NUMBER, TEXT, FLAG, LIST, OBJECT, NULL = (int, float), int, str, bool, list, dict, type(None)
RESOURCE = {
    "id": TEXT, "object": TEXT, "created_at": WHOLE_NUMBER, "completed_at": (WHOLE_NUMBER, NULL), "status": TEXT,
    "incomplete_details": (OBJECT, NULL), "model": TEXT, "previous_response_id": (TEXT, NULL),
    "instructions": (TEXT, LIST, NULL), "output": LIST, "error": (OBJECT, NULL), "tools": LIST,
    "tool_choice": (TEXT, OBJECT), "truncation": TEXT, "parallel_tool_calls": FLAG, "text": OBJECT, "top_p": NUMBER,
    "presence_penalty": NUMBER, "frequency_penalty": NUMBER, "top_logprobs": WHOLE_NUMBER, "temperature": NUMBER,
    "reasoning": (OBJECT, NULL), "user": (TEXT, NULL), "usage": (OBJECT, NULL), "max_output_tokens": (WHOLE_NUMBER, NULL),
    "max_tool_calls": (WHOLE_NUMBER, NULL), "store": FLAG, "background": FLAG, "service_tier": TEXT, "metadata": OBJECT,
    "safety_identifier": (TEXT, NULL), "prompt_cache_key": (TEXT, NULL),
}  # fmt: skip
"""Required fields of a response, with their types."""
STATUSES = {"in_progress", "completed", "incomplete"}
ITEMS = {
    "message": {"id": TEXT, "status": TEXT, "role": TEXT, "content": LIST},
    "function_call": {"id": TEXT, "status": TEXT, "call_id": TEXT, "name": TEXT, "arguments": TEXT},
    "reasoning": {"id": TEXT, "summary": LIST},
}
PARTS = {
    "output_text": {"text": TEXT, "annotations": LIST},
    "refusal": {"refusal": TEXT},
    "summary_text": {"text": TEXT},
}
ANNOTATION = {"type": TEXT, "url": TEXT, "title": TEXT, "start_index": WHOLE_NUMBER, "end_index": WHOLE_NUMBER}
FUNCTION = {"name": TEXT, "description": (TEXT, NULL), "parameters": (OBJECT, NULL), "strict": (FLAG, NULL)}
FORMATS = {"text": {}, "json_object": {}, "json_schema": {"name": TEXT, "description": (TEXT, NULL), "strict": FLAG}}
COUNTS = {"input_tokens": WHOLE_NUMBER, "output_tokens": WHOLE_NUMBER, "total_tokens": WHOLE_NUMBER}
OWN_ITEMS = {"custom_tool_call", "local_shell_call"}
"""Types of items that only OpenAI has. The specification leaves such types to implementations."""


def members(value, rules):
    for name, rule in rules.items():
        assert name in value, name
        kinds = rule if isinstance(rule, tuple) else (rule,)
        assert isinstance(value[name], kinds), name
        assert bool in kinds or not isinstance(value[name], bool), name


def conforms(response):
    """Check a response against the rules of Open Responses."""
    members(response, RESOURCE)
    assert response["object"] == "response"
    assert response["truncation"] in {"auto", "disabled"}
    members(response["text"]["format"], FORMATS[response["text"]["format"]["type"]])
    if response["reasoning"]:
        assert response["reasoning"].keys() >= {"effort", "summary"}
    if response["error"]:
        members(response["error"], {"code": TEXT, "message": TEXT})
    if response["incomplete_details"]:
        members(response["incomplete_details"], {"reason": TEXT})
    if response["usage"]:
        members(response["usage"], COUNTS)
        members(response["usage"]["input_tokens_details"], {"cached_tokens": WHOLE_NUMBER})
        members(response["usage"]["output_tokens_details"], {"reasoning_tokens": WHOLE_NUMBER})
    for tool in response["tools"]:
        if tool["type"] == "function":
            members(tool, FUNCTION)
    for item in response["output"]:
        item_conforms(item)


def item_conforms(item):
    if item["type"] in OWN_ITEMS:
        return
    members(item, ITEMS[item["type"]])
    assert item.get("status", "completed") in STATUSES
    for part in [*item.get("content", ()), *item.get("summary", ())]:
        members(part, PARTS[part["type"]])
        for annotation in part.get("annotations", ()):
            members(annotation, ANNOTATION)


INDEXED = {"item_id": TEXT, "output_index": WHOLE_NUMBER, "content_index": WHOLE_NUMBER}
SUMMARY = {"item_id": TEXT, "output_index": WHOLE_NUMBER, "summary_index": WHOLE_NUMBER}
OUTPUT_ITEM = {"output_index": WHOLE_NUMBER, "item": OBJECT}
EVENTS = {
    **{
        f"response.{state}": {"response": OBJECT}
        for state in ("created", "in_progress", "completed", "incomplete", "failed")
    },
    "response.output_item.added": OUTPUT_ITEM,
    "response.output_item.done": OUTPUT_ITEM,
    "response.content_part.added": {**INDEXED, "part": OBJECT},
    "response.content_part.done": {**INDEXED, "part": OBJECT},
    "response.output_text.delta": {**INDEXED, "delta": TEXT},
    "response.output_text.done": {**INDEXED, "text": TEXT},
    "response.output_text.annotation.added": {**INDEXED, "annotation_index": WHOLE_NUMBER, "annotation": OBJECT},
    "response.refusal.delta": {**INDEXED, "delta": TEXT},
    "response.refusal.done": {**INDEXED, "refusal": TEXT},
    "response.reasoning_summary_part.added": {**SUMMARY, "part": OBJECT},
    "response.reasoning_summary_part.done": {**SUMMARY, "part": OBJECT},
    "response.reasoning_summary_text.delta": {**SUMMARY, "delta": TEXT},
    "response.reasoning_summary_text.done": {**SUMMARY, "text": TEXT},
    "response.function_call_arguments.delta": {"item_id": TEXT, "output_index": WHOLE_NUMBER, "delta": TEXT},
    "response.function_call_arguments.done": {"item_id": TEXT, "output_index": WHOLE_NUMBER, "arguments": TEXT},
    "response.custom_tool_call_input.delta": {"item_id": TEXT, "output_index": WHOLE_NUMBER, "delta": TEXT},
    "response.custom_tool_call_input.done": {"item_id": TEXT, "output_index": WHOLE_NUMBER, "input": TEXT},
}


def event_conforms(data):
    members(data, {"type": TEXT, "sequence_number": WHOLE_NUMBER, **EVENTS[data["type"]]})
    if "response" in data:
        conforms(data["response"])
    if "item" in data:
        item_conforms(data["item"])
