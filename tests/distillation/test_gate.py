"""Proves what the gate lets pass and sets aside, mostly behind servers that answer like other people's.

Run: python -m pytest tests/distillation/test_gate.py
"""

import json
from contextlib import ExitStack

import pytest
from datasets import Dataset
from servers import ScriptedServer, refused, said

from thinkless.distillation.gate import EXAMPLES, fault, keep_pairs, set_aside, summary, write_set_aside
from thinkless.distillation.pairs import Teacher, distill
from thinkless.distillation.store import REFUSALS, Answer
from thinkless.errors import StageError
from thinkless.generation import ServerGenerator, TransformersGenerator
from thinkless.modes import Mode

QUESTIONS = Dataset.from_list([{"question": f"q{i}", "answer": str(i)} for i in range(6)])
SAMPLING = {"max_tokens": 50, "temperature": 0.6, "top_p": 1.0, "seed": 0}
GOOD = {Mode.THINK: "hm</think>5", Mode.SHORT: "5"}
CUT = "This model's maximum context length is 4096 tokens, 'max_tokens' is too large: 3072"


@pytest.fixture
def ask(tmp_path):
    """Pairs of a server that follows a script in one mode and answers well in the other."""
    with ExitStack() as stack:

        def run(script, mode=Mode.SHORT, questions=QUESTIONS, folder=tmp_path, **options):
            teachers = []
            for one in Mode:
                server = ScriptedServer(script if one is mode else lambda *_, one=one: said(GOOD[one]))
                stack.callback(server.close)
                options = {"chat": True, "extensions": False, "in_flight": 2, "retries": 2, **options}
                teachers.append(Teacher(ServerGenerator(server.url, "m", **options), one, name=one.label))
                run.server = server if one is mode else run.server
            return distill(questions, teachers, **SAMPLING, folder=folder)

        run.server = None
        yield run


def counts(pairs, overlong="drop"):
    """What the summary says without the shares of right answers."""
    told = summary(pairs, keep_pairs(pairs, overlong))
    return {name: n for name, n in told.items() if not name.endswith("_correct")}


# One question


@pytest.mark.parametrize(
    "poison",
    [
        refused(400, CUT, code="context_length_exceeded"),
        refused(400, "filtered", code="content_filter"),
        refused(413, "too large"),
        (200, {"choices": []}),
        (200, {"error": {"message": "upstream"}}),
        said([{"type": "image", "image": "..."}]),
        said([{"text": 5}]),
        said(5),
        said("5", reasoning_content=[{"type": "image"}]),
        (200, {"choices": [{"message": None, "finish_reason": "stop"}]}),
        refused(403, "the input was flagged by moderation"),
        refused(500, "this one only"),
        (200, "<html>"),
    ],
    ids=str,
)
def test_a_poison_question_costs_one_question(ask, tmp_path, poison):
    pairs = ask(lambda body, question, _: poison if question == "q2" else said("5"))
    assert counts(pairs) == {"questions": 6, "kept": 5, "short_refused": 1}
    assert list(keep_pairs(pairs)["question"]) == ["q0", "q1", "q3", "q4", "q5"]
    [example] = set_aside(pairs)
    assert (example["mode"], example["reason"], example["question"]) == ("short", "refused", "q2")
    assert all(ask.server.asked[f"q{i}"] == 1 for i in (0, 1, 3, 4, 5))
    again = ask(lambda *_: said("never asked"))
    assert not ask.server.asked
    assert list(again) == list(pairs)


def test_a_run_that_lacks_only_the_poison_question_ends(ask, tmp_path):
    ask(lambda *_: said("5"))
    lines = (tmp_path / "short.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "short.jsonl").write_text("".join(line for line in lines if '"q2"' not in line))
    pairs = ask(lambda *_: refused(400, CUT))
    assert ask.server.asked == {"q2": 1}
    assert counts(pairs) == {"questions": 6, "kept": 5, "short_refused": 1}


# Every question


def test_a_server_that_refuses_everything_stops_the_run_and_nothing_is_stored(ask, tmp_path):
    with pytest.raises(StageError, match=r"short has refused 6 questions .*: HTTP 400 .*on purpose"):
        ask(lambda *_: refused(400, "on purpose"))
    assert (tmp_path / "short.jsonl").read_bytes() == b""
    assert counts(ask(lambda *_: said("5")))["kept"] == 6


def test_a_server_that_begins_to_refuse_everything_is_left_alone(ask, tmp_path):
    many = Dataset.from_list([{"question": f"q{i}", "answer": "5"} for i in range(3 * REFUSALS)])
    with pytest.raises(StageError, match=rf"has refused {REFUSALS} questions"):
        ask(lambda _, q, n: said("5") if int(q[1:]) < 20 else refused(400, "no money"), questions=many)
    assert ask.server.asked.total() < 2 * REFUSALS
    assert len((tmp_path / "short.jsonl").read_bytes().splitlines()) == 20


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_who_may_not_ask_is_told_at_once(ask, status):
    many = Dataset.from_list([{"question": f"q{i}", "answer": "5"} for i in range(100)])
    with pytest.raises(StageError, match=rf"refuses prompt \d: HTTP {status} .*no such key") as failure:
        ask(lambda *_: refused(status, "no such key"), questions=many)
    assert "\n" not in str(failure.value)
    assert ask.server.asked.total() < 20


# Fields


@pytest.mark.parametrize(
    ("field", "other", "answer"),
    [
        (
            "max_tokens",
            "max_completion_tokens",
            refused(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        ),
        ("seed", None, refused(422, "Extra inputs are not permitted: seed")),
        (
            "seed",
            None,
            (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "input": "top_p"}]}),
        ),
        (
            "temperature",
            None,
            refused(400, "Unsupported value: 'temperature' does not support 0.6. Only the default (1) is."),
        ),
        ("top_p", None, refused(400, "`temperature` and `top_p` cannot both be specified")),
        ("temperature", None, refused(400, "invalid temperature: only 1 is allowed for this model")),
        ("seed", None, refused(400, "'seed' is not a valid parameter")),
        ("seed", None, refused(400, "The field 'seed' must not be set.")),
        ("seed", None, refused(404, "No endpoints found that support the requested parameter: seed")),
    ],
)
def test_a_field_that_is_refused_is_sent_otherwise_from_then_on(ask, field, other, answer):
    with pytest.warns(UserWarning, match=f"refuses the field {field}: it is"):
        pairs = ask(lambda body, *_: answer if field in body else said("5"), in_flight=1)
    assert counts(pairs) == {"questions": 6, "kept": 6}
    assert ask.server.asked.total() == 7
    usual = {"model", "messages", "max_tokens", "seed", "top_p", "temperature"}
    assert ask.server.bodies[0].keys() == usual
    assert all(body.keys() == usual - {field} | ({other} - {None}) for body in ask.server.bodies[1:])


def test_several_fields_may_be_refused_one_after_the_other(ask):
    def script(body, *_):
        for field in ("seed", "temperature", "max_tokens"):
            if field in body:
                return refused(400, f"{field} is not supported")
        return said("5")

    with pytest.warns(UserWarning, match="left out"):
        assert counts(ask(script, in_flight=6)) == {"questions": 6, "kept": 6}
    assert ask.server.bodies[-1].keys() == {"model", "messages", "top_p", "max_completion_tokens"}


def test_an_error_about_lengths_leaves_the_fields_as_they_are(ask):
    ask(lambda body, question, _: refused(400, CUT) if question == "q2" else said("5"))
    assert all("max_tokens" in body for body in ask.server.bodies)


def test_a_question_that_is_too_long_for_an_engine_costs_itself_alone(model, tokenizer, tmp_path):
    """The model has 256 positions. The other answers are as they would have been."""
    local = Teacher(TransformersGenerator(model, tokenizer), Mode.SHORT)
    rows = [{"question": f"{n}+5=", "answer": "8"} for n in range(5)]
    alone = distill(Dataset.from_list(rows), [local], **SAMPLING | {"temperature": 0.0})
    long = {"question": "1+" * 150, "answer": "8"}
    pairs = distill(
        Dataset.from_list([*rows[:3], long, *rows[3:]]), [local], **SAMPLING | {"temperature": 0.0}
    )
    assert [n for n, name in enumerate(pairs["short_fault"]) if name == "too_long"] == [3]
    assert list(pairs.select([0, 1, 2, 4, 5])) == list(alone)


# What came back


@pytest.mark.parametrize(
    ("script", "mode", "reason"),
    [
        (said("The answer is 5"), Mode.THINK, "unfinished"),
        (said("<think>\n\n</think>\n\n5"), Mode.THINK, "no_thinking"),
        (said("", reasoning_content="I think so"), Mode.THINK, "unfinished"),
        (said(""), Mode.THINK, "empty"),
        (said("a</think>b<think>c"), Mode.THINK, "wrong_marks"),
        (said("a</think>b</think>c"), Mode.THINK, "wrong_marks"),
        (said("a</think>b<|im_end|>"), Mode.THINK, "wrong_marks"),
        (said("a</think>", "length"), Mode.THINK, "overlong"),
        (said("", reasoning_content="cut", finish_reason="length"), Mode.THINK, "overlong"),
        (said(""), Mode.SHORT, "empty"),
        (said(None), Mode.SHORT, "empty"),
        (said("word " * 900, tokens=905), Mode.SHORT, "over_limit"),
        (said("<think>a</think>5"), Mode.SHORT, "thinks_in_short"),
        (said("5 <short>"), Mode.SHORT, "wrong_marks"),
        (said("5", "max_output_tokens"), Mode.SHORT, "overlong"),
        (said("5", "truncated"), Mode.SHORT, "overlong"),
        (said("5", "incomplete"), Mode.SHORT, "overlong"),
        (said("5", "sensitive"), Mode.SHORT, "filtered"),
        (said("5", "repetition"), Mode.SHORT, "broken"),
        (said("5", "content_filter"), Mode.SHORT, "filtered"),
        (said("5", "insufficient_system_resource"), Mode.SHORT, "broken"),
    ],
)
def test_what_may_not_be_trained_on_is_set_aside_and_counted(ask, script, mode, reason):
    pairs = ask(lambda body, question, _: script if question != "q0" else said(GOOD[mode]), mode)
    assert counts(pairs) == {"questions": 6, "kept": 1, f"{mode.label}_{reason}": 5}
    clipped = counts(pairs, "clip")["kept"]
    assert clipped == (6 if reason == "overlong" else 1)
    assert [row["question"] for row in set_aside(pairs)] == ["q1", "q2", "q3"]


@pytest.mark.parametrize("word", ["eos_token", "eos", "end_turn", "stop_sequence", "COMPLETE", None])
def test_an_end_has_many_names(ask, word):
    assert counts(ask(lambda *_: said("5", word))) == {"questions": 6, "kept": 6}


@pytest.mark.parametrize("usage", [0, 3, None, "many"])
def test_a_count_that_cannot_be_is_not_believed(ask, tokenizer, usage):
    pairs = ask(lambda *_: said("3+5;" * 20, tokens=usage), tokenizer=tokenizer)
    assert counts(pairs) == {"questions": 6, "kept": 0, "short_over_limit": 6}


@pytest.mark.parametrize("usage", [None, "many", ["many"], {}])
def test_a_usage_in_another_form_is_none(ask, usage):
    status, body = said("5")
    pairs = ask(lambda *_: (status, {**body, "usage": usage}))
    assert counts(pairs) == {"questions": 6, "kept": 6}


def test_an_answer_in_parts_is_put_together(ask):
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    answer = {"type": "text", "text": "5"}
    ways = [said([thought, answer]), said("5", reasoning_content=["hm"])]
    ways.append(said([answer], reasoning={"text": "hm"}))
    pairs = ask(lambda _, question, n: ways[int(question[1:]) % 3], Mode.THINK)
    assert set(pairs["think_response"]) == {"hm</think>5"}
    assert counts(pairs)["kept"] == 6


def test_no_pair_at_all_is_an_error_with_counts_and_examples(ask, tmp_path):
    pairs = ask(lambda *_: said(""))
    with pytest.raises(StageError, match=r"none of 6 pairs may be trained on \(6 short_empty\)"):
        write_set_aside(pairs, summary(pairs, keep_pairs(pairs)), "drop", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / EXAMPLES).read_text().splitlines()]
    assert rows == [
        {"mode": "short", "reason": "empty", "question": f"q{i}", "response": ""} for i in range(3)
    ]


def test_an_end_that_is_not_known_does_not_pass():
    """As a file of an earlier version may have it."""
    assert fault(Mode.SHORT, Answer("k", "q", "5", 2, "tool_calls"), 50) == "broken"
    assert fault(Mode.SHORT, Answer("k", "q", "5", 2, "stop"), 2) is None
