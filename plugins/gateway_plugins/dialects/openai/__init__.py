"""What OpenAI's Chat Completions and Responses have in common.

What only one of the two has stands in `dialects/openai_chat/` or `dialects/openai_responses/`.
"""
