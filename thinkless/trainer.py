"""`DeGRPOTrainer`: TRL's GRPO trainer with any objective of `objectives.py`.

Four small overrides, no copied code:

- `_compute_loss` replaces the advantages (B,) by token advantages (B, T), which TRL accepts from
  subclasses, and hands over to TRL. KL, clipping, vLLM correction and reduction stay TRL's.
- `_get_per_token_logps_and_entropies` cuts the padding that TRL leaves in every micro-batch.
- `_prepare_inputs` puts the rows of an update in order of length: processes meet after every micro-batch.
- `_generate_single_turn` lets Transformers generate in parts: short answers need not wait for long ones.

Position 0 of a completion has to be the control token: use plain string prompts, or a chat template
whose generation prompt does not already open the thinking.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import Trainer
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import utils as trl_utils
from trl.trainer.utils import split_tensor_dict

from thinkless.objectives import OBJECTIVES, control_share, token_advantages

_compact = trl_utils._use_triton
# TRL's head scores the positions that have labels, but on devices without Triton all of them, for the sake of
# those that compile anew for every shape. A processor compiles nothing.
trl_utils._use_triton = lambda device: device.type == "cpu" or _compact(device)


@dataclass
class DeGRPOConfig(GRPOConfig):
    """`trl.GRPOConfig` with the objective's settings, and the paper's defaults where TRL's differ.

    Raises ValueError for an unknown objective, an alpha that is not positive, or a `loss_type` other
    than "grpo": the objectives are written as weights under that reduction.
    """

    objective: str = field(default="degrpo", metadata={"help": "A key of thinkless.objectives.OBJECTIVES."})
    alpha: float = field(
        default=1e-3, metadata={"help": "Weight of the control token (Eq. 4); the paper: 1/1000."}
    )
    length_buckets: int = field(
        default=1,
        metadata={
            "help": "Split each micro-batch into this many parts of similar length and pad them apart."
        },
    )
    generation_parts: int = field(
        default=1,
        metadata={"help": "Generate the rollouts in this many parts, by prompt length; not with vLLM."},
    )
    kl_on_control_token: bool = field(
        default=True, metadata={"help": "Whether the KL also holds the choice of mode, or the answers alone."}
    )
    reject_equal_groups: bool = field(
        default=False, metadata={"help": "Average over the groups whose rewards differ; needs beta=0."}
    )
    loss_type: str = field(default="grpo", metadata={"help": "The reduction; only 'grpo' is valid here."})
    scale_rewards: str = field(
        default="none", metadata={"help": "No division by the group's std (section 3.2)."}
    )
    use_bias_correction_kl: bool = field(
        default=False, metadata={"help": "Plain low-variance KL, as released."}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective={self.objective!r}: expected one of {', '.join(OBJECTIVES)}")
        if self.alpha <= 0:
            raise ValueError(f"alpha={self.alpha}: expected a positive weight for the control token")
        if self.length_buckets < 1:
            raise ValueError(f"length_buckets={self.length_buckets}: expected at least 1")
        if self.generation_parts < 1:
            raise ValueError(f"generation_parts={self.generation_parts}: expected at least 1")
        if self.reject_equal_groups and self.beta:
            raise ValueError(f"reject_equal_groups needs beta=0, got {self.beta}: KL has no group")
        if self.loss_type != "grpo":
            raise ValueError(
                f"loss_type={self.loss_type!r}: leave it at 'grpo' and choose the normalisation with "
                f"objective= ({', '.join(OBJECTIVES)})"
            )


class SumsInFloat32(Trainer):
    """For trainers: a sharded model multiplies in bfloat16; sums and log-probabilities are float32.

    accelerate's own policy has bfloat16 for all three. Most ratios of two near policies are then exactly 1,
    their KL is noise, and the sum of 128 micro-batch gradients is off by a hundredth.
    """

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and self.args.bf16:
            plugin.mixed_precision_policy = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
            )


class DeGRPOTrainer(SumsInFloat32, GRPOTrainer):
    """Drop-in for `trl.GRPOTrainer`; takes a `DeGRPOConfig` as `args`."""

    _reference: torch.Tensor | None = None
    """The reference's log-probabilities (B, T) in a loss whose KL leaves the control token alone."""
    _buffered_inputs: Any
    """TRL's: the micro-batches of the rollout that is being used up, None before the first."""

    def _prepare_inputs(self, generation_batch):
        before, inputs = self._buffered_inputs, super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before:  # of a rollout that is being used up, or of an evaluation
            return inputs
        self._buffered_inputs = self._by_length(self._buffered_inputs)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _by_length(self, batches):
        """The micro-batches of a rollout, in each update the longest rows first; the updates keep their rows.

        TRL gathers metrics in every micro-batch, and so waits for the longest row of all processes: sorted,
        they have their long rows at the same time. The sum of an update's gradients has no order.
        """
        count = min(self.args.gradient_accumulation_steps, len(batches))
        if count == 1 or len(batches) % count or batches[0].get("pixel_values") is not None:
            return batches
        ordered = []
        for start in range(0, len(batches), count):
            update = batches[start : start + count]
            rows = {
                key: torch.cat([batch[key] for batch in update]) if value.dim() else value
                for key, value in update[0].items()
                if value is not None
            }
            order = self._row_order(rows)
            rows = {key: value[order] if value.dim() else value for key, value in rows.items()}
            ordered += split_tensor_dict(rows, count)
        return ordered

    def _row_order(self, rows):
        """The order (B,) in which an update takes its rows."""
        return torch.argsort(rows["completion_mask"].sum(dim=1), descending=True, stable=True)

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        # The objectives divide by counts of the whole step; here alone all its completions are together.
        live = (output["completion_mask"].sum(dim=1) > 0).sum()  # this rank's, of (B, T)
        sequences = self.accelerator.gather(live).sum()
        # 0-d tensors pass through TRL's shuffle and split untouched (trl/trainer/utils.py, split_tensor_dict)
        output["mean_length"] = output["num_items_in_batch"] / sequences.clamp(min=1)
        if self.args.reject_equal_groups and self.model.training:
            self._reject_equal_groups(output)
        return output

    def _reject_equal_groups(self, output):
        """Make the means over all sequences means over those of groups whose rewards differ.

        Equal rewards have equal advantages, though not exactly 0: their mean is rounded.
        """
        advantages = self.accelerator.gather(output["advantages"]).view(-1, self.num_generations)  # (G, n)
        lengths = self.accelerator.gather(output["completion_mask"].sum(dim=1))
        differ = advantages.amax(dim=1) > advantages.amin(dim=1)  # (G,)
        if differ.any():
            kept = lengths[differ.repeat_interleave(self.num_generations)]
            # the others add nothing to the sum, so the mean over all becomes the mean over these
            output["advantages"] = output["advantages"] / differ.float().mean()
            output["mean_length"] = kept.sum() / (kept > 0).sum().clamp(min=1)

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs):
        """TRL's method on parts of similar prompt length. A batch ends with its longest answer; where longer
        questions have longer answers the parts end sooner; each row is drawn from the same distribution.

        Transformers generates in the precision of the training, which TRL leaves at that of the weights."""
        parts = min(self.args.generation_parts, len(prompt_ids))
        with nullcontext() if self.use_vllm else self.accelerator.autocast():
            if parts == 1 or self.use_vllm or images or multimodal_fields:
                return super()._generate_single_turn(
                    prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
                )
            return self._generate_in_parts(parts, prompt_ids, num_generations, *args, **kwargs)

    def _generate_in_parts(self, parts, prompt_ids, num_generations, *args, **kwargs):
        order = torch.argsort(torch.tensor([len(ids) for ids in prompt_ids]), stable=True)
        completions: list = [None] * len(prompt_ids)
        for rows in (part.tolist() for part in torch.tensor_split(order, parts)):
            answers, _ = super()._generate_single_turn(
                [prompt_ids[row] for row in rows], None, {}, num_generations, *args, **kwargs
            )
            for row, answer in zip(rows, answers, strict=True):  # each back to its place
                completions[row] = answer
        return completions, None

    def _compute_loss(self, model, inputs):
        mask = inputs["completion_mask"]  # (B, T), 1 on completion tokens; position 0 is the control token
        # (B,) -> (B, T): this line is the method; the loss below stays TRL's
        advantages = token_advantages(
            inputs["advantages"],
            mask,
            self.args.objective,
            alpha=self.args.alpha,
            mean_length=inputs["mean_length"],
            max_length=self.max_completion_length,
        )
        # every rank gathers, even one whose advantages are all zero, or the others would wait for it
        share = torch.where(inputs["advantages"].any(), control_share(advantages, mask), torch.nan)
        shares = self.accelerator.gather(share)
        if not shares.isnan().all():
            mode = "train" if self.model.training else "eval"
            self._metrics[mode]["control_share"].append(shares.nanmean().item())
        inputs = {**inputs, "advantages": advantages}
        if self.beta and not self.args.kl_on_control_token:
            inputs["ref_per_token_logps"] = self._reference = inputs["ref_per_token_logps"].clone()
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._reference = None

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, **kwargs
    ):
        more = kwargs.keys() - {"compute_entropy", "compute_aux_loss"}
        is_text = all(kwargs[key] is None for key in more) and not kwargs.get("compute_aux_loss")
        # images and router losses: TRL's own way
        score = self._text_logps if is_text else super()._get_per_token_logps_and_entropies
        found = score(model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs)
        if self._reference is not None:
            # a policy that is its own reference has neither a KL nor its gradient
            self._reference[:, 0] = found[0][:, 0].detach()
        return found

    def _text_logps(self, model, input_ids, attention_mask, logits_to_keep, batch_size, **kwargs):
        """TRL's method on trimmed parts of the batch; same values, (B, logits_to_keep), 0 on padding."""
        prompt_length = input_ids.shape[1] - logits_to_keep
        lengths = attention_mask[:, prompt_length:].sum(dim=1)  # (B,)
        order = torch.argsort(lengths, stable=True)
        # TRL scores a whole rollout, `batch_size` rows at a time: as many parts for each of its batches
        parts = self.args.length_buckets * math.ceil(len(order) / (batch_size or len(order)))
        logps, entropies = [], []
        for rows in torch.tensor_split(order, min(parts, len(order))):
            # prompts are padded on the left and completions on the right: keep the columns in between
            longest_prompt = self._padded(attention_mask[rows, :prompt_length].sum(dim=1), prompt_length)
            keep = self._padded(lengths[rows], logits_to_keep)
            columns = slice(prompt_length - longest_prompt, prompt_length + keep)
            part_logps, part_entropies, _ = super()._get_per_token_logps_and_entropies(
                model, input_ids[rows, columns], attention_mask[rows, columns], keep, batch_size, **kwargs
            )
            padding = (0, logits_to_keep - keep)  # back to the width that TRL expects
            logps.append(F.pad(part_logps, padding))
            if part_entropies is not None:
                entropies.append(F.pad(part_entropies, padding))
        back = torch.argsort(order)  # undoes the sort
        return torch.cat(logps)[back], torch.cat(entropies)[back] if entropies else None, None

    def _padded(self, lengths, limit):
        """The longest of `lengths` (B,), at least 1, up to a multiple of the padding and at most `limit`."""
        multiple = self.args.pad_to_multiple_of or 1
        return min(-(-max(int(lengths.max()), 1) // multiple) * multiple, limit)
