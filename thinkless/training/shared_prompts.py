"""Reads a prompt once for all its answers: the two of the warm-up, the group of RL.

Where questions are long and answers short, most of the work is the same prompt again and again. Here a row is
one prompt and all its completions, one behind the other: each reads the prompt and itself, at the positions
that it would have alone. Log-probabilities and gradients are those of rows apart, up to rounding (Prefix
Grouper, arXiv 2506.05433, which splits the attention where this masks it).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from thinkless.generation.prefill import reading_once
from thinkless.trainer import DeGRPOTrainer
from thinkless.training.rows import UNLEARNED


@dataclass(frozen=True)
class SharedPrompts:
    """Rows (G, L) of a prompt and its completions. The last token of a prompt stands in front of every
    completion, since from there each goes its own way; the last token of a completion tells of nothing more.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    """The token that follows, on positions of completions; elsewhere `UNLEARNED`."""
    attention_mask: torch.Tensor
    """(G, 1, L, L), whether a position (third) reads another (fourth)."""
    order: torch.Tensor
    """(N,) The completion of each stretch of labels, read row by row."""

    @classmethod
    def of(cls, prompts: Sequence[torch.Tensor], completions: Sequence[torch.Tensor], multiple: int = 1):
        """From N prompts (P,) of at least one token and their completions (T,), rows padded to `multiple`."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, ids_of_prompt in enumerate(prompts):
            groups.setdefault(tuple(ids_of_prompt.tolist()), []).append(row)
        width = max(
            len(prompt) - 1 + sum(len(completions[row]) for row in rows) for prompt, rows in groups.items()
        )
        shape = len(groups), math.ceil(width / multiple) * multiple
        ids, positions = completions[0].new_zeros(shape), completions[0].new_zeros(shape)
        labels = torch.full_like(ids, UNLEARNED)
        answer = torch.full_like(ids, -1)  # which completion a position belongs to: 0 the prompt, -1 padding
        for group, (prompt, rows) in enumerate(groups.items()):
            end = len(prompt) - 1
            ids[group, :end] = prompts[rows[0]][:end]
            positions[group, :end] = torch.arange(end)
            answer[group, :end] = 0
            for number, row in enumerate(rows, 1):
                completion, here = completions[row], slice(end, end + len(completions[row]))
                ids[group, here] = torch.cat([prompts[row][-1:], completion])[: len(completion)]
                positions[group, here] = len(prompt) - 1 + torch.arange(len(completion))
                labels[group, here], answer[group, here], end = completion, number, here.stop
        of_query, of_key = answer[:, :, None], answer[:, None, :]
        before = torch.ones(2 * [shape[1]], dtype=torch.bool, device=ids.device).tril()
        # padding reads itself: a position that reads nothing has no softmax
        read = before & ((of_key == 0) | (of_key == of_query))  # (G, L, L)
        order = torch.tensor([row for rows in groups.values() for row in rows], device=ids.device)
        return cls(ids, positions, labels, read[:, None], order)

    def inputs(self) -> dict[str, torch.Tensor]:
        """What a model takes whose head is TRL's (`add_fused_lm_head`)."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "attention_mask": self.attention_mask,
            "shift_labels": self.labels,
        }

    def back(self, values: torch.Tensor, completion_mask: torch.Tensor) -> torch.Tensor:
        """`values` (G, L) at the places of their completions, (N, T), 0 where `completion_mask` is."""
        mask = completion_mask.bool()
        places = mask[self.order].nonzero()  # in the order of the labels
        rows, columns = self.order[places[:, 0]], places[:, 1]
        scored = values[self.labels != UNLEARNED]
        return values.new_zeros(mask.shape).index_put((rows, columns), scored)


@dataclass(frozen=True)
class SharedPromptCollator:
    """The rows of a supervised micro-batch (`input_ids` and `labels`, see `rows.save_tokens`), prompts shared
    and padded to a multiple of `padding`."""

    padding: int

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        starts = [row["labels"].count(UNLEARNED) for row in rows]  # they are a prompt's, at the beginning
        prompts, completions = zip(
            *((row[:start], row[start:]) for row, start in zip(ids, starts, strict=True)), strict=True
        )
        shared = SharedPrompts.of(prompts, completions, self.padding)
        # Trainer counts the labels of an update by this name
        return shared.inputs() | {"labels": shared.labels}


class SharedPromptTrainer(DeGRPOTrainer):
    """`DeGRPOTrainer` that reads each prompt once for all its answers, to write them and to score those of a
    micro-batch. For text, and attention "sdpa"."""

    def _generate_single_turn(self, *args, **kwargs):
        with reading_once(self.accelerator.unwrap_model(self.model)):
            return super()._generate_single_turn(*args, **kwargs)

    def _row_order(self, rows):
        """Groups stay together, so that a micro-batch has few prompts."""
        masked = rows["prompt_ids"].masked_fill(rows["prompt_mask"] == 0, -1)
        return torch.argsort(torch.unique(masked, dim=0, return_inverse=True)[1], stable=True)

    def _text_logps(self, model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs):
        ids, live = (rows.split(batch_size or len(rows)) for rows in (input_ids, attention_mask.bool()))
        parts = [
            self._score(model, *part, logits_to_keep, kwargs.get("compute_entropy"))
            for part in zip(ids, live, strict=True)
        ]
        logps, *entropies = (torch.cat(values) for values in zip(*parts, strict=True))
        return logps, entropies[0] if entropies else None, None

    def _score(self, model, input_ids, live, logits_to_keep, compute_entropy):
        """Log-probabilities, and maybe entropies, of the completions: (B, logits_to_keep) each."""
        start = input_ids.shape[1] - logits_to_keep
        shared = SharedPrompts.of(
            [ids[seen] for ids, seen in zip(input_ids[:, :start], live[:, :start], strict=True)],
            [ids[seen] for ids, seen in zip(input_ids[:, start:], live[:, start:], strict=True)],
            self.args.pad_to_multiple_of or 1,
        )
        with self.accelerator.autocast():
            outputs = model(**shared.inputs(), fused_lm_head=True)
        values = [outputs.log_probs, *([outputs.entropy] if compute_entropy else [])]
        return [shared.back(value, live[:, start:]) for value in values]
