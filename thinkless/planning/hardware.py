"""What runs and on what: the shape of a language model, the data sheet of a GPU.

A shape is counted on the real architecture, built on torch's meta device, which holds no numbers: seven
billion parameters take a fraction of a second, without weights or a network.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, Qwen2Config

from thinkless.errors import UserError
from thinkless.models import build_model, build_tokenizer
from thinkless.modes import add_control_tokens
from thinkless.problems import chain
from thinkless.runs.settings import PretrainedModel, ScratchModel

GB = 1e9
BFLOAT16 = 2
"""Bytes of a number."""


class PlanError(UserError, ValueError):
    """A run that cannot be planned, or that cannot run as planned; one line that names the setting."""


class GPU(NamedTuple):
    """One accelerator, by its maker's data sheet."""

    name: str
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes per second between the memory and the chip."""
    flops: float
    """Dense bfloat16 multiplications and additions per second, float32 accumulation, no sparsity."""


GPUS = {
    "l4": GPU("NVIDIA L4", 24 * GB, 0.30e12, 121e12),
    "rtx4090": GPU("NVIDIA RTX 4090", 24 * GB, 1.008e12, 165.2e12),
    "a100-40": GPU("NVIDIA A100 40 GB SXM", 40 * GB, 1.555e12, 312e12),
    "l40s": GPU("NVIDIA L40S", 48 * GB, 0.864e12, 362e12),
    "a100": GPU("NVIDIA A100 80 GB SXM", 80 * GB, 2.039e12, 312e12),
    "h100": GPU("NVIDIA H100 SXM", 80 * GB, 3.35e12, 989.4e12),
    "h200": GPU("NVIDIA H200 SXM", 141 * GB, 4.8e12, 989.4e12),
}
QWEN2 = {
    # hidden, layers, heads, key-value heads, intermediate, positions, vocabulary, tied embeddings
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": (1536, 28, 12, 2, 8960, 131_072, 151_936, False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": (3584, 28, 28, 4, 18_944, 131_072, 152_064, False),
    "Qwen/Qwen2.5-0.5B-Instruct": (896, 24, 14, 2, 4864, 32_768, 151_936, True),
    "Qwen/Qwen2.5-1.5B-Instruct": (1536, 28, 12, 2, 8960, 32_768, 151_936, True),
    "Qwen/Qwen2.5-Math-1.5B": (1536, 28, 12, 2, 8960, 4096, 151_936, True),
    "Qwen/Qwen2.5-Math-1.5B-Instruct": (1536, 28, 12, 2, 8960, 4096, 151_936, True),
}
"""The published `config.json` of the models that the profiles name, as far as a plan needs it."""


def qwen2_config(path: str) -> Qwen2Config:
    """The configuration of a model in `QWEN2`."""
    hidden, layers, heads, kv, intermediate, context, vocabulary, tied = QWEN2[path]
    return Qwen2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        intermediate_size=intermediate,
        max_position_embeddings=context,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
    )


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
    tied: bool
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
            vocabulary=head.shape[0],
            hidden=head.shape[1],
            layers=len(layers),
            attention=layers[0].self_attn.q_proj.weight.shape[0],
            kv=layers[0].self_attn.k_proj.weight.shape[0],
            intermediate=layers[0].mlp.gate_proj.weight.shape[0],
            tied=head is model.get_input_embeddings().weight,
            context=config.max_position_embeddings,
        )

    def kv_bytes(self, number: int = BFLOAT16) -> int:
        """Bytes of keys and values that one token leaves in the cache; `number` bytes each."""
        return 2 * self.layers * self.kv * number

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
        config = qwen2_config(path)
    return Shape.of(config, path)


def model_shape(model: ScratchModel | PretrainedModel, context: int) -> Shape:
    """The shape of a profile's model; `context` is the one that a model made here gets."""
    if isinstance(model, PretrainedModel):
        return shape_of(model.path, model.revision)
    tokenizer = build_tokenizer(chain.VOCABULARY)
    add_control_tokens(tokenizer)
    with torch.device("meta"):
        built = build_model(tokenizer, **model.model_dump(exclude={"kind"}), context=context, seed=0)
    return Shape.of(built.config, "made here")
