"""The fields of a generateContent request, as Google's API reference describes them.

No package of Google's is installed here. A field that is needed in every object is `Required`.
"""

from typing import Any, Literal, Required, TypedDict


class Blob(TypedDict, total=False):
    mimeType: Required[str]
    data: Required[str]
    displayName: str


class FileData(TypedDict, total=False):
    fileUri: Required[str]
    mimeType: str


class FunctionCall(TypedDict, total=False):
    name: Required[str]
    id: str
    args: dict[str, Any]


class TextPart(TypedDict, total=False):
    text: Required[str]
    thought: bool
    thoughtSignature: str


class BlobPart(TypedDict):
    inlineData: Blob


class FilePart(TypedDict):
    fileData: FileData


class CallPart(TypedDict, total=False):
    functionCall: Required[FunctionCall]
    thoughtSignature: str


class ExecutableCode(TypedDict):
    language: Literal["PYTHON"]
    code: str


class CodePart(TypedDict):
    executableCode: ExecutableCode


class CodeExecutionResult(TypedDict, total=False):
    outcome: Required[Literal["OUTCOME_OK", "OUTCOME_FAILED"]]
    output: str


class CodeResultPart(TypedDict):
    codeExecutionResult: CodeExecutionResult


class ModelContent(TypedDict):
    role: Literal["model"]
    parts: list[TextPart | CallPart | CodePart | CodeResultPart | BlobPart]


class UserContent(TypedDict, total=False):
    parts: Required[list[TextPart | BlobPart | FilePart]]
    role: Literal["user"]


class SystemContent(TypedDict):
    parts: list[TextPart]


class FunctionDeclaration(TypedDict, total=False):
    name: Required[str]
    description: str
    parameters: dict[str, Any]
    parametersJsonSchema: Any
    behavior: Literal["BLOCKING", "NON_BLOCKING"]


class Tool(TypedDict, total=False):
    functionDeclarations: list[FunctionDeclaration]
    googleSearch: dict[str, Any]
    codeExecution: dict[str, Any]


class FunctionCallingConfig(TypedDict, total=False):
    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"]
    allowedFunctionNames: list[str]


class ToolConfig(TypedDict, total=False):
    functionCallingConfig: FunctionCallingConfig


class SafetySetting(TypedDict):
    category: Literal["HARM_CATEGORY_HARASSMENT", "HARM_CATEGORY_DANGEROUS_CONTENT"]
    threshold: Literal["BLOCK_NONE", "OFF"]


class ThinkingConfig(TypedDict, total=False):
    includeThoughts: bool
    thinkingBudget: int
    thinkingLevel: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH", "THINKING_LEVEL_UNSPECIFIED"]


class GenerationConfig(TypedDict, total=False):
    stopSequences: list[str]
    responseMimeType: str
    responseSchema: dict[str, Any]
    responseJsonSchema: Any
    responseModalities: list[Literal["TEXT", "IMAGE", "AUDIO"]]
    candidateCount: int
    maxOutputTokens: int
    temperature: float
    topP: float
    topK: int
    seed: int
    presencePenalty: float
    frequencyPenalty: float
    responseLogprobs: bool
    logprobs: int
    speechConfig: dict[str, Any]
    thinkingConfig: ThinkingConfig
    mediaResolution: Literal["MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_HIGH"]


class GenerateContentRequest(TypedDict, total=False):
    contents: Required[list[UserContent | ModelContent]]
    systemInstruction: SystemContent
    tools: list[Tool]
    toolConfig: ToolConfig
    generationConfig: GenerationConfig
    safetySettings: list[SafetySetting]
    cachedContent: str
    serviceTier: Literal["unspecified", "standard", "flex", "priority"]
    store: bool
