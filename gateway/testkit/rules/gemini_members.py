"""The fields of a generateContent request, by message type, with the type of each field.

Sources: the Gemini API's reference, and the google-genai SDK's types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TEXT: Final = "text"
NUMBER: Final = "number"
INTEGER: Final = "integer"
TRUTH: Final = "bool"
BYTES: Final = "bytes"
ANY: Final = "any"
"""The type of a field that may have any JSON value, such as the arguments of a tool call."""

TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    # message type: member: a type; a list with one type stands for a list of that type
    "GenerateContentRequest": {
        "contents": ["Content"], "systemInstruction": "Content", "tools": ["Tool"], "toolConfig": "ToolConfig",
        "safetySettings": ["SafetySetting"], "generationConfig": "GenerationConfig", "cachedContent": TEXT,
        "serviceTier": TEXT, "store": TRUTH, "labels": ANY, "continuationToken": BYTES,
    },
    "Content": {"role": TEXT, "parts": ["Part"]},
    "Part": {
        "text": TEXT, "inlineData": "Blob", "fileData": "FileData", "functionCall": "FunctionCall",
        "functionResponse": "FunctionResponse", "executableCode": ANY, "codeExecutionResult": ANY, "toolCall": ANY,
        "toolResponse": ANY, "thought": TRUTH, "thoughtSignature": BYTES, "videoMetadata": ANY, "partMetadata": ANY,
        "mediaResolution": ANY,
    },
    "Blob": {"mimeType": TEXT, "data": BYTES, "displayName": TEXT},
    "FileData": {"mimeType": TEXT, "fileUri": TEXT, "displayName": TEXT},
    "FunctionCall": {"id": TEXT, "name": TEXT, "args": "Struct"},
    "FunctionResponse": {
        "id": TEXT, "name": TEXT, "response": "Struct", "parts": ["Part"], "willContinue": TRUTH, "scheduling": TEXT,
    },
    "Tool": {
        "functionDeclarations": ["FunctionDeclaration"], "googleSearch": ANY, "googleSearchRetrieval": ANY,
        "codeExecution": ANY, "urlContext": ANY, "googleMaps": ANY, "fileSearch": ANY, "computerUse": ANY,
        "mcpServers": ANY,
    },
    "FunctionDeclaration": {
        "name": TEXT, "description": TEXT, "behavior": TEXT, "parameters": "Schema", "parametersJsonSchema": ANY,
        "response": "Schema", "responseJsonSchema": ANY,
    },
    "ToolConfig": {
        "functionCallingConfig": "FunctionCallingConfig", "retrievalConfig": ANY,
        "includeServerSideToolInvocations": TRUTH,
    },
    "FunctionCallingConfig": {"mode": TEXT, "allowedFunctionNames": [TEXT]},
    "SafetySetting": {"category": TEXT, "threshold": TEXT},
    "GenerationConfig": {
        "stopSequences": [TEXT], "responseMimeType": TEXT, "responseSchema": "Schema", "responseJsonSchema": ANY,
        "_responseJsonSchema": ANY, "responseModalities": [TEXT], "candidateCount": INTEGER,
        "maxOutputTokens": INTEGER, "temperature": NUMBER, "topP": NUMBER, "topK": NUMBER, "seed": INTEGER,
        "presencePenalty": NUMBER, "frequencyPenalty": NUMBER, "responseLogprobs": TRUTH, "logprobs": INTEGER,
        "enableEnhancedCivicAnswers": TRUTH, "speechConfig": ANY, "thinkingConfig": "ThinkingConfig",
        "imageConfig": ANY, "mediaResolution": TEXT, "audioTranscriptionConfig": ANY,
    },
    "ThinkingConfig": {"includeThoughts": TRUTH, "thinkingBudget": INTEGER, "thinkingLevel": TEXT},
    "Schema": {
        "type": TEXT, "format": TEXT, "title": TEXT, "description": TEXT, "nullable": TRUTH, "enum": [TEXT],
        "maxItems": ANY, "minItems": ANY, "properties": {"": "Schema"}, "required": [TEXT], "minProperties": ANY,
        "maxProperties": ANY, "minLength": ANY, "maxLength": ANY, "pattern": TEXT, "example": ANY,
        "anyOf": ["Schema"], "propertyOrdering": [TEXT], "default": ANY, "items": "Schema", "minimum": NUMBER,
        "maximum": NUMBER,
    },
}  # fmt: skip
"""The types of fields. A key is a message type, and its value maps each field of this message to the field's type.

The key "" stands for any field name: `{"": T}` is a map whose values have the type `T`.
"""
