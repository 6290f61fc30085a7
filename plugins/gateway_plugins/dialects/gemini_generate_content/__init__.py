"""Gemini's generateContent: the request and reply format of the Gemini API, and of Gemini on Vertex.

This package exports nothing itself. Other packages import its modules. Google's servers accept each field of a request
in camelCase and in snake_case (ProtoJSON). They write camelCase in replies.
"""
