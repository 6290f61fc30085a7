"""The fields of golden requests that a conversion may leave out without reporting them as dropped, each with the
reason.

A field is given by its JSON pointer. `*` in a pointer stands for any one name or number. A pointer with a number
applies only to that element of the golden request. A test fails for an entry that no golden request needs.
"""

CHAT, RESPONSES = "openai_chat", "openai_responses"
MESSAGES, CONVERSE = "anthropic_messages", "bedrock_converse"
GEMINI = "gemini_generate_content"
CLAUDES = (MESSAGES, CONVERSE)

_ONE_KIND = "only one kind of object can stand there, or its other members tell the kind"
_FORMAT = "the bytes tell the format"
_NAME = "Converse does not accept this name, and a document without a name gets the same one"
_EMPTY = "it is empty, which is what a request without it says"
_NO_LABEL = "a label of the schema, which the upstream dialect cannot say and nothing depends on"
_ALWAYS_STRICT = "the upstream enforces every schema, or false is its default"
_CLOSED = "providers demand additionalProperties: false, and it is put in where it is missing"
_SIGNED = "the signed form beside it says the same"
_DEMANDED = "a call that is demanded always matches its schema at Gemini"
_ALREADY_SO = "it asks for what happens anyway"
_REPLY_ONLY = "it asks for something in the reply, where the gateway shows it"
_USERS = "a content without a role is the user's"
_COMPLETE = "an item of a history is complete, and its id is the gateway's own"

_BY_CONVERSION = {
    (CHAT, CLAUDES): {
        _ONE_KIND: (
            "/messages/*/content/*/cache_control/type",
            "/messages/*/thinking_blocks/*/type",
            "/messages/*/tool_calls/*/type",
            "/tool_choice/type",
            "/tools/*/cache_control/type",
            "/tools/*/type",
        ),
        _EMPTY: (
            "/messages/1/tool_calls/2/function/arguments",
            "/messages/4/content",
            "/tools/1/function/description",
        ),
        _CLOSED: (
            "/response_format/json_schema/schema/additionalProperties",
            "/tools/*/function/parameters/additionalProperties",
        ),
        _ALWAYS_STRICT: ("/response_format/json_schema/strict",),
        _SIGNED: ("/messages/*/reasoning_content",),
        _ALREADY_SO: ("/n",),
        _REPLY_ONLY: ("/stream_options", "/stream_options/include_usage"),
    },
    (CHAT, (GEMINI,)): {
        _DEMANDED: ("/tools/0/function/strict",),
        _ONE_KIND: ("/messages/*/tool_calls/*/type", "/tool_choice/type", "/tools/*/type"),
        _EMPTY: (
            "/messages/1/tool_calls/2/function/arguments",
            "/messages/4/content",
            "/tools/1/function/description",
        ),
        _NO_LABEL: ("/response_format/json_schema/name",),
        _ALWAYS_STRICT: ("/response_format/json_schema/strict",),
        _SIGNED: ("/messages/*/reasoning_content",),
        _ALREADY_SO: ("/n",),
        _REPLY_ONLY: ("/stream_options", "/stream_options/include_usage"),
    },
    (CHAT, (MESSAGES,)): {_NO_LABEL: ("/response_format/json_schema/name",)},
    (CHAT, (CONVERSE,)): {_NAME: ("/messages/0/content/4/file/filename",)},
    (RESPONSES, (*CLAUDES, CHAT, GEMINI)): {
        _ONE_KIND: ("/input/*/type",),
        _EMPTY: ("/input/2/content/0/annotations", "/tools/1/description"),
        _COMPLETE: ("/input/2/id", "/input/*/status"),
        _ALWAYS_STRICT: ("/text/format/strict", "/tools/1/strict"),
        _ALREADY_SO: ("/input/0/content/2/detail", "/store"),
        _REPLY_ONLY: ("/include", "/include/*", "/reasoning/summary"),
    },
    (RESPONSES, CLAUDES): {
        _COMPLETE: ("/input/1/id",),
        _CLOSED: ("/text/format/schema/additionalProperties", "/tools/*/parameters/additionalProperties"),
        _SIGNED: ("/input/*/summary", "/input/*/summary/*", "/input/*/summary/*/text", "/input/*/summary/*/type"),
    },
    (RESPONSES, (MESSAGES, GEMINI)): {_NO_LABEL: ("/text/format/name",)},
    (RESPONSES, (CONVERSE,)): {_NAME: ("/input/0/content/4/filename",)},
    (GEMINI, (*CLAUDES, CHAT)): {
        _USERS: ("/contents/0/role", "/contents/2/role", "/contents/3/role"),
        _FORMAT: (
            "/contents/*/parts/*/file_data/mime_type",
            "/contents/*/parts/*/functionResponse/parts/*/inlineData/mimeType",
            "/contents/*/parts/*/inlineData/mimeType",
            "/contents/*/parts/*/inline_data/mime_type",
        ),
        _EMPTY: ("/tools/0/functionDeclarations/1/description",),
        _ALREADY_SO: (
            "/generationConfig/candidateCount",
            "/generationConfig/responseMimeType",
            "/generationConfig/responseSchema/propertyOrdering/1",
        ),
        _REPLY_ONLY: ("/generationConfig/thinkingConfig/includeThoughts",),
        _SIGNED: ("/contents/1/parts/0/text",),
        "the name tells the call": ("/contents/2/parts/0/functionResponse/id",),
        "the client says that it has no signature": ("/contents/1/parts/3/thoughtSignature",),
    },
    (GEMINI, CLAUDES): {
        _CLOSED: ("/generationConfig/responseJsonSchema/additionalProperties",),
        "the signature of the next part has the thought": ("/contents/1/parts/0",),
    },
    (GEMINI, (CONVERSE,)): {_NAME: ("/contents/0/parts/4/inline_data/display_name",)},
    (MESSAGES, (CONVERSE, CHAT, GEMINI)): {
        _FORMAT: ("/messages/*/content/*/source/media_type", "/messages/*/content/*/content/*/source/media_type"),
        _EMPTY: ("/messages/1/content/3/input",),
        _ALREADY_SO: ("/service_tier",),
    },
    (MESSAGES, (CONVERSE,)): {
        _NAME: ("/messages/0/content/4/title",),
        _CLOSED: ("/output_config/format/schema/additionalProperties", "/tools/*/input_schema/additionalProperties"),
    },
    (CONVERSE, (MESSAGES, CHAT, GEMINI)): {
        _FORMAT: (
            "/messages/*/content/*/document/format",
            "/messages/*/content/*/image/format",
            "/messages/*/content/*/toolResult/content/*/image/format",
        ),
        _EMPTY: ("/messages/1/content/3/toolUse/input", "/messages/2/content/2/toolResult/content"),
        _REPLY_ONLY: ("/additionalModelResponseFieldPaths", "/additionalModelResponseFieldPaths/*"),
    },
    (CONVERSE, (MESSAGES,)): {
        _ONE_KIND: (
            "/messages/*/content/*/cachePoint/type",
            "/system/*/cachePoint/type",
            "/toolConfig/tools/*/cachePoint/type",
        ),
        _CLOSED: ("/toolConfig/tools/*/toolSpec/inputSchema/json/additionalProperties",),
        _NO_LABEL: ("/outputConfig/textFormat/structure/jsonSchema/name",),
        "0 is the index of a document where none is named": (
            "/messages/1/content/0/citationsContent/citations/0/location/documentPage/documentIndex",
        ),
    },
    (CONVERSE, (GEMINI,)): {
        _DEMANDED: ("/toolConfig/tools/0/toolSpec/strict",),
        _NO_LABEL: ("/outputConfig/textFormat/structure/jsonSchema/name",),
    },
    (MESSAGES, (GEMINI,)): {_DEMANDED: ("/tools/0/strict",)},
    (RESPONSES, (GEMINI,)): {_DEMANDED: ("/tools/0/strict",)},
    (CONVERSE, (CHAT,)): {
        "Chat has no status of a result, and the text of this one says that it failed": (
            "/messages/2/content/1/toolResult/status",
        ),
    },
}

EXEMPT = {
    ((dialect, upstream), pointer): reason
    for (dialect, upstreams), by_reason in _BY_CONVERSION.items()
    for upstream in upstreams
    for reason, pointers in by_reason.items()
    for pointer in pointers
}
"""Reasons of the exemptions. A key is ((client's dialect, upstream dialect), JSON pointer of the field)."""
