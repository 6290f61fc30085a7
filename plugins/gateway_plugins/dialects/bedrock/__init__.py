"""What the flags of Amazon Bedrock's runtime have in common, and Claude behind them.

Converse as a dialect stands in `dialects/bedrock_converse/`. Nothing here is used by other providers' flags.
"""
