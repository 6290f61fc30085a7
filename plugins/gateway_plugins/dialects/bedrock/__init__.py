"""What the flags of bedrock-runtime have in common, and the changes that Claude needs on InvokeModel.

The dialect of Converse is in `dialects/bedrock_converse/`.
"""
