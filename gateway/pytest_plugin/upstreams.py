"""Makes a simulated provider, which tests choose by its name."""

from __future__ import annotations

from typing import Any, Final

from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.gemini import GeminiSim
from gateway.testkit.openai import OpenAISim
from gateway.testkit.raw import RawSim
from gateway.testkit.simulator import Simulator

_SIMULATORS: Final[dict[str, type[Simulator]]] = {
    "anthropic": AnthropicSim,
    "bedrock": BedrockSim,
    "gemini": GeminiSim,
    "openai": OpenAISim,
    "raw": RawSim,
}


def simulator(name: str, **options: Any) -> Simulator:
    """Return a simulated provider that is not started yet. Raises `ValueError` for an unknown name."""
    if name not in _SIMULATORS:
        raise ValueError(f'there is no simulated provider "{name}"; there are {", ".join(_SIMULATORS)}')
    return _SIMULATORS[name](**options)
