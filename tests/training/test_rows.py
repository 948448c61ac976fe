"""Proves that rows come in the order that batches and processes want, and as TRL's tokens.

Run: python -m pytest tests/training/test_rows.py
"""

import pytest
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset, concatenate_datasets
from real_layout import make_r1_layout
from torch.utils.data import BatchSampler, SequentialSampler
from trl import SFTConfig, SFTTrainer

from thinkless.distillation.pairs import sft_rows
from thinkless.generation.chat_template import chat_prompt, install_chat_template
from thinkless.models import load
from thinkless.modes import add_control_tokens
from thinkless.training.rows import (
    in_batches_of_similar_length,
    in_micro_batches_of_one_mode,
    load_tokens,
    save_tokens,
)


def test_batches_hold_rows_of_similar_length_and_lose_none():
    lengths = [5, 1, 4, 2, 3, 1, 5, 2]
    rows = Dataset.from_dict({"row": list(range(8))})
    order = in_batches_of_similar_length(rows, lengths, 2, seed=0)["row"]
    assert sorted(order) == list(range(8))
    # sorted lengths are 1 1 2 2 3 4 5 5, so the pairs are (1,1) (2,2) (3,4) (5,5) in some order
    pairs = sorted(tuple(sorted(lengths[row] for row in order[i : i + 2])) for i in range(0, 8, 2))
    assert pairs == [(1, 1), (2, 2), (3, 4), (5, 5)]


def test_a_smaller_last_batch_comes_last():
    rows = Dataset.from_dict({"row": list(range(5))})
    order = in_batches_of_similar_length(rows, [1, 1, 1, 1, 9], 2, seed=0)["row"]
    assert order[-1] == 4


def test_rows_stay_in_their_window():
    rows = Dataset.from_dict({"row": list(range(200))})
    order = in_batches_of_similar_length(rows, list(range(200, 0, -1)), 2, seed=0)["row"]
    assert max(order[:100]) == 99  # 50 batches of 2 rows make a window


@pytest.mark.parametrize(("processes", "micro_batch"), [(4, 1), (8, 1), (16, 1), (2, 3), (4, 2), (1, 8)])
def test_every_process_gets_both_modes_and_all_get_the_same_at_a_time(processes, micro_batch):
    batch_size = 2 * micro_batch * processes * 2
    modes = Dataset.from_dict({"mode": ["think", "short"] * batch_size, "row": [*range(2 * batch_size)]})
    dealt = in_micro_batches_of_one_mode(
        modes, batch_size=batch_size, micro_batch=micro_batch, processes=processes
    )
    batches = BatchSampler(SequentialSampler(range(len(dealt))), micro_batch, drop_last=False)
    shards = [
        [dealt[batch]["mode"] for batch in BatchSamplerShard(batches, processes, rank)]
        for rank in range(processes)
    ]
    for shard in shards:
        rows = [mode for batch in shard for mode in batch]
        assert rows.count("think") == rows.count("short")
    assert all(shard == shards[0] for shard in shards)
    assert all(len(set(dealt[batch]["mode"])) == 1 for batch in batches)
    for update in range(2):  # holds the rows that it held
        rows = slice(update * batch_size, (update + 1) * batch_size)
        assert sorted(dealt[rows]["row"]) == modes[rows]["row"]


@pytest.mark.parametrize(("batch_size", "processes"), [(1, 1), (4, 4)])
def test_rows_that_cannot_be_dealt_out_better_stay_as_they_are(batch_size, processes):
    rows = Dataset.from_dict({"row": list(range(16))})
    same = in_micro_batches_of_one_mode(rows, batch_size=batch_size, micro_batch=1, processes=processes)
    assert list(same["row"]) == list(range(16))


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A folder with a small model in R1's layout that has control tokens, as `model/`; its tokenizer."""
    folder = tmp_path_factory.mktemp("student")
    model, tokenizer = load(make_r1_layout(folder / "r1"))
    add_control_tokens(tokenizer, model)
    install_chat_template(tokenizer)
    return model, tokenizer


def pairs_of(tokenizer, count):
    answers = [{"think": "\nI add 3 to 5.\n</think>\n\nIt is 8.", "short": "\\boxed{8}"}] * count
    columns = {
        f"{mode}_{name}": [
            answer[mode] if name == "response" else row % 3 > 0 for row, answer in enumerate(answers)
        ]
        for mode in ("think", "short")
        for name in ("response", "finished")
    }
    return Dataset.from_dict({"question": [f"What is {row}?" for row in range(count)], **columns})


def test_tokens_are_those_of_trl_but_for_ends_of_answers_that_were_cut(student, tmp_path):
    model, tokenizer = student
    pairs = pairs_of(tokenizer, 6)
    rows = sft_rows(pairs, ask=lambda words: chat_prompt(tokenizer, words))
    save_tokens(rows, tokenizer, tmp_path / "rows")
    ours = list(load_tokens(tmp_path / "rows"))
    arguments = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, max_length=None, report_to="none")
    trl = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=rows.select_columns(["prompt", "completion"]),
        processing_class=tokenizer,
    ).train_dataset
    for own, theirs, ended in zip(ours, trl, rows["ended"], strict=True):
        end = None if ended else -1
        assert theirs["labels"][-1] == tokenizer.eos_token_id
        assert own == {name: theirs[name][:end] for name in ("input_ids", "labels")}
    assert {*rows["ended"]} == {True, False}


def test_rows_without_a_word_on_their_end_have_one(tokenizer, tmp_path):
    rows = Dataset.from_dict({"prompt": ["3+5=", "3+"], "completion": ["8", "5=8<eos>"]})
    save_tokens(rows, tokenizer, tmp_path / "rows")
    assert [
        tokenizer.decode([token for token in row["labels"] if token >= 0])
        for row in load_tokens(tmp_path / "rows")
    ] == ["8<eos>", "5=8<eos>"]


def test_rows_are_mapped_from_disk_and_in_order_whoever_tokenized_them(student, tmp_path, monkeypatch):
    _, tokenizer = student
    pairs = pairs_of(tokenizer, 40)
    pairs.save_to_disk(tmp_path / "pairs")
    rows = sft_rows(Dataset.load_from_disk(tmp_path / "pairs"), file=tmp_path / "texts.arrow")
    assert rows.cache_files
    save_tokens(rows, tokenizer, tmp_path / "alone")
    monkeypatch.setattr("thinkless.training.rows.MANY", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    save_tokens(rows, tokenizer, tmp_path / "together")
    alone, together = load_tokens(tmp_path / "alone"), load_tokens(tmp_path / "together")
    assert (len(alone.cache_files), len(together.cache_files)) == (1, 3)
    assert list(alone) == list(together)
    assert concatenate_datasets([together]).cache_files  # a training's Dataset still is on disk
    assert {path.name for path in (tmp_path / "pairs").glob("cache-*")} == set()
