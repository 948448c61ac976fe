"""Models and tokenizers: make one small enough to train while you read, load, fetch or save any other.

The small model is a Qwen3 architecture with a few hundred thousand parameters: the family of the
models used at full scale, and one whose character tokenizer survives `AutoTokenizer` (a Qwen2 config
would have it rebuilt as byte-level BPE, which silently drops characters; `load_tokenizer` notices).
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.utils import cached_file

from thinkless.errors import UserError
from thinkless.files import digest_files

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"

ROUNDING = 1e-6
"""Relative standard deviation of a rounding seed's noise: about eight units in the last place of float32."""

PROBE = "What is 3+5*2 - 7?\n\nIt's 9; so x = {4, 5}."
"""Text with what a wrongly rebuilt tokenizer loses: spaces, line ends, digits, signs."""


def build_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per entry of `vocabulary`; longer entries win over their characters."""
    ids = {token: index for index, token in enumerate([PAD, EOS, UNKNOWN, *vocabulary])}
    # one id per entry; text is split into <tags> and single characters before it is looked up
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"</?\w+>|."), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN, padding_side="left"
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    intermediate_size: int,
    initializer_range: float,
    context: int,
    seed: int,
    rounding_seed: int = 0,
) -> PreTrainedModel:
    """A randomly initialised Qwen3 causal language model in float32, the same for the same seeds.

    `rounding_seed` above 0 moves every weight by a relative `ROUNDING`, as another processor might.
    """
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden_size // heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=initializer_range,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had been drawn
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        if rounding_seed:
            torch.manual_seed(rounding_seed)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(1 + ROUNDING * torch.randn_like(weight))
        return model


def is_path(name: str) -> bool:
    """Whether a name means a place on this disk, where something may be missing, not ``org/name`` of the hub.

    It does if it begins as a path does, has more than one slash, or names something in a folder that is here.
    """
    parent, slash, _ = name.rpartition("/")
    return name.startswith((".", "/", "~")) or "/" in parent or bool(slash and Path(parent).is_dir())


FETCHED = {".json", ".safetensors", ".jinja", ".txt", ".model"}
"""Endings of a published model's files: configurations, weights, chat template, vocabularies."""
SAFE = {"trust_remote_code": False}
"""Of a published model nothing is run: a model that brings its own code is refused."""


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Turn what Transformers says of a model folder or hub name that it cannot read into one line.

    Raises UserError, and at once, without asking the hub, where `name` is a path and nothing is there.
    """
    here, path = Path(name), str(name)
    try:
        if (isinstance(name, Path) or is_path(path)) and not here.exists():
            raise FileNotFoundError("there is no such folder")
        if (here / "model" / "config.json").exists() and not (here / "config.json").exists():
            raise ValueError(f"a stage's folder: its model is {here / 'model'}")
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"cannot load the model {path!r} ({reason}): expected a folder with a "
            "Transformers model, or its name on the hub and a network"
        ) from None


def load_tokenizer(name: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name (at commit `revision`), padding on the left.

    It knows every end token of its model, see `modes.end_ids`.
    Raises UserError if there is none, and ValueError if Transformers rebuilt it as something that encodes
    differently from its own file, as it does with any but byte-level BPE beside a config of type qwen2.
    """
    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, padding_side="left", **SAFE)
        if not tokenizer.encode(PROBE, add_special_tokens=False):  # Transformers makes one of nothing
            raise ValueError("it has no tokenizer's files")
    tokenizer.more_ends = _ends(name, revision)
    file = _file(name, "tokenizer.json", revision)
    if file is not None:
        backend = Tokenizer.from_file(file)
        backend.no_padding()
        backend.no_truncation()
        expected = backend.encode(PROBE, add_special_tokens=False).ids
        if tokenizer.encode(PROBE, add_special_tokens=False) != expected:
            raise ValueError(
                f"{name}: the model's type makes Transformers load this {type(backend.model).__name__} "
                f"tokenizer as {type(tokenizer).__name__}, which encodes text differently; give the model a "
                "config of another type (Qwen3Config keeps any tokenizer)"
            )
    return tokenizer


def _file(name: str | Path, file: str, revision: str | None) -> str | None:
    return cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)


def _ends(name: str | Path, revision: str | None) -> list[int]:
    """The end tokens that a model's folder names: it may be several, of which the tokenizer has one."""
    for file in ("generation_config.json", "config.json"):
        if path := _file(name, file, revision):
            ids = json.loads(Path(path).read_text(encoding="utf-8")).get("eos_token_id")
            if ids is not None:
                return ids if isinstance(ids, list) else [ids]
    return []


def load(folder: Path, attention: str = "sdpa") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The (model, tokenizer) of a model folder, in float32, padding on the left.

    The folder's sampling defaults are set aside, or rollouts would be drawn by them; `save` puts them back.
    Raises UserError if there is none.
    """
    with loading(folder):
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention, use_safetensors=True, **SAFE
        )
        model.own_defaults, model.generation_config = (
            model.generation_config,
            GenerationConfig(**_ids(model.generation_config)),
        )
        return model, load_tokenizer(folder)


def _ids(config: GenerationConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def fetch(path: str, revision: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The (model, tokenizer) of a published model, in its own precision, from the hub or a folder.

    Raises UserError if there is none, it has no safetensors or brings its own code, or the hub cannot be
    reached.
    """
    with loading(path):
        tokenizer = load_tokenizer(path, revision)
        how: dict[str, Any] = {"revision": revision, "dtype": "auto", "use_safetensors": True, **SAFE}
        return AutoModelForCausalLM.from_pretrained(path, **how), tokenizer


def fetched_files(path: str, revision: str | None = None) -> dict[str, str]:
    """SHA-256 of the files that `fetch` has read, by name: what a later look can be compared with."""
    config = _file(path, "config.json", revision)
    assert config is not None  # it was read
    folder = Path(config).parent
    names = sorted(file.name for file in folder.iterdir() if file.suffix in FETCHED)
    return digest_files(folder, names)


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    weights: dict[str, torch.Tensor] | None = None,
):
    """Write model (safetensors) and tokenizer, so that `folder` is complete or absent.

    `weights` stand in for the model's own, which it holds only a part of when it is sharded.
    """
    for how in ("local_files_only", "is_local"):  # how it was loaded once is no property of a tokenizer
        tokenizer.init_kwargs.pop(how, None)
    if tokenizer.is_fast:  # nor is how it was last asked to pad
        tokenizer.backend_tokenizer.no_padding()
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if weights is not None:  # gathered apart, tied tables are no longer one
        weights = {name: w for name, w in weights.items() if name not in model.all_tied_weights_keys}
    model.save_pretrained(partial, state_dict=weights)
    if (own := getattr(model, "own_defaults", None)) is not None:
        kept = {**own.to_dict(), **_ids(model.generation_config)}
        GenerationConfig.from_dict(kept).save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
