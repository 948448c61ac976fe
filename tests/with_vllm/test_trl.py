"""Proves that the objectives' token advantages work when TRL generates with vLLM in the same process.

The weights go to the engine before every rollout, so its log-probabilities have to be the trainer's at
every step; and the loss of what it wrote has to be each objective's formula.

Run: make test-vllm, or in an environment with vLLM: python -m pytest tests/with_vllm
"""

import functools

import pytest
import torch
from conftest import both_ways, learn
from trainers import ALPHA, LONGEST, QUESTIONS, build, formula, own_logps, padded

from thinkless.modes import Mode, control_id
from thinkless.objectives import OBJECTIVES
from with_vllm import needs_vllm

pytestmark = needs_vllm

STEPS = 6


@pytest.fixture(scope="module")
def start(tmp_path_factory, tokenizer):
    """A folder with a model that answers three questions in either mode, as `model/`."""
    folder = tmp_path_factory.mktemp("colocate")
    learn(tokenizer, both_ways(), hidden_size=64).model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def engine_on_cpu():
    """What TRL's way of handing over weights needs on a CPU, and nowhere else.

    vLLM packs linear weights for oneDNN there and drops the parameters that TRL then looks for; and TRL
    has no say in the engine's dtype, which the comparison needs as float32.
    """
    with pytest.MonkeyPatch.context() as patch:
        import trl.generation.vllm_generation as generation
        import vllm.model_executor.layers.utils as layers

        def keep_weight(layer, remove_weight):
            layer.cpu_linear = torch.nn.functional.linear

        patch.setattr(layers, "dispatch_cpu_unquantized_gemm", keep_weight)
        patch.setattr(
            generation, "LLM", functools.partial(generation.LLM, dtype="float32", enforce_eager=True)
        )
        yield


@pytest.fixture(scope="module")
def run(start, tokenizer, engine_on_cpu):
    """A training with vLLM that rewards thinking only: (trainer, steps), a step as (inputs, loss, state)."""
    from thinkless.trainer import DeGRPOTrainer

    think = control_id(Mode.THINK, tokenizer)
    steps = []

    class Recorder(DeGRPOTrainer):
        def _compute_loss(self, model, inputs):
            state = {name: value.detach().clone() for name, value in model.state_dict().items()}
            loss = super()._compute_loss(model, inputs)
            steps.append((inputs, loss.item(), state))
            return loss

    def only_thinking(completion_ids, **_):
        return [1.0 if ids[0] == think else 0.0 for ids in completion_ids]

    trainer = build(
        start,
        Recorder,
        QUESTIONS,
        only_thinking,
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=64,
        vllm_importance_sampling_mode="token_truncate",
        max_steps=STEPS,
        per_device_train_batch_size=32,
        num_generations=8,
        max_completion_length=LONGEST,
        beta=0.0,
        alpha=1.0,
        learning_rate=3e-3,
        logging_steps=1,
    )
    trainer.train()
    yield trainer, tuple(steps)  # what tests compute later is not part of the run
    trainer.vllm_generation.llm.llm_engine.engine_core.shutdown()


def reference(trainer, inputs, objective):
    """The objective's formula on what vLLM wrote, every sequence alone."""
    prompts, completions = (
        [row[mask.bool()].tolist() for row, mask in zip(inputs[ids], inputs[mask], strict=True)]
        for ids, mask in (("prompt_ids", "prompt_mask"), ("completion_ids", "completion_mask"))
    )
    logps = padded(own_logps(trainer.model, prompts, completions))
    batch = {**inputs, "old_per_token_logps": logps.detach(), "ref_per_token_logps": logps.detach()}
    return formula(objective, logps, batch, beta=0.0)


def test_the_engine_has_the_trainers_weights_at_every_step(run):
    """Truncated importance ratios are 1, since both sides give every sampled token the same probability."""
    trainer, steps = run
    history = [row for row in trainer.state.log_history if "reward" in row]
    assert len(history) == len(steps) == STEPS
    for row in history:
        assert row["sampling/sampling_logp_difference/max"] < 1e-4
        assert row["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=1e-4)
    moved = [steps[-1][2][name] - value for name, value in steps[0][2].items()]
    assert max(change.abs().max() for change in moved) > 5e-3


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_of_what_vllm_wrote_is_the_formula(run, objective):
    trainer, steps = run
    inputs, _, state = steps[0]
    assert inputs["completion_mask"].sum(1).unique().numel() > 1
    trainer.model.load_state_dict(state)
    trainer.args.objective, trainer.args.alpha = objective, ALPHA
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model.train(), inputs)
    loss.backward()
    got = {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    expected = reference(trainer, inputs, objective)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for name, p in trainer.model.named_parameters():
        assert torch.allclose(got[name], p.grad, atol=1e-4, rtol=1e-3), name


def test_the_mode_answers_to_the_reward(run, tokenizer):
    trainer, steps = run
    prompt = tokenizer("3+5=", return_tensors="pt", add_special_tokens=False).input_ids
    shares = []
    for _, _, state in (steps[0], steps[-1]):
        trainer.model.load_state_dict(state)
        with torch.no_grad():
            probabilities = trainer.model(prompt).logits[0, -1].softmax(-1)
        shares.append(probabilities[control_id(Mode.THINK, tokenizer)].item())
    assert shares[0] == pytest.approx(0.5, abs=0.15)
    assert shares[1] > shares[0] + 0.2
