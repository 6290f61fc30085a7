"""Code that the plugins of bedrock-runtime share, and code that adapts Messages requests to Claude on InvokeModel.

The dialect of Converse is in `dialects/bedrock_converse/`.
"""
