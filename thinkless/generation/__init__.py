"""One interface to generate completions, three engines.

`TransformersGenerator` runs a model in this process and needs nothing else; `VLLMGenerator` runs vLLM in
this process; `ServerGenerator` asks any server that speaks OpenAI's protocol. Each is loaded when it is first
used; vLLM and the client are imported when an engine is made, so neither has to be installed to use another.
"""

from importlib import import_module
from typing import Any

from thinkless.generation.interface import Completion, Generator, Sampling

_HOMES = {"ServerGenerator": "server", "TransformersGenerator": "transformers", "VLLMGenerator": "vllm"}

__all__ = ["Completion", "Generator", "Sampling", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"thinkless.generation.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'thinkless.generation' has no attribute {name!r}")
