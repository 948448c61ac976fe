"""One interface to generate completions, three engines.

`TransformersGenerator` runs a model in this process and needs nothing else; `VLLMGenerator` runs vLLM in
this process; `ServerGenerator` asks any server that speaks OpenAI's protocol. vLLM and the client are
imported when an engine is made, so neither has to be installed to use another.
"""

from thinkless.generation.interface import Completion, Generator, Sampling
from thinkless.generation.server import ServerGenerator
from thinkless.generation.transformers import TransformersGenerator
from thinkless.generation.vllm import VLLMGenerator

__all__ = ["Completion", "Generator", "Sampling", "ServerGenerator", "TransformersGenerator", "VLLMGenerator"]
