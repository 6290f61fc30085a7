"""A conversation with a coding agent in OpenAI's Chat Completions format, as long as wanted."""

import json

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"Tool{number}",
            "description": "Reads a file of the workspace. The path must be absolute, and the file must be text. " * 8,
            "parameters": {
                "type": "object",
                "properties": {
                    f"option_{option}": {"type": "string", "description": "An absolute path to a file"}
                    for option in range(6)
                },
                "required": ["option_0"],
            },
        },
    }
    for number in range(20)
]
"""The tools of the agent. They have 24 KB as JSON."""
_SYSTEM = "You are a careful coding assistant. Keep to the style of the code around a change. " * 50


def messages(kilobytes):
    """Return the messages of a conversation. As JSON, they have at least `kilobytes`, and at most 3 KB more."""
    told, size, number = [{"role": "system", "content": _SYSTEM}], len(_SYSTEM), 0
    while size < kilobytes * 1024:
        turns = _turns(number)
        told += turns
        size, number = size + len(json.dumps(turns)), number + 1
    return [*told, {"role": "user", "content": "And now mend it."}]


def _turns(number):
    """Return a question of the user, a tool call, its result and an answer: some 3 KB."""
    call_id, path = f"call_{number:08}", f"/src/app/module_{number}.py"
    call = {"name": "Tool0", "arguments": json.dumps({"option_0": path, "option_1": "200"})}
    lines = (f'{line}\tdef step_{line}(self, value: int) -> "str":\n\t    return f"{{value}}"\n' for line in range(30))
    return [
        {"role": "user", "content": f"Please look at {path} and tell me what is wrong.\nIts test fails."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": call_id, "content": "".join(lines)},
        {
            "role": "assistant",
            "content": 'Each step returns "str" without a check.\n\n```python\nreturn str(value)\n```',
        },
    ]
