"""Open a model of a folder or of the hub on one of the engines."""

from pathlib import Path
from typing import Any

import torch

from thinkless.generation.transformers import TransformersGenerator
from thinkless.generation.vllm import VLLMGenerator
from thinkless.models import fetch, load, load_tokenizer


def open_generator(
    model: str | Path, engine: str, revision: str | None = None, **products: Any
) -> TransformersGenerator | VLLMGenerator:
    """A model of the hub or of a folder, on the engine ``"transformers"`` or ``"vllm"``.

    The former takes `precision` and `padding`, see `TransformersGenerator`; the latter has its own.
    """
    if engine == "vllm":
        return VLLMGenerator(model, load_tokenizer(model, revision), revision=revision)
    weights, tokenizer = load(model) if isinstance(model, Path) else fetch(model, revision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TransformersGenerator(weights.to(device), tokenizer, **products)
