"""The card of an exported folder: what the model is, how good, how to open it, and what was proven."""

from nanotx.hub.huggingface.proof import Proof
from nanotx.runs.load import LoadedRun


def card(name: str, run: LoadedRun, class_name: str, proof: Proof, code: bool = False) -> str:
    """Return the card as Markdown, with the header that the Hub reads.

    Args:
        name: of the folder.
        run: the run, loaded.
        class_name: of the class in transformers that computes it.
        proof: what was compared.
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

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}"{trust})
inputs = tokenizer("To be", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=100)[0]))
```

The class is `{class_name}` {where}.

## Proven when it was written, with transformers {proof.transformers} in float32

| what | result |
|---|---|
| ids of {proof.texts:,} texts, and the texts of these ids | equal |
| logits of {proof.windows} windows, largest difference over their standard deviation | {proof.full:.1e} |
| the same token by token, through the cache | {cached} |
| the same in one batch of several lengths, padded on the left | {proof.padded:.1e} |
| allowed for rounding | {proof.allowed:.1e} |
| greedy text | {greedy(proof)} |
"""


def greedy(proof: Proof) -> str:
    """Return how far both generate the same text."""
    if proof.near_tie is None:
        return f"{proof.greedy:,} tokens equal"
    return f"{proof.greedy:,} tokens equal, then two tokens that rounding cannot tell apart"
