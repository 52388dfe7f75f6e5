"""The card of a pack, for people: what the model is, how good, from what it was trained, and how to use it."""

import json
from collections.abc import Iterable
from typing import Any

from nanotx.config.schema import to_table
from nanotx.runs.load import LoadedRun

Manifest = dict[str, dict[str, Any]]
"""Of each file its size and its SHA-256 digest."""

FIGURES = {
    "val_loss": ("validation loss", "{:.4f} nats per token"),
    "bits_per_byte": ("bits per byte", "{:.4f}"),
    "val_tokens": ("validation tokens read", "{:,}"),
    "train_loss": ("training loss", "{:.4f} nats per token"),
    "tokens": ("tokens trained on", "{:,}"),
    "train_seconds": ("seconds of training", "{:,.0f}"),
    "seed": ("seed", "{}"),
    "device": ("device", "{}"),
    "dtype": ("arithmetic", "{}"),
    "threads": ("threads", "{}"),
}
"""Keys of summary.json that the card shows, each with its name and format."""


def card(name: str, run: LoadedRun, manifest: Manifest, summary: bytes, origin: str = "") -> str:
    """Return the card as Markdown.

    Args:
        name: of the run.
        run: the run, loaded.
        manifest: size and digest of each file of the pack.
        summary: the run's summary.json; empty where it has none.
        origin: what the model was converted from, where nanotx did not train it.
    """
    model, tokenizer = run.recipe.model, plain(run.tokenizer.part)
    made = f"converted from {plain(origin)}" if origin else f"trained with nanotx for {run.step:,} steps"
    trained_on = f"This is not known here: see {plain(origin)}." if origin else corpus(run)
    about_recipe = "`recipe.toml` is the whole recipe: `nanotx train recipe.toml` trains such a model again."
    if origin:
        about_recipe = "Of `recipe.toml` the model is this one's; corpus, optimizer and length are mere defaults."
    listed = [
        (f"`{name}`", f"{entry['bytes']:,} bytes, SHA-256 `{entry['sha256']}`") for name, entry in manifest.items()
    ]
    return f"""# {plain(name)}

A transformer of {run.model.parameter_count:,} weights, {made}: {model.layers}
layers, {model.dim} wide, over {model.context} tokens of {run.tokenizer.vocab_size:,} kinds ({tokenizer}).
The state of the optimizer is left out: the model can be sampled, evaluated, looked into and exported, and it cannot be
resumed.

```sh
nanotx sample PACK --prompt "..."
nanotx look PACK --prompt "..."
nanotx eval PACK --text FILE
```

```python
import nanotx

print(nanotx.load("PACK").generate("...", max_new_tokens=200))
```

`PACK` is this folder, or the zip file that it came in. Nothing in it is executed.
{plugins(manifest)}
## Trained on

{trained_on}

## Figures

{table(figures(run, summary))}

## Files

{table(listed)}

{about_recipe}
"""


def plain(text: str) -> str:
    """Return a text as one line without the characters that Markdown and HTML give a meaning."""
    return " ".join("".join(" " if character in "`*[]<>|\\#" else character for character in text).split())


def table(rows: list[tuple[str, str]]) -> str:
    """Return rows of two cells as a Markdown table."""
    return "\n".join(["| what | |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows)])


def corpus(run: LoadedRun) -> str:
    """Return what the run was trained on, as a list."""
    fields = to_table(run.recipe.corpus)
    lines = [f"- {plain(key)}: `{plain(str(value))}`" for key, value in fields.items()]
    return "\n".join([*lines, f"- SHA-256: `{run.corpus_sha256}`"])


def figures(run: LoadedRun, summary: bytes) -> list[tuple[str, str]]:
    """Return the figures of the run's summary, where it has one, and the digest of its tokenizer."""
    values = summary_values(summary)
    rows = [(shown, form.format(values[key])) for key, (shown, form) in FIGURES.items() if key in values]
    at = values.get("steps")
    if at != run.step:
        rows = (
            [("note", f"the summary is of step {at}, these weights are of step {run.step}")] if at is not None else []
        )
    return [*rows, ("tokenizer", f"{plain(run.tokenizer.part)}, SHA-256 `{run.tokenizer.digest}`")]


def summary_values(data: bytes) -> dict[str, Any]:
    """Return the plain values of a run's summary.json; empty where there is none that can be read."""
    try:
        summary = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(summary, dict):
        return {}
    numbers = {key for key, (_, form) in FIGURES.items() if form != "{}"} | {"steps"}
    return {
        key: plain(value) if isinstance(value, str) else value
        for key, value in summary.items()
        if isinstance(value, int | float if key in numbers else int | float | str) and not isinstance(value, bool)
    }


def plugins(files: Iterable[str]) -> str:
    """Return what to do with the files that registered parts of the run; empty where there are none."""
    names = [name for name in files if name.startswith("plugin-")]
    if not names:
        return ""
    words = " ".join(f"--load PACK/{name}" for name in names)
    return (
        f"\nParts of this model come from {', '.join(f'`{name}`' for name in names)}. Read what it does before you run "
        f"it; then unpack the zip file and add `{words}` to each command.\n"
    )
