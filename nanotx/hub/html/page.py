"""A model as one HTML page: its weights, its tokenizer, and a few hundred lines of JavaScript that compute it.

The page asks for nothing outside of itself. When it is opened it compares its own logits with those that PyTorch
computed from the very weights in it, and shows the largest difference.
"""

import base64
import copy
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
from einops import rearrange

import nanotx
from nanotx.errors import NanotxError
from nanotx.evaluation.loss import EvalText, evaluate
from nanotx.hardware.device import Machine
from nanotx.hub.html.model import described_model, described_tokenizer
from nanotx.hub.html.weights import Kind, Weights, decoded, encoded
from nanotx.nn.canonical import to_canonical
from nanotx.nn.transformer import Transformer
from nanotx.pages import html_page, script_file
from nanotx.runs.load import LoadedRun
from nanotx.runs.merge import merged
from nanotx.runs.resume import load_weights

HERE = Path(__file__).parent

PROBE = 24
"""The most tokens whose logits the page compares with PyTorch's."""

PROBE_WEIGHTS = 100_000_000
"""Weights that the comparison may multiply: fewer tokens of a larger model, but 4 at least."""

PROBE_LOGITS = 20_000
"""The most logits of the comparison in the page, but for those of one token."""

PROMPTS = ("ROMEO:\n", "To be", "The ", "a", "1")
"""Texts of which the first that the tokenizer knows is the prompt that the page opens with."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Loss of the validation text, in nats per token, with the weights of the run and with those of the page."""

    run: float
    page: float
    tokens: int

    def __str__(self) -> str:
        """Return the losses as a phrase."""
        return (
            f"{self.page:.5f} nats per token over {self.tokens:,} tokens of the validation text with the weights of "
            f"the page, {self.run:.5f} with those of the run ({self.page - self.run:+.5f})"
        )


def export_html(run: LoadedRun, kind: Kind, paper: EvalText | None) -> tuple[str, Loss | None]:
    """Return the page, and the losses that it states; the run's adapter is merged.

    Args:
        run: the run, loaded.
        kind: int8 or float32 weights.
        paper: the text to measure the losses on; None to state none.

    Raises:
        ConfigError: the page cannot compute a part of the run.
    """
    run = merged(run)
    model, tokenizer = described_model(run.model), described_tokenizer(run.tokenizer)
    weights = encoded(to_canonical(run.model, dict(run.model.named_parameters())), kind)
    twin = with_weights(run.model, weights)
    loss = None if paper is None else losses(run.model, twin, paper)
    data = {
        "model": model,
        "tokenizer": tokenizer,
        "table": weights.table,
        "weights": base64.b64encode(weights.data).decode("ascii"),
        "start": run.tokenizer.start,
        "undefined": list(run.tokenizer.undefined_ids),
        "prompt": opening_prompt(run),
        "probe": probe(twin),
    }
    scripts = (script_file(HERE / "engine.js"), script_file(HERE / "page.js"))
    style = (HERE / "style.css").read_text(encoding="utf-8")
    name = Path(run.folder).resolve().name.removesuffix(".zip")
    page = html_page(f"{name}: a transformer", body(name, run, kind, loss), style=style, scripts=scripts, data=data)
    return page, loss


def with_weights(model: Transformer, weights: Weights) -> Transformer:
    """Return a copy of a model with the weights that a page has, read from its bytes."""
    twin = copy.deepcopy(model)
    load_weights(twin, decoded(weights))
    return twin


def losses(model: Transformer, twin: Transformer, paper: EvalText) -> Loss:
    """Return the losses of a text with the run's weights and with the page's, in float32 on the CPU."""
    machine = Machine(device=torch.device("cpu"), dtype=torch.float32, threads=torch.get_num_threads())
    before, after = (evaluate(module, paper, machine).loss for module in (model, twin))
    return Loss(run=before, page=after, tokens=paper.tokens)


def opening_prompt(run: LoadedRun) -> str:
    """Return a short text that the tokenizer knows, with which the page opens."""
    for prompt in PROMPTS:
        try:
            if run.tokenizer.round_trips(prompt):
                return prompt
        except NanotxError:
            continue
    return run.tokenizer.decode([run.tokenizer.start])


@torch.inference_mode()
def probe(twin: Transformer) -> dict[str, Any]:
    """Return the ids of a short text and the logits after the last of them, computed from the page's weights."""
    affordable = PROBE_WEIGHTS // max(1, twin.parameter_count)
    count = min(PROBE, twin.context, max(4, affordable))
    rows = min(count, max(1, PROBE_LOGITS // twin.vocab_size))
    ids = torch.arange(count) * 7919 % twin.vocab_size  # spread over the vocabulary
    logits = rearrange(twin(rearrange(ids, "t -> 1 t"))[0, -rows:], "t v -> (t v)")
    return {"ids": ids.tolist(), "rows": rows, "logits": [round(number, 7) for number in logits.tolist()]}


def body(name: str, run: LoadedRun, kind: Kind, loss: Loss | None) -> str:
    """Return the HTML of the page; the scripts fill it."""
    return (
        (HERE / "body.html")
        .read_text(encoding="utf-8")
        .format(name=escape(name), facts=escape(facts(run)), figures=figures(run, kind, loss))
    )


def facts(run: LoadedRun) -> str:
    """Return the size of a model in one line."""
    model = run.recipe.model
    heads = sorted({attention.heads for attention in model.attentions()})
    return (
        f"{run.model.parameter_count:,} weights · {model.layers} layers · {'/'.join(map(str, heads))} heads · "
        f"{model.dim} wide · {model.context} tokens of context · {run.tokenizer.vocab_size:,} kinds of token "
        f"({run.tokenizer.part})"
    )


def figures(run: LoadedRun, kind: Kind, loss: Loss | None) -> str:
    """Return the rows of the table about the page."""
    recipe = run.recipe
    rows = {
        "trained": f"{run.step:,} steps on {recipe.corpus.part}, seed {recipe.seed}; by nanotx {nanotx.__version__}",
        "corpus": f"SHA-256 {run.corpus_sha256}",
        "weights": "8 bits each, with a scale for each 64 of a row"
        if kind == "int8"
        else "float32, as they were trained",
    }
    rows["loss"] = str(loss) if loss else "not measured: the corpus was not at hand, or not to be read"
    return "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows.items())
