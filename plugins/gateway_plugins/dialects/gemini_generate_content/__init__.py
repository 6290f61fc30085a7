"""Readers and writers of the requests and replies of generateContent, in the Gemini API and for Gemini on Vertex.

This package exports nothing itself. Other packages import its modules. Google's servers accept each field of a request
in camelCase and in snake_case (ProtoJSON). They write camelCase in replies.
"""
