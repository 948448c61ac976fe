"""What fills a GPU's memory, and the disk: every part by its formula.

P is the number of parameters, M those in matrix products, H the hidden size, F the intermediate, K the
width of keys and V the vocabulary; t counts the tokens of a micro-batch. The bytes of activations were read
off the real architecture by torch's memory tracker (`tests/planning/test_memory.py` does it again).
"""

from collections.abc import Mapping

from thinkless.planning.hardware import BFLOAT16, GB, Shape
from thinkless.runs.settings import RL, Launch

FLOAT32 = 4
SAVED = {"autocast": (30, 8, 4), "bfloat16": (20, 8, 4), "float32": (32, 16, 8)}
"""Bytes per token that a layer keeps for its backward pass, as multiples of H, F and K."""
BACKWARD = {"autocast": (4, 6), "bfloat16": (2, 6), "float32": (4, 12)}
"""Bytes per token that come and go while a layer's backward pass runs, as multiples of H and F."""
TILE = (4096, 32_768)
"""Tokens and vocabulary entries of the logits that TRL computes at a time."""
CONTEXT = 1.0 * GB
"""What a process has on a GPU before any tensor, with NCCL and fragments: our allowance."""
VLLM_EXTRA = 1.5 * GB
"""What vLLM needs beside weights and cache, CUDA graphs and its own activations: our allowance."""

Parts = dict[str, float]
"""Name of a part -> bytes on one GPU."""


def numbers(launch: Launch) -> str:
    """Name the numbers that layers compute in: float32 under autocast, gathered bfloat16, or all float32."""
    if launch.precision == "float32":
        return "float32"
    return "autocast" if launch.sharding == "none" else "bfloat16"


def shards(launch: Launch) -> int:
    """Processes that share one copy of weights, gradients and optimiser state."""
    return launch.processes if launch.sharding != "none" else 1


def states(shape: Shape, launch: Launch) -> Parts:
    """Count what lives through the training, in float32: 4 P weights, 4 P gradients, 8 P of Adam's moments,
    each over the shards; and without sharding 4 P more, the buckets in which DDP exchanges gradients."""
    copy = FLOAT32 * shape.parameters
    whole = {"weights": copy, "gradients": copy, "Adam": 2 * copy}
    parts = {name: size / shards(launch) for name, size in whole.items()}
    if launch.processes > 1 and launch.sharding == "none":
        parts["gradient buckets (DDP)"] = copy
    return parts


def gathered(shape: Shape, launch: Launch) -> float:
    """Bytes of weights in the layers' own numbers, beside those that the optimiser keeps.

    Autocast caches a bfloat16 copy of every matrix, 2 M. FSDP2 gathers embeddings, head and two layers (this
    one and the next), and holds their gradients before it scatters them.
    """
    kind = numbers(launch)
    if launch.sharding == "none":
        return BFLOAT16 * shape.matmul if kind == "autocast" else 0
    outside = shape.parameters - shape.layers * shape.layer
    return 2 * (FLOAT32 if kind == "float32" else BFLOAT16) * (outside + 2 * shape.layer)


def activations(shape: Shape, launch: Launch, rows: int, parts: int, length: int) -> Parts:
    """Of a micro-batch of `rows` rows of `length` tokens, computed in `parts` parts.

    Without checkpointing every layer keeps `SAVED` for all rows. With it a layer keeps its input, H numbers
    per token, and one layer of one part at a time is computed again. Rows that differ in length need a mask:
    sdpa stores 3 bytes per row and pair of tokens.
    """
    kind = numbers(launch)
    of_part = -(-rows // parts) * length
    h, f, k = SAVED[kind]
    layer = h * shape.hidden + f * shape.intermediate + k * shape.kv
    h, f = BACKWARD[kind]
    result = {"working space of one layer": of_part * (h * shape.hidden + f * shape.intermediate)}
    if launch.gradient_checkpointing:
        residual = BFLOAT16 if kind == "bfloat16" else FLOAT32
        result["checkpoints of the layers"] = rows * length * shape.hidden * residual * shape.layers
        result["one layer, recomputed"] = of_part * layer
    else:
        result["activations of the layers"] = rows * length * layer * shape.layers
    if of_part > length and launch.attention == "sdpa":
        result["attention mask"] = 3 * of_part * length
    return {name: float(size) for name, size in result.items()}


def logits(shape: Shape, launch: Launch, tokens: int) -> float:
    """TRL's fused head: one tile of logits, a float32 gradient of the head, 4 V H, and three copies of the
    hidden states, 12 t H. All logits at once would be 4 V t, and three of them."""
    number = FLOAT32 if launch.precision == "float32" else BFLOAT16
    head = FLOAT32 * shape.vocabulary * shape.hidden
    return min(tokens, TILE[0]) * TILE[1] * number + head + 3 * FLOAT32 * tokens * shape.hidden


def supervised_memory(shape: Shape, launch: Launch, micro_batch: int, length: int) -> Parts:
    """Bytes by part at the peak of supervised training, every row `length` tokens long."""
    return {
        **states(shape, launch),
        "gathered weights": gathered(shape, launch),
        **activations(shape, launch, micro_batch, 1, length),
        "logits": logits(shape, launch, micro_batch * length),
        "CUDA context": CONTEXT,
    }


def rl_memory(shape: Shape, launch: Launch, rl: RL, length: int, memory: float) -> Mapping[str, Parts]:
    """Bytes by part in the three phases of an RL step, every answer and its prompt `length` tokens long.

    `rollout`: no gradients; vLLM holds its share of `memory`, the GPU's bytes, and sleeps afterwards.
    `scoring`: log-probabilities under the old policy and the reference model, which TRL shards in one piece
    and so gathers whole, 2 P. `update`: forward and backward.
    """
    rows, parts = rl.micro_batch, rl.length_buckets
    kept = states(shape, launch)
    if rl.beta:
        kept["reference"] = FLOAT32 * shape.parameters / shards(launch)
    idle = {name: size for name, size in kept.items() if name != "gradients"}
    number = FLOAT32 if numbers(launch) == "float32" else BFLOAT16
    whole = number * shape.parameters if launch.sharding != "none" and rl.beta else 0
    work = activations(shape, launch, rows, parts, length)
    of_part = -(-rows // parts) * length
    rollout: Parts = {}
    if rl.engine == "vllm":
        rollout = {"vLLM: weights": vllm_weights(shape), "vLLM: cache and the rest": rl.vllm_memory * memory}
        rollout["vLLM: cache and the rest"] -= rollout["vLLM: weights"]
    elif rl.engine == "transformers":
        answers = rl.prompts_per_step * rl.group_size // launch.processes
        rollout = {"cache of all answers": float(answers * length * shape.kv_bytes(number))}
    return {
        "rollout": {**idle, **rollout, "CUDA context": CONTEXT},
        "scoring": {
            **idle,
            "gathered weights": max(gathered(shape, launch), whole),
            "working space of one layer": work["working space of one layer"],
            "logits": logits(shape, launch, of_part) - FLOAT32 * shape.vocabulary * shape.hidden,
            "CUDA context": CONTEXT,
        },
        "update": {
            **kept,
            "gathered weights": gathered(shape, launch),
            **work,
            "logits": logits(shape, launch, rows * length),
            "CUDA context": CONTEXT,
        },
    }


def vllm_weights(shape: Shape) -> float:
    """vLLM serves in bfloat16, whatever the checkpoint's precision."""
    return float(BFLOAT16 * shape.parameters)


def vllm_room(shape: Shape, memory: float, share: float) -> float:
    """Bytes that vLLM has for keys and values, with its `share` of `memory`; negative if it cannot start."""
    return share * memory - vllm_weights(shape) - VLLM_EXTRA
