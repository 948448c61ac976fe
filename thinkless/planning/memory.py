"""What fills a GPU's memory: every part by its formula.

P is the number of parameters, M those in matrix products, H the hidden size, F the intermediate, K the
width of keys and V the vocabulary; t counts the tokens of a micro-batch. The bytes of activations were read
off the real architecture by torch's memory tracker (`tests/planning/test_memory.py` does it again).
"""

from thinkless.planning.hardware import BFLOAT16, FLOAT32, GB, Shape
from thinkless.runs.settings import RL, Launch

SAVED = {"none": (30, 8, 4), "fsdp2": (20, 8, 4)}
"""Bytes per token that a layer keeps for its backward pass, as multiples of H, F and K, by `launch.sharding`:
float32 under autocast, or bfloat16 weights that FSDP2 gathered."""
BACKWARD = {"none": (4, 6), "fsdp2": (2, 6)}
"""Bytes per token that come and go while a layer's backward pass runs, as multiples of H and F."""
TILE = (4096, 32_768)
"""Tokens and vocabulary entries of the logits that TRL computes at a time."""
CONTEXT = 1.0 * GB
"""What a process has on a GPU before any tensor, with NCCL and fragments: our allowance."""
VLLM_EXTRA = 1.5 * GB
"""What vLLM needs beside weights and cache, CUDA graphs and its own activations: our allowance."""
SPACE = "working space of one layer"
Parts = dict[str, float]
"""Name of a part -> bytes on one GPU."""


def states(shape: Shape, launch: Launch) -> Parts:
    """Count what lives through the training, in float32: 4 P weights, 4 P gradients, 8 P of Adam's moments;
    each over the processes if they share, else 4 P more, the buckets in which DDP exchanges gradients."""
    copy = FLOAT32 * shape.parameters
    if launch.sharding != "none":
        own = copy / launch.processes
        return {"weights": own, "gradients": own, "Adam": 2 * own}
    buckets = {"gradient buckets (DDP)": copy} if launch.processes > 1 else {}
    return {"weights": copy, "gradients": copy, "Adam": 2 * copy, **buckets}


def gathered(shape: Shape, launch: Launch) -> float:
    """Bytes of weights in the layers' own numbers, beside those that the optimiser keeps.

    Autocast caches a bfloat16 copy of every matrix, 2 M. FSDP2 gathers embeddings, head and two layers (this
    one and the next), and holds their gradients before it scatters them.
    """
    if launch.sharding == "none":
        return BFLOAT16 * shape.matmul
    outside = shape.parameters - shape.layers * shape.layer
    return 2 * BFLOAT16 * (outside + 2 * shape.layer)


def activations(shape: Shape, launch: Launch, rows: int, parts: int, length: int) -> Parts:
    """Of a micro-batch of `rows` rows of `length` tokens, computed in `parts` parts.

    Without checkpointing every layer keeps `SAVED` for all rows. With it a layer keeps its input, H numbers
    per token, and one layer of one part at a time is computed again. Rows that differ in length need a mask:
    sdpa stores 3 bytes per row and pair of tokens.
    """
    of_part = -(-rows // parts) * length
    h, f, k = SAVED[launch.sharding]
    layer = h * shape.hidden + f * shape.intermediate + k * shape.kv
    h, f = BACKWARD[launch.sharding]
    result: Parts = {SPACE: of_part * (h * shape.hidden + f * shape.intermediate)}
    if launch.gradient_checkpointing:
        residual = FLOAT32 if launch.sharding == "none" else BFLOAT16
        result["checkpoints of the layers"] = rows * length * shape.hidden * residual * shape.layers
        result["one layer, recomputed"] = of_part * layer
    else:
        result["activations of the layers"] = rows * length * layer * shape.layers
    if of_part > length and launch.attention == "sdpa":
        result["attention mask"] = 3 * of_part * length
    return result


def logits(shape: Shape, tokens: int) -> float:
    """TRL's fused head: one tile of logits, a float32 gradient of the head, 4 V H, and three copies of the
    hidden states, 12 t H. All logits at once would be 4 V t, and three of them."""
    head = FLOAT32 * shape.vocabulary * shape.hidden
    return min(tokens, TILE[0]) * TILE[1] * BFLOAT16 + head + 3 * FLOAT32 * tokens * shape.hidden


def training_memory(shape: Shape, launch: Launch, rows: int, length: int, parts: int = 1) -> Parts:
    """Bytes by part at the peak of a forward and backward pass, see `activations`."""
    return {
        **states(shape, launch),
        "gathered weights": gathered(shape, launch),
        **activations(shape, launch, rows, parts, length),
        "logits": logits(shape, rows * length),
        "CUDA context": CONTEXT,
    }


def rl_memory(shape: Shape, launch: Launch, rl: RL, length: int, memory: float) -> dict[str, Parts]:
    """Bytes by part in the three phases of an RL step, every answer and its prompt `length` tokens long.

    `RL: rollout`: no gradients; vLLM holds its share of `memory`, the GPU's bytes, and sleeps afterwards.
    `RL: scoring`: log-probabilities under the old policy and the reference model, which TRL shards in one
    piece and so gathers whole, 2 P; beside it at most what the update needs. `RL: update`: both passes.
    """
    update = training_memory(shape, launch, rl.micro_batch, length, rl.length_buckets)
    rollout, scoring = {}, {part: update[part] for part in ("gathered weights", SPACE, "logits")}
    if rl.engine == "vllm":
        rollout["vLLM"] = rl.vllm_memory * memory
    elif rl.engine == "transformers":
        answers = rl.prompts_per_step * rl.group_size // launch.processes
        rollout["cache of all answers"] = answers * length * shape.kv_bytes
    kept = {**states(shape, launch), "CUDA context": CONTEXT}
    del kept["gradients"]
    if rl.beta:
        kept["reference"] = update["reference"] = kept["weights"]
        if launch.sharding != "none":
            scoring["gathered weights"] = max(scoring["gathered weights"], BFLOAT16 * shape.parameters)
    return {"RL: rollout": kept | rollout, "RL: scoring": kept | scoring, "RL: update": update}
