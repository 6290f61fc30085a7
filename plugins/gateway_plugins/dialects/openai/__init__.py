"""Values, readers and errors that OpenAI's Chat Completions and Responses have in common.

Code of one of the two alone stands in `dialects/openai_chat/` or `dialects/openai_responses/`.
"""
