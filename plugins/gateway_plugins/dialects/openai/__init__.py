"""Values, readers and errors that OpenAI's Chat Completions and Responses have in common.

Code for only one of the two is in `dialects/openai_chat/` or `dialects/openai_responses/`.
"""
