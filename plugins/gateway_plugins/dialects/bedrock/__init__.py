"""Code that the plugins of bedrock-runtime share, and the changes that Claude needs on InvokeModel.

The dialect of Converse is in `dialects/bedrock_converse/`.
"""
