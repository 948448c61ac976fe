"""Proves that the mode is read from an id, and that adding control tokens changes nothing else.

Run: python -m pytest tests/test_modes.py
"""

import pytest
import torch
from conftest import TINY
from transformers import AutoTokenizer

from thinkless.models import build_model, build_tokenizer
from thinkless.modes import END_OF_THINKING, Mode, add_control_tokens, control_id, mode_of
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


def test_an_embedding_with_spare_rows_does_not_change():
    model = build_model(build_tokenizer([chr(0x4E00 + i) for i in range(40)]), **TINY)  # 43 rows
    old = model.get_input_embeddings().weight.detach().clone()
    tokenizer = build_tokenizer("0123456789")
    assert add_control_tokens(tokenizer, model) == CONTROL
    assert rows(model) == 43
    assert torch.equal(model.get_input_embeddings().weight, old)


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
