"""The gate: which answers may be trained on, whoever gave them, and what is set aside for which reason.

Every source passes it: recorded answers, other people's servers, an engine of this process. A row that the
student must not imitate is harmless here and costly later: behind each one the training puts an end token.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from thinkless.distillation.store import Answer
from thinkless.errors import StageError
from thinkless.files import digest, json_lines, write_text
from thinkless.generation.chat_template import CHATML, R1
from thinkless.modes import CONTROL_TOKENS, END_OF_THINKING, Mode

Overlong = Literal["drop", "clip"]
"""What becomes of a pair with an answer that was cut off at the length limit."""

REASONS = {
    "refused": "the service would not answer this question",
    "filtered": "a filter of the service ended the answer",
    "too_long": "the question left no room for an answer",
    "broken": "the service broke off, or ended in a way that is not known",
    "over_limit": "longer than the limit that was asked for, and not cut there",
    "empty": "nothing was said",
    "thinks_in_short": "a short answer with a thinking token",
    "wrong_marks": "a control token or the mark of a turn in the middle of the answer",
    "no_thinking": "a long answer with an empty thought",
    "overlong": "cut off at the limit",
    "unfinished": "a thought without its end, or without an answer behind it",
}
"""Why an answer is set aside; of several the first in this order counts."""

EXAMPLES = "set_aside.jsonl"
"""Beside the pairs: three of each reason, for a look at what they have in common."""

_TURNS = {mark.strip() for style in (R1, CHATML) for pair in style.values() for mark in pair} - {""}


def fault(mode: Mode, answer: Answer, limit: int) -> str | None:
    """Which of `REASONS` keeps an answer of at most `limit` tokens from the training; None if it may pass."""
    if answer.finish_reason not in ("stop", "length"):
        return answer.finish_reason if answer.finish_reason in REASONS else "broken"
    if answer.tokens > limit:
        return "over_limit"
    wrong = text_fault(mode, answer.response)
    cut = answer.finish_reason == "length" and wrong in (None, "unfinished")
    return "overlong" if cut else wrong


def text_fault(mode: Mode, response: str) -> str | None:
    """The reasons that the text after the control token has in itself."""
    if not response.strip():
        return "empty"
    if mode is Mode.SHORT and (Mode.THINK.value in response or END_OF_THINKING in response):
        return "thinks_in_short"
    thought, closed, answer = response.partition(END_OF_THINKING)
    if any(mark in thought + answer for mark in (*CONTROL_TOKENS, *_TURNS)):
        return "wrong_marks"
    if mode is Mode.SHORT:
        return None
    if closed and not thought.strip():
        return "no_thinking"
    return None if closed and answer.strip() else "unfinished"


def keep_pairs(pairs: Dataset, overlong: Overlong = "drop") -> Dataset:
    """The pairs to train on: those of which both answers may pass.

    With ``overlong="clip"`` a pair stays when an answer was cut off at the length limit, as in the
    paper; `pairs.sft_rows` says of each answer whether it ended.
    """

    def fit(*faults: str | None) -> bool:
        return not any(_reason(name, overlong) for name in faults)

    # `datasets` would hash the code of `fit` into the files, and with it into the keys of all later stages
    made_of = digest([pairs._fingerprint, overlong])[:16]
    columns = [f"{mode.label}_fault" for mode in Mode]
    return pairs.filter(fit, input_columns=columns, new_fingerprint=made_of, keep_in_memory=True)


def _reason(name: str | None, overlong: Overlong) -> str | None:
    return None if overlong == "clip" and name == "overlong" else name


def summary(pairs: Dataset, kept: Dataset) -> dict[str, Any]:
    """Counts of what was asked and kept, of each fault as `<mode>_<reason>`, and the share of right answers.

    `pairs` from `pairs.distill`, `kept` from `keep_pairs`. The share is of those kept with a known answer,
    None where there is none.
    """
    counts: dict[str, Any] = {"questions": len(pairs), "kept": len(kept)}
    for mode in Mode:
        found = Counter(pairs[f"{mode.label}_fault"])
        counts |= {f"{mode.label}_{name}": found[name] for name in REASONS if found[name]}
        known = [right for right in kept[f"{mode.label}_correct"] if right is not None]
        counts[f"{mode.label}_correct"] = sum(known) / len(known) if known else None
    return counts


def set_aside(pairs: Dataset, overlong: Overlong = "drop", most: int = 3) -> list[dict[str, str]]:
    """The first `most` answers of each mode and reason, long ones without their middle."""
    rows, seen = [], Counter[tuple[Mode, str]]()
    for mode in Mode:
        for index, name in enumerate(pairs[f"{mode.label}_fault"]):
            if (reason := _reason(name, overlong)) and seen[mode, reason] < most:
                seen[mode, reason] += 1
                question, said = pairs[index]["question"], pairs[index][f"{mode.label}_response"]
                said = said if len(said) <= 400 else f"{said[:200]} [...] {said[-200:]}"
                rows.append({"mode": mode.label, "reason": reason, "question": question, "response": said})
    return rows


def read_set_aside(folder: Path) -> list[dict[str, str]]:
    """The examples of a distillation's folder; none if an earlier version wrote it."""
    path = folder / EXAMPLES
    return [line.value for line in json_lines(path)] if path.exists() else []


def write_set_aside(pairs: Dataset, counts: Mapping[str, Any], overlong: Overlong, folder: Path):
    """Write the examples; `counts` from `summary`. Raises StageError with the counts if no pair is left."""
    rows = set_aside(pairs, overlong)
    write_text(folder / EXAMPLES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    if not counts["kept"]:
        told = [f"{n} {name}" for name, n in counts.items() if name.partition("_")[2] in REASONS]
        raise StageError(
            f"none of {len(pairs)} pairs may be trained on ({', '.join(told)}): look at the examples in "
            f"{folder / EXAMPLES}, then mend the teachers or raise distill.max_tokens"
        )
