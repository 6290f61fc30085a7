"""The domains of AWS's endpoints, such as `amazonaws.com` in `bedrock-runtime.us-east-1.amazonaws.com`."""

from __future__ import annotations

import re
from typing import Final

AWS_DOMAINS: Final = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
)
"""The domains of AWS's endpoints in all partitions: those with IPv4 addresses only, and the dual-stack ones. Source:
botocore's partitions."""
AWS_DOMAIN: Final = "|".join(map(re.escape, AWS_DOMAINS))
"""A regular expression that matches any of `AWS_DOMAINS`. Put it between parentheses, because it consists of
alternatives."""
