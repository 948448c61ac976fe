"""What runs and on what: the shape of a language model, the data sheet of a GPU.

A shape is counted on the real architecture, built on torch's meta device, which holds no numbers: seven
billion parameters take a fraction of a second, without weights or a network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, Qwen2Config

from thinkless.errors import UserError

GB, TERA = 1e9, 1e12
BFLOAT16, FLOAT32 = 2, 4
"""Bytes of a number."""


class PlanError(UserError, ValueError):
    """A run that cannot be planned, or that cannot run as planned; one line that names the setting."""


class GPU(NamedTuple):
    """One accelerator by its data sheet: bytes, bytes per second between memory and chip, and bfloat16
    multiplications and additions per second."""

    name: str
    memory: float
    bandwidth: float
    flops: float


_SHEETS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
GPUS = {
    key: GPU(gpu["name"], gpu["memory"] * GB, gpu["bandwidth"] * TERA, gpu["flops"] * TERA)
    for key, gpu in _SHEETS["gpus"].items()
}
QWEN2 = {path: Qwen2Config(**config) for path, config in _SHEETS["qwen2"].items()}
"""Configurations of the models that the profiles name, for where there is no network."""


@dataclass(frozen=True)
class Shape:
    """The dimensions that a decoder's size and speed follow from."""

    name: str
    parameters: int
    matmul: int
    """Parameters that every token is multiplied with: the layers and the output head, tied or not."""
    layer: int
    """Parameters of one decoder layer."""
    vocabulary: int
    hidden: int
    layers: int
    attention: int
    """Width of the queries: heads x head size."""
    kv: int
    """Width of the keys, and of the values: key-value heads x head size."""
    intermediate: int
    context: int
    """Positions that the model was made for, `max_position_embeddings`."""

    @classmethod
    def of(cls, config: PretrainedConfig, name: str) -> "Shape":
        """Count the architecture of `config`."""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        layers, head = model.get_decoder().layers, model.get_output_embeddings().weight
        return cls(
            name=name,
            parameters=sum(p.numel() for p in model.parameters()),
            matmul=sum(p.numel() for p in layers.parameters() if p.dim() == 2) + head.numel(),
            layer=sum(p.numel() for p in layers[0].parameters()),
            vocabulary=config.vocab_size,
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            attention=layers[0].self_attn.q_proj.weight.shape[0],
            kv=layers[0].self_attn.k_proj.weight.shape[0],
            intermediate=config.intermediate_size,
            context=config.max_position_embeddings,
        )

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values, in bfloat16, that one token leaves in the cache."""
        return 2 * self.layers * self.kv * BFLOAT16

    def forward_flops(self, tokens: float, squares: float) -> float:
        """Operations of one forward pass over `tokens` tokens whose sequences' squared lengths sum to
        `squares`: 2 per token and matmul parameter, and 2 x layers x attention width per squared token for
        causal attention (queries with keys, weights with values, half of each masked)."""
        return 2 * self.matmul * tokens + 2 * self.layers * self.attention * squares


def shape_of(path: str, revision: str | None = None) -> Shape:
    """The shape of a published model: from its folder, the hub or its cache, or `QWEN2`.

    Raises PlanError if none of them knows it.
    """
    try:
        config = AutoConfig.from_pretrained(path, revision=revision, local_files_only=path in QWEN2)
    except (OSError, ValueError) as error:
        if path not in QWEN2:
            raise PlanError(
                f"no shape for the model {path!r} ({str(error).splitlines()[0]}): expected a folder with a "
                f"config.json, a name on a hub that can be reached, or one of {', '.join(QWEN2)}"
            ) from None
        config = QWEN2[path]
    return Shape.of(config, path)
