"""The pairs as a data set that can stand alone: saved with a card that says how they were made.

The card is a README.md whose YAML front matter holds the same facts for machines. It holds no dates, so
the same pairs have the same card.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from huggingface_hub import DatasetCard, DatasetCardData

from thinkless.distillation.gate import REASONS
from thinkless.distillation.pairs import Teacher
from thinkless.runs.export import CARD

QUANTILES = (0.05, 0.5, 0.95, 1.0)
_SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}

_BODY = """
# Paired answers, long and short

Each row is a question with two answers: a long one, written after `<think>`, and a short one, written
after `<short>`. They warm up a hybrid model that chooses between the two, as in section 3.1 of
[Thinkless](https://arxiv.org/abs/2505.13379).

## How it was made

Two teachers answered the same questions, once each. Right and wrong answers are both kept: the student
has to learn what its short answers are worth.

{teachers}

{sources}Questions asked: {questions}. Rows: {kept}. {faults}

## Columns

`question`, `instruction` (where it was asked with one), `answer` (the gold answer, empty where none is
known), and for each mode m, `think` and `short`: `m_response` (what follows the control token),
`m_correct`, `m_tokens` (end token included), `m_finished`.

## Licence

The answers are the teachers' and the questions their authors'. The licences of both apply to this data;
look them up before you pass it on.
"""


def save_pairs(
    pairs: Dataset,
    folder: Path,
    *,
    counts: Mapping[str, Any],
    teachers: Sequence[Teacher],
    sampling: Mapping[str, Any],
    overlong: str = "drop",
):
    """Write pairs and card. `sampling` is what `pairs.distill` was given; `counts` is what
    `pairs.summary` gave, and whatever else is to stand in the front matter."""
    pairs.save_to_disk(folder)
    facts = [_facts(teacher, pairs, counts, sampling) for teacher in teachers]
    data = DatasetCardData(
        pretty_name="Paired answers, long and short",
        license="other",
        license_name="as-of-teachers-and-questions",
        task_categories=["text-generation"],
        tags=["distillation", "reasoning", "thinkless"],
        size_categories=[next((name for size, name in _SIZES.items() if len(pairs) < size), "n>10M")],
        distillation={"seed": sampling["seed"], "overlong": overlong, **_numbers(counts), "teachers": facts},
    )
    body = _BODY.format(
        teachers=_table(facts),
        faults=_faults(counts, overlong),
        **{**counts, "sources": "".join(map(_source, counts.get("sources", {}).items()))},
    )
    DatasetCard(f"---\n{data.to_yaml()}\n---\n{body}").save(folder / CARD)


def _facts(teacher: Teacher, pairs: Dataset, counts: Mapping[str, Any], sampling: Mapping[str, Any]):
    """One teacher's part in the card, in types that YAML has."""
    mode = teacher.mode.label
    lengths = np.quantile(pairs[f"{mode}_tokens"], QUANTILES) if len(pairs) else [np.nan] * len(QUANTILES)
    return _numbers(
        {
            "mode": mode,
            "teacher": teacher.name,
            "max_tokens": teacher.max_tokens or sampling["max_tokens"],
            "temperature": sampling["temperature"],
            "top_p": sampling["top_p"],
            "correct": counts[f"{mode}_correct"],
            **{
                f"tokens_q{quantile:.0%}".rstrip("%"): x
                for quantile, x in zip(QUANTILES, lengths, strict=True)
            },
        }
    )


def _faults(counts: Mapping[str, Any], overlong: str) -> str:
    """What became of the answers that the gate did not let pass, as sentences of the card."""
    found = [(*name.partition("_")[::2], n) for name, n in counts.items()]
    told = [f"{n} {mode} ({REASONS[name]})" for mode, name, n in found if name in REASONS]
    clipped = " Those cut off at the limit stand as they were cut." if overlong == "clip" else ""
    return f"Set aside with their partners: {'; '.join(told) or 'none'}.{clipped}"


def _source(item: tuple[str, Mapping[str, int]]) -> str:
    """What became of a source's rows, as a sentence of the card."""
    name, counts = item
    return f"Rows of {name}: {', '.join(f'{n} {what}'.replace('_', ' ') for what, n in counts.items())}.\n"


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: round(float(x), 4) if isinstance(x, float | np.floating) else x for name, x in values.items()
    }


def _table(facts: Sequence[Mapping[str, Any]]) -> str:
    names = list(facts[0])
    rows = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    rows += [["unknown" if fact[name] is None else str(fact[name]) for name in names] for fact in facts]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
