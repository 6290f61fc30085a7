"""Code that the plugins of bedrock-runtime share, and the changes to requests that Claude gets through InvokeModel.

The dialect of Converse is in `dialects/bedrock_converse/`.
"""
