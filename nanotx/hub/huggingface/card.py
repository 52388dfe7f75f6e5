"""The card of an exported folder: what the model is, how good, how to open it, and what was proven."""

from nanotx.hub.huggingface.chat_proof import SANITIZE, ChatProof
from nanotx.hub.huggingface.proof import Proof
from nanotx.runs.load import LoadedRun
from nanotx.tokenizers.convert.tokenizer_json import ends


def card(name: str, run: LoadedRun, class_name: str, proof: Proof, chat: ChatProof, code: bool = False) -> str:
    """Return the card as Markdown, with the header that the Hub reads.

    Args:
        name: of the folder.
        run: the run, loaded.
        class_name: of the class in transformers that computes it.
        proof: what was compared.
        chat: what was compared of its chat template.
        code: whether the class is in a file of the folder.
    """
    model, recipe = run.recipe.model, run.recipe
    trust = ", trust_remote_code=True" if code else ""
    where = (
        "in `modeling_nanotx.py`, which is executed when the model is opened: read it first. It has no cache"
        if code
        else "of transformers; no code of this folder is executed"
    )
    cached = "not asked: there is no cache" if code else f"{proof.cached:.1e}"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [nanotx]
---

# {name}

A transformer of {run.model.parameter_count:,} weights in {model.layers} layers, {model.dim} wide, over {model.context}
tokens of {run.tokenizer.vocab_size:,} kinds ({run.tokenizer.part}). nanotx trained it for {run.step:,} steps on
`{recipe.corpus.part}` (SHA-256 `{run.corpus_sha256}`) with seed {recipe.seed}; `recipe.toml` is the whole recipe.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}"{trust})
model = AutoModelForCausalLM.from_pretrained("{name}"{trust})
inputs = tokenizer("To be", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=100)[0]))
```

The class is `{class_name}` {where}.
{chat_text(run, chat)}
## Proven when it was written, with transformers {proof.transformers} in float32

| what | result |
|---|---|
| ids of {proof.texts:,} texts, and the texts of these ids | equal |
| logits of {proof.windows} windows, largest difference over their standard deviation | {proof.full:.1e} |
| the same token by token, through the cache | {cached} |
| the same in one batch of several lengths, padded on the left | {proof.padded:.1e} |
| allowed for rounding | {proof.allowed:.1e} |
{chat_row(chat)}| greedy text | {greedy(proof)} |
"""


def chat_text(run: LoadedRun, chat: ChatProof) -> str:
    """Return how to chat with the model, and what becomes of special tokens that a user types; empty without chats."""
    if chat.fault:
        return f"""
The run has a chat template, which is left out here because transformers would give other ids: {chat.fault.rstrip(".")}.
"""
    if not run.tokenizer.chat_template:
        return ""
    end, *_ = ends(run.tokenizer) or ("",)
    stop = f"An answer ends at `{end}`, at which `generate` stops" if end else "No special token ends an answer"
    remedy = f"; `apply_chat_template(..., {SANITIZE}=True)` keeps it as text too" if chat.typed else ""
    return f"""
## Chat

```python
messages = [{{"role": "user", "content": "Hello."}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
answer = model.generate(**inputs, max_new_tokens=100)[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```

{stop}. The name of a special token in a message is ordinary text in nanotx, and the special token in
transformers, so that a user can end a turn by typing it{remedy}.
"""


def chat_row(chat: ChatProof) -> str:
    """Return the row of the table about conversations; empty without chats."""
    if not chat.chats:
        return ""
    which = ", whose messages neither begin nor end with white space" if chat.trimmed else ""
    return f"| ids of {chat.chats:,} conversations{which}, by the chat template | equal |\n"


def greedy(proof: Proof) -> str:
    """Return how far both generate the same text."""
    if proof.near_tie is None:
        return f"{proof.greedy:,} tokens equal"
    return f"{proof.greedy:,} tokens equal, then two tokens that rounding cannot tell apart"
