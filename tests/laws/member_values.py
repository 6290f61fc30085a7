"""A value for each documented top-level field of a request (`MEMBER_VALUES`). Some values need other fields to be valid
(`NEEDED_WITH`).

A test adds each value to a small request, and checks that the converted request changes. The fields in `NEUTRAL` do not
change the converted request. Some of them ask for the default, and others influence only the reply.
"""

FUNCTION = {"name": "look", "parameters": {"type": "object"}}
TOOL = {
    "openai_chat": {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},
    "openai_responses": {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False},
    "anthropic_messages": {"name": "look", "input_schema": {"type": "object"}},
    "bedrock_converse": {"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}},
    "gemini_generate_content": {"functionDeclarations": [FUNCTION]},
}

MEMBER_VALUES = {
    "openai_chat": {
        "messages": [{"role": "user", "content": "Something else."}],
        "audio": {"format": "mp3", "voice": "alloy"},
        "frequency_penalty": 0.5,
        "function_call": {"name": "look"},
        "functions": [FUNCTION],
        "logit_bias": {"1": 5},
        "logprobs": True,
        "max_completion_tokens": 50,
        "max_tokens": 50,
        "metadata": {"team": "red"},
        "modalities": ["text", "audio"],
        "moderation": {"model": "omni-moderation-latest"},
        "n": 2,
        "parallel_tool_calls": False,
        "prediction": {"type": "content", "content": "Hi"},
        "presence_penalty": 0.5,
        "prompt_cache_key": "k",
        "prompt_cache_options": {"ttl": "30m"},
        "prompt_cache_retention": "24h",
        "reasoning_effort": "high",
        "response_format": {"type": "json_object"},
        "safety_identifier": "s",
        "seed": 1,
        "service_tier": "flex",
        "stop": ["END"],
        "store": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "tool_choice": "required",
        "tools": [TOOL["openai_chat"]],
        "top_logprobs": 3,
        "top_p": 0.5,
        "user": "ann",
        "verbosity": "low",
        "web_search_options": {"search_context_size": "low"},
    },
    "openai_responses": {
        "access_programs": {"a": "b"},
        "background": True,
        "background_options": {"a": "b"},
        "context_management": [{"type": "compaction", "compact_threshold": 1000}],
        "conversation": "conv_1",
        "image": {"a": "b"},
        "include": ["message.output_text.logprobs"],
        "input": "Something else.",
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "max_tool_calls": 2,
        "metadata": {"team": "red"},
        "moderation": {"model": "omni-moderation-latest"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_1",
        "prompt": {"id": "pmpt_1"},
        "prompt_cache_key": "k",
        "prompt_cache_options": {"ttl": "30m"},
        "prompt_cache_retention": "24h",
        "reasoning": {"effort": "high"},
        "safety_identifier": "s",
        "service_tier": "flex",
        "store": True,
        "stream_options": {"include_obfuscation": False},
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}},
        "tool_choice": "required",
        "tools": [TOOL["openai_responses"]],
        "top_logprobs": 3,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "ann",
    },
    "anthropic_messages": {
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Something else."}],
        "cache_control": {"type": "ephemeral"},
        "container": "c",
        "diagnostics": {"previous_message_id": "msg_1"},
        "inference_geo": "us",
        "metadata": {"user_id": "ann"},
        "output_config": {
            "format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
        },
        "service_tier": "standard_only",
        "speed": "fast",
        "stop_sequences": ["END"],
        "system": "Be brief.",
        "temperature": 0.5,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tool_choice": {"type": "any"},
        "tools": [TOOL["anthropic_messages"]],
        "top_k": 5,
        "top_p": 0.5,
        "user_profile_id": "u",
        "workspace_id": "w",
    },
    "bedrock_converse": {
        "messages": [{"role": "user", "content": [{"text": "Something else."}]}],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 50},
        "toolConfig": {"tools": [TOOL["bedrock_converse"]]},
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
        "additionalModelRequestFields": {"top_k": 5},
        "promptVariables": {"a": {"text": "b"}},
        "additionalModelResponseFieldPaths": ["/usage"],
        "requestMetadata": {"team": "red"},
        "performanceConfig": {"latency": "optimized"},
        "serviceTier": {"type": "flex"},
        "projectIdentifier": "proj_1",
        "outputConfig": {
            "textFormat": {
                "type": "json_schema",
                "structure": {"jsonSchema": {"schema": '{"type":"object","additionalProperties":false}'}},
            }
        },
    },
    "gemini_generate_content": {
        "contents": [{"role": "user", "parts": [{"text": "Something else."}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [TOOL["gemini_generate_content"]],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"temperature": 0.5},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/1",
        "serviceTier": "flex",
        "store": True,
    },
}
"""A value for each field of each dialect. It differs from the default of the field."""

NEEDED_WITH = {
    ("gemini_generate_content", "toolConfig"): {"tools": [TOOL["gemini_generate_content"]]},
    ("openai_chat", "function_call"): {"functions": [FUNCTION]},
    ("openai_chat", "tool_choice"): {"tools": [TOOL["openai_chat"]]},
    ("openai_chat", "parallel_tool_calls"): {"tools": [TOOL["openai_chat"]]},
    ("openai_responses", "tool_choice"): {"tools": [TOOL["openai_responses"]]},
    ("openai_responses", "parallel_tool_calls"): {"tools": [TOOL["openai_responses"]]},
    ("anthropic_messages", "tool_choice"): {"tools": [TOOL["anthropic_messages"]]},
}

OLDER = {"anthropic_messages": {"temperature", "top_k", "top_p"}}
"""Fields that the SDK's type of a request no longer has, because the newest models refuse them."""

NEUTRAL = {
    ("anthropic_messages", "service_tier"): "standard_only asks for the default",
    ("openai_chat", "stream_options"): "asks for something that the reply shows",
    ("openai_responses", "stream_options"): "include_obfuscation: nothing is put in to hide lengths",
}
"""Fields that a conversion may leave out without a report, each with the reason."""
