"""Proves that tokenizer and model are what the trainings rely on: reproducible, isolated, round-tripping.

Run: python -m pytest tests/test_models.py
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from conftest import TINY
from real_layout import make_qwen25_layout, make_r1_layout
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen3Config, Qwen3ForCausalLM

from thinkless.errors import UserError
from thinkless.generation.load import open_generator
from thinkless.models import (
    EOS,
    PAD,
    PROBE,
    UNKNOWN,
    build_model,
    build_tokenizer,
    fetch,
    fetched_files,
    is_path,
    load,
    load_tokenizer,
    save,
)


def test_ids_are_the_vocabulary_in_order_after_three_special_tokens():
    tokenizer = build_tokenizer(["b", "a", "<tag>"])
    assert tokenizer.get_vocab() == {PAD: 0, EOS: 1, UNKNOWN: 2, "b": 3, "a": 4, "<tag>": 5}
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)


def test_tags_win_over_their_characters():
    tokenizer = build_tokenizer(["<tag>", "</tag>", *"<>/tag"])
    assert tokenizer.tokenize("a<tag>t</tag>") == ["a", "<tag>", "t", "</tag>"]
    assert tokenizer.tokenize("<<tag>>") == ["<", "<tag>", ">"]


def test_an_unknown_character_is_one_unknown_token_and_not_dropped():
    tokenizer = build_tokenizer("12")
    assert tokenizer.encode("1x2 é", add_special_tokens=False) == [3, 2, 4, 2, 2]


def test_prompts_are_padded_on_the_left():
    batch = build_tokenizer("123")(["1", "123"], padding=True)
    assert batch.input_ids == [[0, 0, 3], [3, 4, 5]]
    assert batch.attention_mask == [[0, 0, 1], [1, 1, 1]]


def test_a_rounding_seed_moves_every_weight_by_a_millionth(tokenizer):
    """Standard deviation 1e-6 of each weight's size, the same for the same seed; at 0 nothing moves."""

    def weights(**seeds):
        model = build_model(tokenizer, **{**TINY, **seeds})
        return torch.cat([p.detach().flatten() for p in model.parameters()]).double()

    plain = weights()
    assert torch.equal(plain, weights(rounding_seed=0))
    moved = (weights(rounding_seed=1) / plain - 1)[plain != 0]
    assert moved.std().item() == pytest.approx(1e-6, rel=0.1)
    assert torch.equal(weights(rounding_seed=1), weights(rounding_seed=1))
    assert not torch.equal(weights(rounding_seed=1), weights(rounding_seed=2))
    assert not torch.equal(plain, weights(seed=TINY["seed"] + 1))


def test_the_model_is_the_size_asked_for(tokenizer):
    model = build_model(tokenizer, **TINY)
    assert isinstance(model, Qwen3ForCausalLM)
    # V embeddings, tied; per layer four attention maps, three of the MLP, two norms of the layer and
    # two of a head (queries, keys); a final norm
    v, h, i, n = len(tokenizer), TINY["hidden_size"], TINY["intermediate_size"], TINY["layers"]
    head = h // TINY["heads"]
    expected = v * h + n * (4 * h * h + 3 * h * i + 2 * h + 2 * head) + h
    assert sum(p.numel() for p in model.parameters()) == expected
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_the_initial_weights_have_the_deviation_asked_for(tokenizer):
    weight = build_model(tokenizer, **{**TINY, "intermediate_size": 2000}).model.layers[0].mlp.up_proj.weight
    assert weight.std().item() == pytest.approx(TINY["initializer_range"], rel=0.05)


def test_the_seed_decides_the_weights_and_leaves_the_global_state_alone(tokenizer):
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first, again, other = (build_model(tokenizer, **{**TINY, "seed": seed}) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_model_and_tokenizer_survive_disk(tokenizer, model, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(tmp_path)("3+5=", return_tensors="pt").input_ids
    assert torch.equal(loaded(ids).logits, model(ids).logits)


@pytest.mark.parametrize("make", [make_r1_layout, make_qwen25_layout])
def test_a_real_layout_loads_as_its_file_says(make, tmp_path):
    """Also after it was saved with padding and truncation switched on, as a training leaves it."""
    tokenizer = load_tokenizer(make(tmp_path))
    assert tokenizer.padding_side == "left"
    assert tokenizer.decode(tokenizer(PROBE, add_special_tokens=False).input_ids) == PROBE
    tokenizer([PROBE, "1"], padding="max_length", max_length=9, truncation=True)
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_a_character_tokenizer_beside_a_qwen2_model_is_refused(tmp_path):
    """Transformers would rebuild it as byte-level BPE and drop characters without a word."""
    build_tokenizer([*"0123456789+-*=", "<think>"]).save_pretrained(tmp_path)
    Qwen3Config().save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).encode("3 5") == [6, 2, 8]
    Qwen2Config().save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).encode("3 5") == [6, 8]
    with pytest.raises(
        ValueError, match="this WordLevel tokenizer as Qwen2Tokenizer, which encodes text diff"
    ):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["base", "hub"])
@pytest.mark.parametrize("offline", [True, False])
def test_a_saved_tokenizer_does_not_say_how_it_was_loaded(
    name, offline, model, tokenizer, tmp_path, monkeypatch
):
    """Or what it was used for: the same weights would get other stage keys."""
    save(model, tokenizer, tmp_path / "first")
    _, used = load(tmp_path / "first")
    used(["3", "3+5"], padding=True)
    save(model, used, tmp_path / "used")
    _, again = load(tmp_path / "used")
    again.init_kwargs |= {"local_files_only": offline, "is_local": name == "base"}  # as Transformers does
    save(model, again, tmp_path / "second")
    first, second = (
        json.loads((tmp_path / folder / "tokenizer_config.json").read_text())
        for folder in ("first", "second")
    )
    assert first == second
    assert not {"local_files_only", "is_local"} & second.keys()


OPENERS = {
    "load": lambda path: load(Path(path)),
    "fetch": fetch,
    "tokenizer": load_tokenizer,
    "vllm": lambda path: open_generator(path, "vllm"),
    "transformers": lambda path: open_generator(Path(path), "transformers"),
}


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere/model", "cannot load the model '{}/nowhere/model' (there is no such folder)"),
        ("stage", "cannot load the model '{0}/stage' (a stage's folder: its model is {0}/stage/model)"),
        ("empty", "cannot load the model '{}/empty'"),
    ],
)
def test_a_folder_without_a_model_is_one_line_and_the_hub_is_not_asked(
    opener, folder, message, untrained, tmp_path, monkeypatch
):
    monkeypatch.setattr("httpx.Client.send", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (tmp_path / "stage").symlink_to(untrained)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        opener(f"{tmp_path}/{folder}")
    assert str(error.value).startswith(message.format(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Qwen/Qwen3-0.6B", False),
        ("gpt2", False),
        ("runs/typo", True),
        ("./typo", True),
        ("../typo", True),
        ("~/typo", True),
        ("/typo", True),
        ("runs/laptop/typo", True),
    ],
)
def test_a_name_is_a_path_if_it_looks_like_one_or_its_parent_is_here(name, path, tmp_path, monkeypatch):
    """Here is a folder `runs` and nothing else."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("httpx.Client.send", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", not path)
    assert is_path(name) is path
    with pytest.raises(UserError, match="there is no such folder" if path else "cached files") as error:
        fetch(name)
    assert "\n" not in str(error.value)


def pickled(folder: Path):
    """The weights as a pickle, which would run whatever it holds."""
    torch.save(load(folder)[0].state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def with_code(folder: Path):
    """A model that needs a module of its own, which would leave a file when it is imported."""
    code = f"open({str(folder / 'ran')!r}, 'w')\nclass Model: pass\nclass Config: pass\n"
    (folder / "own.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoModelForCausalLM": "own.Model", "AutoConfig": "own.Config"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": own}))


@pytest.mark.parametrize("opener", [load, lambda folder: fetch(str(folder))], ids=["load", "fetch"])
@pytest.mark.parametrize("change", [pickled, with_code])
def test_nothing_of_a_model_is_run(opener, change, tmp_path):
    make_qwen25_layout(tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(UserError, match=r"safetensors|custom code") as error:
        opener(tmp_path / "model")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model" / "ran").exists()


def test_what_was_fetched_is_known_by_its_content(tmp_path):
    make_qwen25_layout(tmp_path / "model")
    files = fetched_files(str(tmp_path / "model"))
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert files["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} < files.keys()


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_model_is_one_line(damage, untrained, tmp_path):
    _, tokenizer = load(untrained / "model")
    save(build_model(tokenizer, **TINY), tokenizer, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.unlink() if damage == "missing" else weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot load the model") as error:
        load(tmp_path / "model")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("left", [[], ["tokenizer_config.json"]], ids=str)
def test_a_folder_without_the_files_of_a_tokenizer_is_one_line(left, tmp_path):
    make_qwen25_layout(tmp_path)
    for file in tmp_path.glob("tokenizer*"):
        if file.name not in left:
            file.unlink()
    with pytest.raises(UserError, match=r"cannot load the model .*tokenizer") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folders_sampling_defaults_neither_act_nor_get_lost(tmp_path):
    """Rollouts of TRL take what is not said from the model's generation_config."""
    make_qwen25_layout(tmp_path / "first")
    path = tmp_path / "first" / "generation_config.json"
    defaults = json.loads(path.read_text()) | {
        "min_p": 0.9,
        "no_repeat_ngram_size": 2,
        "suppress_tokens": [5],
    }
    path.write_text(json.dumps(defaults))
    model, tokenizer = load(tmp_path / "first")
    acts = {name: value for name, value in model.generation_config.to_dict().items() if value is not None}
    assert not {"temperature", "top_p", "min_p", "no_repeat_ngram_size", "suppress_tokens"} & acts.keys()
    assert acts["eos_token_id"] == defaults["eos_token_id"]
    model.generation_config.pad_token_id = 7  # as a training sets it
    save(model, tokenizer, tmp_path / "second")
    saved = json.loads((tmp_path / "second" / "generation_config.json").read_text())
    assert saved == {**defaults, "pad_token_id": 7, "transformers_version": saved["transformers_version"]}
