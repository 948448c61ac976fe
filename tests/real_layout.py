"""Makes local models whose files are laid out like the real ones, small enough for a test.

`make_r1_layout` is DeepSeek-R1-Distill-Qwen-1.5B in miniature, `make_qwen25_layout` is
Qwen2.5-Math-1.5B-Instruct: the same files, architecture, pre-tokenizer, added tokens in the same order
after the base vocabulary, special tokens, chat template behaviour, tied or untied embeddings and
spare embedding rows. Only the sizes are smaller, the byte-level merges are few, and the weights random.

    python tests/real_layout.py r1 FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

SPARE_ROWS = 271
"""Embedding rows without a token: 151,936 rows for 151,665 entries in both real models."""

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer: every digit is a token of its own."""

VISION = ["<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"]
VISION += ["<|image_pad|>", "<|video_pad|>"]
CODE = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"]
CODE += ["<|repo_name|>", "<|file_sep|>"]

R1_BOS, R1_EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
R1_ADDED = [R1_EOS, "<｜User｜>", "<｜Assistant｜>", R1_BOS, "<|EOT|>", "<think>", "</think>", *VISION, *CODE]
"""From id 151,643 on in the real tokenizer, so that `<think>` is 151,648 and `<|quad_start|>` 151,650."""
R1_SPECIAL = {R1_EOS, R1_BOS, *VISION}

QWEN_ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"]
QWEN_ADDED += ["<|box_start|>", "<|box_end|>", *VISION, *CODE]
QWEN_SPECIAL = set(QWEN_ADDED) - set(CODE)

R1_STOCK_TEMPLATE = """\
{%- set ns = namespace(system='') -%}
{%- for m in messages if m['role'] == 'system' -%}{%- set ns.system = m['content'] -%}{%- endfor -%}
{{- bos_token + ns.system -}}
{%- for m in messages -%}
{%- if m['role'] == 'user' -%}{{- '<｜User｜>' + m['content'] -}}
{%- elif m['role'] == 'assistant' -%}
{{- '<｜Assistant｜>' + m['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜><think>\\n' -}}{%- endif -%}
"""
"""What the stock template does to text: BOS, no system by default, and `<think>` opened in the prompt."""

QWEN_STOCK_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nPlease reason step by step, and put your final answer ' -}}
{{- 'within \\\\boxed{}.<|im_end|>\\n' -}}
{%- endif -%}
{%- for m in messages -%}
{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

TEXT = """\
What is 3 + 5 * 2 - 7? Please reason step by step, and put your final answer within \\boxed{}.
First, we note that $x^2 + 2x = 15$, so the answer is \\boxed{3}. Let us check: 9 + 6 = 15. Wait, is there
another solution? The final answer is therefore 42. How many positive integers are there?
"""


def make_r1_layout(folder: Path, vocab: int = 400, **sizes: int) -> Path:
    """DeepSeek-R1-Distill-Qwen-1.5B in miniature, with about `vocab` base tokens; returns `folder`.

    Untied embeddings, `add_bos_token`, a tokenizer class (LlamaTokenizerFast) that does not fit its
    model, `<think>` as an ordinary added token. `sizes` go to `write_model`.
    """
    backend = byte_level_bpe(vocab, R1_ADDED, R1_SPECIAL)
    bos, eos = backend.token_to_id(R1_BOS), backend.token_to_id(R1_EOS)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{R1_BOS}:0 $A:0", pair=f"{R1_BOS}:0 $A:0 {R1_BOS}:1 $B:1", special_tokens=[(R1_BOS, bos)]
    )
    write_tokenizer(
        backend,
        folder,
        tokenizer_class="LlamaTokenizerFast",
        add_bos_token=True,
        add_eos_token=False,
        bos_token=added_token(R1_BOS),
        eos_token=added_token(R1_EOS),
        pad_token=added_token(R1_EOS),
        unk_token=None,
        legacy=True,
        sp_model_kwargs={},
        chat_template=R1_STOCK_TEMPLATE,
    )
    # The real config.json names the end token as its beginning; generation_config.json has it right.
    write_model(folder, backend, tied=False, config_ids=(eos, eos), generation_ids=(bos, eos), **sizes)
    return folder


def make_qwen25_layout(folder: Path, vocab: int = 400, **sizes: int) -> Path:
    """Qwen2.5-Math-1.5B-Instruct in miniature: tied embeddings, no BOS, no `<think>`; returns `folder`."""
    backend = byte_level_bpe(vocab, QWEN_ADDED, QWEN_SPECIAL)
    end_of_text, eos = backend.token_to_id("<|endoftext|>"), backend.token_to_id("<|im_end|>")
    decoder = {
        str(backend.token_to_id(token)): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": token in QWEN_SPECIAL,
        }
        for token in QWEN_ADDED
    }  # fmt: skip
    write_tokenizer(
        backend,
        folder,
        tokenizer_class="Qwen2Tokenizer",
        add_bos_token=False,
        add_prefix_space=False,
        added_tokens_decoder=decoder,
        additional_special_tokens=[t for t in QWEN_ADDED if t in QWEN_SPECIAL and t != "<|endoftext|>"],
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        errors="replace",
        split_special_tokens=False,
        chat_template=QWEN_STOCK_TEMPLATE,
    )
    stops = [eos, end_of_text]
    write_model(
        folder,
        backend,
        tied=True,
        config_ids=(end_of_text, eos),
        generation_ids=(end_of_text, stops),
        **sizes,
    )
    return folder


def make_other_turns_layout(folder: Path, **sizes: int) -> Path:
    """A chat model that marks its turns as Llama 3 does, which ours does not know; returns `folder`."""
    marks = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    backend = byte_level_bpe(400, marks, set(marks))
    begin, end = backend.token_to_id(marks[0]), backend.token_to_id(marks[3])
    turn = "<|start_header_id|>{{ m['role'] }}<|end_header_id|>{{ m['content'] }}<|eot_id|>"
    write_tokenizer(
        backend,
        folder,
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token=marks[0],
        eos_token=marks[3],
        pad_token=marks[3],
        chat_template="{% for m in messages %}" + turn + "{% endfor %}",
    )
    write_model(folder, backend, tied=True, config_ids=(begin, end), generation_ids=(begin, end), **sizes)
    return folder


def byte_level_bpe(vocab: int, added: list[str], special: set[str]) -> Tokenizer:
    """A Qwen2 tokenizer: `vocab` base tokens (fewer if the text has no more pairs), then `added`."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=sorted(alphabet), show_progress=False)
    backend.train_from_iterator(TEXT.splitlines(keepends=True) * 2, trainer)
    data = json.loads(backend.to_str())
    start = len(data["model"]["vocab"])
    data["added_tokens"] = [
        {
            "id": start + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": token in special,
        }
        for i, token in enumerate(added)
    ]  # fmt: skip
    return Tokenizer.from_str(json.dumps(data))


def added_token(content: str) -> dict:
    """A special token as old versions of Transformers wrote it."""
    return {"__type": "AddedToken", "content": content, "normalized": True} | dict.fromkeys(
        ("lstrip", "rstrip", "single_word"), False
    )


def write_tokenizer(backend: Tokenizer, folder: Path, **config):
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config |= {"clean_up_tokenization_spaces": False, "model_max_length": 16384}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False))


def write_model(
    folder: Path,
    backend: Tokenizer,
    *,
    tied: bool,
    config_ids: tuple[int, int],
    generation_ids: tuple[int, int | list[int]],
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 2,
    intermediate_size: int = 128,
    context: int = 512,
    seed: int = 0,
):
    """A random Qwen2 in float32, with `SPARE_ROWS` embedding rows that no token has.

    vLLM on a CPU wants heads of 32 numbers or more: hidden_size / heads.
    """
    config = Qwen2Config(
        vocab_size=backend.get_vocab_size() + SPARE_ROWS,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=1,
        intermediate_size=intermediate_size,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        initializer_range=0.2,  # large, so that the untrained model has opinions
        bos_token_id=config_ids[0],
        eos_token_id=config_ids[1],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=generation_ids[0],
        eos_token_id=generation_ids[1],
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
    )
    model.save_pretrained(folder)


MAKERS = {"r1": make_r1_layout, "qwen25": make_qwen25_layout}

if __name__ == "__main__":
    print(MAKERS[sys.argv[1]](Path(sys.argv[2])))
