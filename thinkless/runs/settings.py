"""What a profile may say: every setting with its type, its bounds and its meaning.

Sections that exist in several kinds (problems, model, teachers) carry a `kind`; those of `problems` are in
`questions.py`. `Profile` puts the sections together and refuses combinations that cannot run. Reading files
and overrides is the work of `profiles.py`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from thinkless.objectives import OBJECTIVES
from thinkless.runs.questions import ChainProblems, MathProblems, StoryProblems, check_shares
from thinkless.runs.schema import For, Section


class ScratchModel(Section):
    """A model made here, for the laptop world."""

    kind: Literal["scratch"]
    hidden_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)
    initializer_range: float = Field(gt=0)
    """Standard deviation of the initial weights; about 1/sqrt(hidden_size) for models this small."""
    rounding_seed: int = Field(0, ge=0, exclude_if=lambda seed: seed == 0)
    """Above 0, every initial weight is moved by a relative 1e-6, drawn from this seed: a stand-in for a
    processor that rounds otherwise. At 0 it is no part of any stage's key."""


class PretrainedModel(Section):
    """A published model."""

    kind: Literal["pretrained"]
    path: str
    """Hub name, or a local folder."""
    revision: str | None = None
    """Commit on the hub; None takes the newest."""
    package: str | None = Field(None, exclude_if=lambda package: package is None)
    """An installed Python package with the weights in a GGUF file, read where the hub does not answer."""


class Optimizer(Section):
    """AdamW and its schedule, shared by the three trainings."""

    learning_rate: float = Field(gt=0)
    min_learning_rate: float = Field(0.0, ge=0)
    """Where the schedule ``cosine_with_min_lr`` ends."""
    warmup_steps: int = Field(ge=0)
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_min_lr"]
    beta2: float = Field(gt=0, lt=1)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    save_steps: Annotated[int, For()] = Field(ge=1)
    """Checkpoint every so many steps; a killed run resumes from the last one."""


class Base(Optimizer):
    """The base model reads a textbook written in two styles."""

    rows: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    levels: list[float] = Field([], exclude_if=lambda levels: not levels)
    """Share of each level in the textbook; empty means equal shares."""


class CueTeacher(Section):
    """The base model itself, asked under the cue that its textbook used for one style."""

    kind: Literal["cue"]


class SolverTeacher(Section):
    """The world's own solver, which writes the answers of stories."""

    kind: Literal["solver"]


class ModelTeacher(Section):
    """A published model that is run here."""

    kind: Literal["model"]
    path: str
    """Hub name, or a local folder."""
    revision: str | None = None
    engine: Literal["transformers", "vllm"] = "vllm"


class ServerTeacher(Section):
    """A model behind an OpenAI-compatible endpoint; the key is read from OPENAI_API_KEY."""

    kind: Literal["server"]
    base_url: str
    model: str
    parallel: int = Field(64, ge=1)
    """Requests in flight."""
    max_tokens: int | None = Field(None, ge=2)
    """Its own limit, where the model has fewer positions than `distill.max_tokens` asks for."""


class DataTeacher(Section):
    """Answers that somebody published, in place of a model."""

    kind: Literal["data"]
    path: str
    """Hub name of a data set, or a local file or folder."""
    revision: str | None = None


Teacher = Annotated[
    CueTeacher | SolverTeacher | ModelTeacher | ServerTeacher | DataTeacher, Field(discriminator="kind")
]


class Distill(Section):
    """The two teachers answer the same questions."""

    questions: int = Field(ge=1)
    think: Teacher
    short: Teacher
    max_tokens: int | None = Field(None, ge=2)
    """Longest answer in tokens; None takes the world's own limit."""
    overlong: Literal["drop", "clip"] = "drop"
    """The fate of a pair with an answer that did not end within `max_tokens`."""
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)


class SFT(Optimizer):
    """Supervised warm-up of the hybrid model, one pass over the pairs."""

    batch_size: int = Field(ge=2, multiple_of=2)
    """Rows per update; even, so that the two modes of a question are never parted."""
    micro_batch: int | None = Field(None, ge=1)
    """Rows per forward pass on one device; None takes all of the device's share at once."""
    think_share: float = Field(0.5, gt=0, lt=1)
    """Share of the rows that think. Away from one half, rows of the rarer mode are left out."""
    paired: bool = Field(True, exclude_if=lambda paired: paired)
    """Whether the student sees both answers to a question; else one of them, in turn: half as many rows."""


class Select(Section):
    """Before RL the warm-up model answers questions; it is trained on those that it solves sometimes."""

    candidates: int = Field(ge=1)
    """Questions that are asked, each `rl.group_size` times."""
    solved: list[float] = Field(min_length=2, max_length=2)
    """Least and greatest share of right answers to a question that is kept."""

    def model_post_init(self, _):
        if not 0 <= self.solved[0] <= self.solved[1] <= 1:
            raise ValueError(f"solved={self.solved}: expected two shares in order")


class ChoiceOnly(Section):
    """The choice of mode is trained and nothing else. Before RL the warm-up model answers questions in both
    modes; in RL its completions are a control token, and earn what that mode's answers earned on average."""

    questions: int = Field(ge=1)
    samples: int = Field(ge=1)
    """Answers to a question in each mode."""


class RL(Optimizer):
    """Reinforcement learning of the mode."""

    arms: Annotated[list[str], For()]
    """The objectives trained side by side, keys of `objectives.OBJECTIVES`."""
    repetitions: Annotated[int, For()] = Field(ge=1)
    """Runs of each arm from the same warm-up model, with seeds seed, seed+1, ..."""
    alpha: float = Field(gt=0)
    gamma: Annotated[float, For("rl", "eval")] = Field(ge=0, lt=1)
    steps: int = Field(ge=1)
    """Rollout steps: each samples `prompts_per_step` x `group_size` completions."""
    select: Select | None = Field(None, exclude_if=lambda select: select is None)
    """Null: questions are taken as they come."""
    choice_only: ChoiceOnly | None = Field(None, exclude_if=lambda choice: choice is None)
    """Null: the answers are trained, too."""
    prompts_per_step: int = Field(ge=1)
    group_size: int = Field(ge=2)
    updates_per_step: int = Field(1, ge=1)
    """Optimiser updates per rollout step, on disjoint parts of it; above 1 the clipping acts."""
    micro_batch: int = Field(ge=1)
    """Completions per forward pass on one device."""
    length_buckets: int = Field(ge=1)
    """Parts of similar length that a micro-batch is split into."""
    generation_parts: int = Field(1, ge=1)
    """Parts of similar prompt length in which Transformers generates the completions of a step."""
    max_tokens: int | None = Field(None, ge=2)
    """Longest completion in tokens; None takes the world's own limit."""
    temperature: float = Field(gt=0)
    beta: float = Field(ge=0)
    """Weight of the KL to the warm-up model."""
    kl_on_control_token: bool = Field(True, exclude_if=lambda on: on)
    """Whether the KL holds the choice of mode too, as the paper's does; else it anchors the answers alone."""
    entropy: float = Field(0.0, ge=0, exclude_if=lambda weight: weight == 0)
    """Weight of the mean entropy of the tokens. The released code has 1e-3; the paper does not mention it."""
    scale_rewards: Literal["none", "group"] = "none"
    """`group` divides advantages by their group's standard deviation, as the first GRPO did."""
    reject_equal_groups: bool = False
    """Average over the groups whose rewards differ; the others teach nothing, but thin out the mean.
    Needs `beta` = 0."""
    epsilon: float = Field(gt=0, lt=1)
    engine: Literal["transformers", "vllm", "server"] = "transformers"
    """The engine that samples rollouts. `vllm` lives on the training's devices and sleeps while they train;
    `server` is a `vllm serve` on others, see `server`."""
    vllm_memory: Annotated[float, For()] = Field(0.35, gt=0, lt=1)
    """Share of a device's memory for `vllm`."""
    server: Annotated[str | None, For()] = None
    """Address of the server, such as ``http://node3:8000``."""

    def model_post_init(self, _):
        unknown = [arm for arm in self.arms if arm not in OBJECTIVES]
        if unknown or not self.arms:
            raise ValueError(f"arms={self.arms}: expected some of {', '.join(OBJECTIVES)}")
        if self.prompts_per_step * self.group_size % (self.micro_batch * self.updates_per_step):
            raise ValueError(
                f"micro_batch={self.micro_batch} does not divide the completions of a step, "
                f"prompts_per_step x group_size = {self.prompts_per_step * self.group_size}"
                + (f", in {self.updates_per_step} updates" if self.updates_per_step > 1 else "")
            )
        if self.select is not None and self.choice_only is not None:
            raise ValueError("expected at most one of select and choice_only, each has questions of its own")
        if (self.engine == "server") != (self.server is not None):
            raise ValueError(f"server={self.server!r} does not go with engine={self.engine!r}")
        if self.reject_equal_groups and self.beta:
            raise ValueError(f"reject_equal_groups needs beta=0, got {self.beta}: KL has no group")


class Evaluation(Section):
    """Sampling and size of the measurement on held-out questions."""

    engine: Literal["transformers", "vllm"] = "transformers"
    max_tokens: int | None = Field(None, ge=2)
    """Longest completion in tokens; None takes the world's own limit."""
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    samples: int = Field(ge=1)
    """Completions per question and setting."""
    precision: Literal["float32", "bfloat16"] = Field("float32", exclude_if=lambda kind: kind == "float32")
    """Of the products that Transformers computes; vLLM takes the precision in which a model was saved."""


class Launch(Section):
    """Processes, machines and number formats."""

    processes: int = Field(1, ge=1)
    """Processes of one training, over all machines; above 1 it goes through `accelerate launch`."""
    machines: int = Field(1, ge=1)
    """Machines that these processes are spread over; see `cluster` for how each learns its rank."""
    workers: int = Field(1, ge=1)
    """Independent runs at a time."""
    precision: Annotated[Literal["float32", "bfloat16"], For("base", "sft", "rl")] = Field(
        "float32", exclude_if=lambda precision: precision == "float32"
    )
    """Of the forward and backward pass; the weights that the optimiser keeps are float32. The usual one is no
    part of any stage's key."""
    padding: Annotated[int, For("base", "sft", "rl", "eval")] = Field(1, ge=1, exclude_if=lambda n: n == 1)
    """Prompts and answers are padded to multiples of so many tokens. On a CPU every new shape takes memory
    that is not given back: a model of 135 million parameters grew to 16 GB in an hour, and with 32 to 7."""
    shared_prompts: Annotated[bool, For("sft", "rl")] = Field(False, exclude_if=lambda on: not on)
    """Whether a prompt is read once for all its answers in a micro-batch: for long questions with short
    answers. Needs attention "sdpa"."""
    sharding: Literal["none", "fsdp2"] = "none"
    """`fsdp2` splits weights, gradients and optimiser state over the processes (accelerate)."""
    gradient_checkpointing: bool = False
    attention: Literal["sdpa", "flash_attention_2", "flash_attention_3"] = "sdpa"
    report_to: list[Literal["trackio", "wandb", "tensorboard"]] = []
    """Trackers that receive the metrics, beside `metrics.jsonl`."""

    def model_post_init(self, _):
        if self.processes % self.machines:
            raise ValueError(f"machines={self.machines} does not divide processes={self.processes}")
        if self.sharding != "none" and self.processes == 1:
            raise ValueError(f"sharding={self.sharding!r} needs processes of at least 2, got 1")
        if self.shared_prompts and self.attention != "sdpa":
            raise ValueError(f"shared_prompts needs attention='sdpa', got {self.attention!r}")


class Profile(Section):
    """A whole run."""

    name: str
    description: str
    problems: Annotated[
        ChainProblems | StoryProblems | MathProblems,
        Field(discriminator="kind"),
        For("base", "distill", "rl"),
    ]
    model: Annotated[ScratchModel | PretrainedModel, Field(discriminator="kind"), For("base", "fetch")]
    base: Annotated[Base | None, For("base")] = None
    """Training of a model made here; a published one has been trained."""
    distill: Annotated[Distill, For("distill")]
    sft: Annotated[SFT | None, For("sft")]
    """Null: the published model has been warmed up, and goes to RL as it is."""
    rl: Annotated[RL, For("rl")]
    evaluation: Annotated[Evaluation, For("eval")]
    launch: Launch

    def longest(self, section: Literal["distill", "rl", "evaluation"]) -> int:
        """The longest completion of a section in tokens: its own limit, else that of the questions."""
        tokens = getattr(self, section).max_tokens or self.problems.longest_answer()
        assert tokens is not None, "no profile without a limit is valid"
        return tokens

    @property
    def rollout(self) -> int:
        """The longest completion of an RL step in tokens: one, where the choice alone is trained."""
        return 1 if self.rl.choice_only else self.longest("rl")

    def model_post_init(self, _):
        _check_kinds(self)
        rl, processes = self.rl, self.launch.processes
        if rl.engine == "server" and self.launch.sharding != "none":
            raise ValueError(
                f"rl.engine='server' does not go with launch.sharding={self.launch.sharding!r}: the first "
                "process would gather the weights while it sends them to the server, and all wait for ever "
                "(huggingface/trl#7103); set launch.sharding=none"
            )
        micro_batches = rl.prompts_per_step * rl.group_size // rl.updates_per_step // rl.micro_batch
        batches: dict[str, Any] = {
            "prompts_per_step x group_size / micro_batch": micro_batches,
        }
        if self.sft is not None:
            batches["sft.batch_size"] = self.sft.batch_size
        if self.base is not None:
            batches["base.batch_size"] = self.base.batch_size
        for name, value in batches.items():
            if value % processes:
                raise ValueError(
                    f"launch.processes={processes} does not divide {name}={value}: "
                    "every process must get the same share"
                )
        share = self.sft.batch_size // processes if self.sft else 0
        if self.sft and share % (self.sft.micro_batch or share):
            raise ValueError(
                f"sft.micro_batch={self.sft.micro_batch} does not divide a process's share of "
                f"sft.batch_size, {share} rows"
            )


def _check_kinds(profile: Profile):
    """The laptop world, the model made for it and the teachers that it trains belong together."""
    scratch = profile.model.kind == "scratch"
    if scratch != (profile.problems.kind == "chain"):
        raise ValueError(
            f"model.kind={profile.model.kind!r} does not go with problems.kind={profile.problems.kind!r}: "
            "a model made from scratch knows chains only, and chains are its alone"
        )
    if scratch != (profile.base is not None):
        raise ValueError("section base: needed for model.kind='scratch', and for no other")
    if profile.base is not None and profile.base.levels:
        assert isinstance(profile.problems, ChainProblems)
        check_shares("base.levels", profile.base.levels, profile.problems.levels)
    if scratch and profile.sft is None:
        raise ValueError("section sft: needed for model.kind='scratch', which nobody has warmed up")
    # recorded answers bring their own questions, which the short teacher is then asked
    solver = ("solver",) if profile.problems.kind == "stories" else ()
    recorded = ("data",) if profile.distill.think.kind == "data" else ()  # which brings the questions
    for name, published in (
        ("think", ("model", "server", "data")),
        ("short", ("model", "server", *recorded)),
    ):
        kind = getattr(profile.distill, name).kind
        if kind not in (expected := ("cue",) if scratch else (*solver, *published)):
            raise ValueError(
                f"distill.{name}.kind={kind!r}: expected {' or '.join(map(repr, expected))}"
                + (", the base model itself" if scratch else "")
            )
    if not scratch:
        for section in ("distill", "rl", "evaluation"):
            if getattr(profile, section).max_tokens is None:
                raise ValueError(f"{section}.max_tokens: needed for problems.kind={profile.problems.kind!r}")
