"""Proves the reward table, what counts as a format fault, and every metric the reward logs.

Run: python -m pytest tests/test_rewards.py
"""

import math
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_layout import make_qwen25_layout

from thinkless.generation import Completion
from thinkless.generation.chat_template import install_chat_template
from thinkless.generation.interface import completion_of
from thinkless.models import load
from thinkless.modes import Mode, add_control_tokens, end_ids
from thinkless.rewards import FAULTS, ChoiceReward, ModeReward, Verdict, judge, reward, right_column


@pytest.mark.parametrize(
    ("mode", "correct", "expected"),
    [
        (Mode.SHORT, True, 1.0),
        (Mode.THINK, True, 0.7),  # 1 - gamma
        (Mode.SHORT, False, -1.0),
        (Mode.THINK, False, -1.0),
        (None, True, -1.0),
        (None, False, -1.0),
    ],
)
def test_the_reward_table(mode, correct, expected):
    assert reward(mode, correct, gamma=0.3) == pytest.approx(expected)


@given(st.floats(0, 1, exclude_max=True))
def test_a_right_answer_always_beats_a_wrong_one_and_short_never_loses(gamma):
    short, think, wrong = (reward(Mode.SHORT, True, gamma), reward(Mode.THINK, True, gamma), -1.0)
    assert short >= think > 0 > wrong


@pytest.mark.parametrize("gamma", [-0.1, 1.0, 2.0, float("nan")])
def test_an_impossible_gamma_is_refused_at_once(gamma, tokenizer):
    with pytest.raises(ValueError, match="expected 0 <= gamma < 1"):
        ModeReward(tokenizer, gamma)


@pytest.mark.parametrize(
    ("mode", "finished", "text", "fault"),
    [
        (Mode.SHORT, True, "<short>8", None),
        (Mode.THINK, True, "<think>3+5=8;</think>8", None),
        (None, True, "8", "no_control_token"),
        (None, False, "8<think>", "no_control_token"),  # the first fault is the one named
        (Mode.THINK, False, "<think>3+5=8;", "never_ends"),
        (Mode.SHORT, False, "<short>3+5", "never_ends"),
        (Mode.SHORT, False, "<short></think>", "thinks_in_short"),  # why it did not end
        (Mode.SHORT, True, "<short><think>8", "thinks_in_short"),
        (Mode.SHORT, True, "<short>3+5=8;</think>8", "thinks_in_short"),
    ],
)
def test_format_faults(mode, finished, text, fault):
    assert verdict(mode, text, "8", finished=finished).fault == fault


def verdict(mode, text, gold, *, finished=True) -> Verdict:
    return judge(Completion((), text, mode, math.nan, "stop" if finished else "length"), gold)


@pytest.mark.parametrize(
    ("mode", "text", "gold", "correct"),
    [
        (Mode.SHORT, "<short>8", "8", True),
        (Mode.SHORT, "<short>9", "8", False),
        (Mode.SHORT, "<short>yes", "yes", True),  # the control token is no part of an answer in words
        (Mode.SHORT, r"<short>\boxed{x+1}", "1+x", True),
        (Mode.THINK, "<think>9</think>8", "8", True),
        (Mode.THINK, "<think>8", "8", False),  # it ended while it thought
        (Mode.SHORT, "<short></think>8", "8", False),  # a fault
        (None, "8", "8", False),
        (Mode.SHORT, "<short>8", None, None),
        (None, "8", None, None),
    ],
)
def test_a_verdict_is_right_only_without_a_fault(mode, text, gold, correct):
    assert verdict(mode, text, gold).correct is correct


def test_a_verdict_is_paid_by_the_reward_table():
    assert Verdict(Mode.SHORT, None, True).reward(0.5) == 1.0
    assert Verdict(Mode.SHORT, None, False).reward(0.5) == -1.0


def test_a_question_without_a_gold_answer_has_no_reward(tokenizer):
    """Called wrong, it would teach the policy that every answer to it is."""
    rollout = Rollout(tokenizer, "<short>8<eos>")
    with pytest.raises(ValueError, match="no reward without a gold answer"):
        rollout.score(ModeReward(tokenizer, gamma=0.5), answer=[None])


class Rollout:
    """Completions as TRL hands them over: ids with the end token, text without it."""

    def __init__(self, tokenizer, *texts: str):
        self.completion_ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        self.completions = [tokenizer.decode(ids, skip_special_tokens=True) for ids in self.completion_ids]
        self.logged = defaultdict(list)

    def score(self, rewards, **columns):
        return rewards(
            prompts=["3+5="] * len(self.completions),
            completions=self.completions,
            completion_ids=self.completion_ids,
            log_metric=lambda name, value: self.logged[name].append(value),
            trainer_state=None,
            **columns,
        )


def test_one_rollout_by_hand(tokenizer):
    rollout = Rollout(
        tokenizer,
        "<short>3+5=8<eos>",  # level 1, right: 1, seven tokens
        "<think>3+5=8;</think>8<eos>",  # level 1, right: 1 - gamma, ten tokens
        "<short>7<eos>",  # level 2, wrong, three tokens
        "<think>3+5=8;8",  # level 2, cut off, eight tokens
        "8<eos>",  # level 2, right but no mode, two tokens
        "<short></think>8<eos>",  # level 2, right but thinks in short, four tokens
    )
    rewards = ModeReward(tokenizer, gamma=0.25)
    levels = [1, 1, 2, 2, 2, 2]
    assert rollout.score(rewards, answer=["8"] * 6, level=levels) == [1.0, 0.75, -1.0, -1.0, -1.0, -1.0]
    assert dict(rollout.logged) == {
        "think_rate": [0, 1, 0, 1, 0, 0],
        "think_rate/level1": [0, 1],
        "think_rate/level2": [0, 1, 0, 0],
        "correct": [1, 1, 0, 0, 0, 0],
        "correct/short": [1, 0, 0],
        "correct/think": [1, 0],
        "correct/level1": [1, 1],
        "correct/level2": [0, 0, 0, 0],
        "length": [7, 10, 3, 8, 2, 4],
        "length/short": [7, 3, 4],
        "length/think": [10, 8],
        "length/level1": [7, 10],
        "length/level2": [3, 8, 2, 4],
        "fault/no_control_token": [0, 0, 0, 0, 1, 0],
        "fault/never_ends": [0, 0, 0, 1, 0, 0],
        "fault/thinks_in_short": [0, 0, 0, 0, 0, 1],
    }


def test_levels_and_logging_are_optional(tokenizer):
    rollout = Rollout(tokenizer, "<short>8<eos>", "<short>9<eos>")
    rewards = ModeReward(tokenizer, gamma=0.5)
    assert rewards(rollout.completions, rollout.completion_ids, ["8", "8"]) == [1.0, -1.0]
    rollout.score(rewards, answer=["8", "8"])
    assert not [name for name in rollout.logged if "level" in name]
    assert {f"fault/{name}" for name in FAULTS} <= set(rollout.logged)


def test_a_completion_without_tokens_is_wrong_and_no_exception(tokenizer):
    rollout = Rollout(tokenizer, "")
    assert rollout.completion_ids == [[]]
    assert rollout.score(ModeReward(tokenizer, gamma=0.5), answer=["8"]) == [-1.0]
    assert rollout.logged["fault/no_control_token"] == [1.0]


def test_columns_of_different_length_are_refused(tokenizer):
    rollout = Rollout(tokenizer, "<short>8<eos>", "<short>9<eos>")
    with pytest.raises(ValueError, match="shorter"):
        rollout.score(ModeReward(tokenizer, gamma=0.5), answer=["8"])


def test_every_end_token_of_a_model_ends_an_answer(tmp_path):
    """Qwen2.5 has two in its generation_config.json; TRL's rollouts stop at either."""
    model, tokenizer = load(make_qwen25_layout(tmp_path))
    add_control_tokens(tokenizer, model)
    install_chat_template(tokenizer)
    ends = model.generation_config.eos_token_id
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]
    assert end_ids(tokenizer) == ends
    ids = tokenizer(r"<short>\boxed{5}", add_special_tokens=False).input_ids
    for end in ends:
        assert ModeReward(tokenizer, 0.5)([r"<short>\boxed{5}"], [[*ids, end]], ["5"]) == [1.0]
        completion = completion_of([*ids, end, ends[1]], tokenizer, 0.5)
        assert (completion.finish_reason, completion.text) == ("stop", r"<short>\boxed{5}")
        assert completion.token_ids == (*ids, end)
    assert ModeReward(tokenizer, 0.5)([r"<short>\boxed{5}"], [ids], ["5"]) == [-1.0]


def test_a_choice_earns_the_mean_of_the_stored_answers(tokenizer):
    """By hand at gamma .25: half of the short answers are right, three in four of the thoughts."""
    chosen = [tokenizer.encode(mode.value, add_special_tokens=False) for mode in Mode]
    other = tokenizer.encode("8", add_special_tokens=False)[:1]
    columns = {right_column(Mode.THINK): [0.75] * 3, right_column(Mode.SHORT): [0.5] * 3}
    logged = defaultdict(list)
    found = ChoiceReward(tokenizer, 0.25)(
        completion_ids=[*chosen, other],
        level=[1, 2, 2],
        log_metric=lambda name, value: logged[name].append(value),
        **columns,
    )
    assert found == pytest.approx([0.75 * 0.75 - 0.25, 0.5 - 0.5, -1.0])
    assert logged["think_rate"] == [1, 0, 0]
    assert logged["correct/level2"] == [0.5, 0]
    assert logged["correct/think"] == [0.75]
    assert logged["fault/no_control_token"] == [0, 0, 1]
