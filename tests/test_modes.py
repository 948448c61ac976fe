"""Proves that the mode is read from an id, and that adding control tokens changes nothing else.

Run: python -m pytest tests/test_modes.py
"""

import json

import pytest
import torch
from conftest import TINY
from real_layout import R1_SPECIAL, SPARE_ROWS, make_qwen25_layout, make_r1_layout
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from thinkless.models import build_model, build_tokenizer
from thinkless.modes import END_OF_THINKING, MEANT, Mode, add_control_tokens, control_id, mode_of
from thinkless.problems import chain

CONTROL = [Mode.THINK.value, END_OF_THINKING, Mode.SHORT.value]


def rows(model):
    return model.get_input_embeddings().num_embeddings


def test_labels_are_the_bare_words():
    assert {mode: mode.label for mode in Mode} == {Mode.THINK: "think", Mode.SHORT: "short"}


def test_only_missing_tokens_are_added_and_only_once():
    tokenizer = build_tokenizer(chain.VOCABULARY)  # has <think> and </think>
    before = tokenizer.get_vocab()
    assert add_control_tokens(tokenizer) == ["<short>"]
    assert tokenizer.get_vocab() == {**before, "<short>": len(before)}
    assert add_control_tokens(tokenizer) == []
    assert len(tokenizer) == len(before) + 1


def test_all_three_are_added_to_a_tokenizer_that_has_none():
    tokenizer = build_tokenizer("0123456789")
    assert add_control_tokens(tokenizer) == CONTROL
    ids = tokenizer.convert_tokens_to_ids(CONTROL)
    assert ids == [13, 14, 15]  # pad, eos, unk, ten digits, then these
    assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(CONTROL)


def test_a_full_embedding_grows_and_keeps_its_rows():
    tokenizer = build_tokenizer("0123456789")
    model = build_model(tokenizer, **TINY)
    old = model.get_input_embeddings().weight.detach().clone()
    add_control_tokens(tokenizer, model)
    assert rows(model) == len(tokenizer) == 16
    assert model.config.vocab_size == 16
    torch.testing.assert_close(model.get_input_embeddings().weight[:13], old)


def test_an_embedding_with_spare_rows_keeps_its_size_and_every_other_row():
    model = build_model(build_tokenizer([chr(0x4E00 + i) for i in range(40)]), **TINY)  # 43 rows
    old = model.get_input_embeddings().weight.detach().clone()
    tokenizer = build_tokenizer("0123456789")
    assert add_control_tokens(tokenizer, model) == CONTROL
    weight = model.get_input_embeddings().weight
    assert rows(model) == 43
    assert torch.equal(weight[:13], old[:13])
    assert torch.equal(weight[16:], old[16:])
    torch.testing.assert_close(weight[13:16], old[:13].mean(0).expand(3, -1))


@pytest.mark.parametrize("spare", [0, 3])
def test_tied_modes_begin_as_likely_as_the_likely_token_and_read_differently(spare):
    """Whether the table grows or has rows to spare. By copies both would read alike."""
    tokenizer = build_tokenizer([*"abcdefghijklmnopqrstuvwxyz ,?+", *"0123456789", "W", "F", "S", "T"])
    tokenizer.chat_template = "{{ messages[0].content }}"
    model = build_model(build_tokenizer([chr(0x4E00 + i) for i in range(len(tokenizer) - 3 + spare)]), **TINY)
    assert model.config.tie_word_embeddings
    asked = tokenizer("What is 17 + 25?", return_tensors="pt", add_special_tokens=False).input_ids
    base = model(asked).logits[0, -1, : len(tokenizer)]
    add_control_tokens(tokenizer, model)
    logits = model(asked).logits[0, -1]
    modes = [control_id(mode, tokenizer) for mode in Mode]
    torch.testing.assert_close(logits[modes], base.max().expand(2), rtol=1e-4, atol=1e-4)
    think, short = model.get_input_embeddings().weight[modes]
    assert torch.cosine_similarity(think, short, dim=0) < 0.95


def test_exactly_enough_rows_is_enough():
    model = build_model(build_tokenizer([chr(0x4E00 + i) for i in range(13)]), **TINY)  # 16 rows
    weight = model.get_input_embeddings().weight
    add_control_tokens(build_tokenizer("0123456789"), model)
    assert model.get_input_embeddings().weight is weight


def test_mode_is_read_from_the_first_id_only(tokenizer):
    think, short, digit = control_id(Mode.THINK, tokenizer), control_id(Mode.SHORT, tokenizer), 5
    assert mode_of([think, short], tokenizer) is Mode.THINK
    assert mode_of((short, think), tokenizer) is Mode.SHORT
    assert mode_of(torch.tensor([short, digit]), tokenizer) is Mode.SHORT
    assert mode_of([digit, think], tokenizer) is None
    assert mode_of([], tokenizer) is None


def test_text_that_looks_like_a_control_token_is_no_mode():
    tokenizer = build_tokenizer([*"<>thinksor", "0"])  # can spell <think>, letter by letter
    letters = tokenizer.convert_tokens_to_ids(list("<think>"))
    assert tokenizer.decode(letters) == "<think>"
    assert mode_of(letters, tokenizer) is None


def test_a_tokenizer_without_control_tokens_says_what_to_do():
    with pytest.raises(ValueError, match=r"no <short> token: call add_control_tokens\(tokenizer, model\)"):
        control_id(Mode.SHORT, build_tokenizer(chain.VOCABULARY))


def test_control_tokens_survive_decoding_and_disk(tokenizer, model, tmp_path):
    text = "<think>3+5=8;</think>8"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == 9  # <think> 3 + 5 = 8 ; </think> 8
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.encode(text, add_special_tokens=False) == ids
    assert again.decode(ids, skip_special_tokens=True) == text
    assert mode_of(ids, again) is Mode.THINK
    assert add_control_tokens(again) == []


# Tokenizers and models laid out like the real ones


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_r1_needs_one_token_and_no_new_row(tmp_path):
    model, tokenizer = load(make_r1_layout(tmp_path))
    before, size = tokenizer.get_vocab(), rows(model)
    assert size == len(tokenizer) + SPARE_ROWS
    assert before["<think>"] + 2 == before["<|quad_start|>"]  # 151,648 and 151,650 in the real one
    assert add_control_tokens(tokenizer, model) == ["<short>"]
    assert tokenizer.get_vocab() == {**before, "<short>": len(before)}
    assert rows(model) == model.config.vocab_size == size


def test_qwen_needs_all_three(tmp_path):
    model, tokenizer = load(make_qwen25_layout(tmp_path))
    size, first = rows(model), len(tokenizer)
    assert add_control_tokens(tokenizer, model) == CONTROL
    assert tokenizer.convert_tokens_to_ids(CONTROL) == [first, first + 1, first + 2]
    assert rows(model) == size


def test_both_modes_are_equally_likely_before_any_training(tmp_path):
    """Untied, as R1: the output row is `<think>`'s, the input row the mean of the base vocabulary."""
    model, tokenizer = load(make_r1_layout(tmp_path))
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert inputs is not outputs
    kept = [weight.detach().clone() for weight in (inputs, outputs)]
    add_control_tokens(tokenizer, model)
    think, short = (control_id(mode, tokenizer) for mode in Mode)
    torch.testing.assert_close(inputs[short], kept[0][: tokenizer.vocab_size].mean(0))
    assert torch.equal(outputs[short], kept[1][think])
    others = torch.arange(rows(model)) != short
    assert torch.equal(inputs[others], kept[0][others])
    assert torch.equal(outputs[others], kept[1][others])
    logits = model(tokenizer("3+5=", return_tensors="pt").input_ids).logits[0, -1]
    torch.testing.assert_close(logits[short], logits[think])


def test_a_model_that_never_thought_gives_the_modes_its_usual_beginning(tmp_path):
    """Tied, as Qwen2.5: rows from words, where both modes are as likely as the likeliest ordinary token."""
    model, tokenizer = load(make_qwen25_layout(tmp_path))
    weight = model.get_input_embeddings().weight
    old = weight.detach().clone()
    question = [{"role": "user", "content": "What is 17 + 25?"}]
    batch = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")
    ids = batch["input_ids"]
    likely = model(ids).logits[0, -1, : tokenizer.vocab_size].max()
    add_control_tokens(tokenizer, model)
    assert model.get_output_embeddings().weight is weight
    think, end, short = tokenizer.convert_tokens_to_ids(CONTROL)
    words = tokenizer(MEANT[END_OF_THINKING], add_special_tokens=False).input_ids
    torch.testing.assert_close(weight[end], old[words].mean(0))
    assert torch.equal(weight[: tokenizer.vocab_size], old[: tokenizer.vocab_size])
    logits = model(ids).logits[0, -1]
    torch.testing.assert_close(logits[[think, short]], likely.expand(2), rtol=1e-4, atol=1e-4)


def test_a_tied_short_is_a_copy_of_a_known_think():
    tokenizer = build_tokenizer(["<think>", "</think>", *"0123456789"])
    model = build_model(build_tokenizer([chr(0x4E00 + i) for i in range(40)]), **TINY)
    think = model.get_input_embeddings().weight[control_id(Mode.THINK, tokenizer)].detach().clone()
    assert add_control_tokens(tokenizer, model) == ["<short>"]
    assert torch.equal(model.get_input_embeddings().weight[control_id(Mode.SHORT, tokenizer)], think)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("make", [make_r1_layout, make_qwen25_layout])
def test_control_tokens_are_never_skipped_here_or_after_disk(make, special, tmp_path, monkeypatch):
    """Whether they were ordinary, special or missing; other special tokens stay special."""
    if special:
        monkeypatch.setattr("real_layout.R1_SPECIAL", R1_SPECIAL | {"<think>", "</think>"})
    make(tmp_path)
    if special:  # the other way to mark a token: in the list of the configuration
        path = tmp_path / "tokenizer_config.json"
        config = json.loads(path.read_text())
        config["additional_special_tokens"] = [*config.get("additional_special_tokens", []), *CONTROL[:2]]
        path.write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    other = "<|quad_end|>"
    text = "<short>7</think> and <think>"
    skipped = tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids, skip_special_tokens=True)
    assert ("<think>" not in skipped) is special
    add_control_tokens(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    for again in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        ids = again(text + other, add_special_tokens=False).input_ids
        assert again.decode(ids, skip_special_tokens=True) == text
        assert not {*CONTROL} & {*again.all_special_tokens}
        assert sum(token in CONTROL for token in again.convert_ids_to_tokens(ids)) == 3


def test_control_tokens_are_whole_where_a_tokenizer_rewrites_spaces(tmp_path):
    """As Llama 2's does: it normalises its text, and looks for added tokens in what comes out."""
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", "</s>", "▁", *"0123456789<>/thinksor\n"])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    tokenizer.add_tokens(["<think>"])  # somebody has added one, in the usual way
    assert "<think>" not in tokenizer.tokenize("3<think>3")
    add_control_tokens(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    for again in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        pieces = again.tokenize("5\n<short>3<think>3 </think> 3")
        assert [piece for piece in pieces if piece in CONTROL] == ["<short>", "<think>", "</think>"]


def test_a_tokenizer_that_cuts_control_tokens_is_refused():
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", "<think>", *"0123456789<>/think"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    with pytest.raises(ValueError, match=r"reads <think> in '<think>' as \['<', 't', .*not as one token"):
        add_control_tokens(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
