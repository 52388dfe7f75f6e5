"""A run as a model of lm-evaluation-harness: the log-likelihood of texts, and their continuation.

How a text is cut into windows, and how a context and its continuation become ids, is the harness's own, so that figures
are those of the same model in another library. A text begins after the token that ends texts, or where the tokenizer
has none, after the one that training begins with.

Source: `lm_eval/api/model.py` of https://github.com/EleutherAI/lm-evaluation-harness
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch.nn import functional as F

from nanotx.config.registry import load_file
from nanotx.errors import ConfigError
from nanotx.generation import Sampling
from nanotx.hub.loading import load
from nanotx.runs.load import LoadedRun

END = "<|endoftext|>"
Pair = tuple[list[int], list[int]]
"""Ids that are read, and those that are scored: the last ones, each after the one before it."""

BATCH = 16
"""Texts that are read at once, where the harness leaves it to the model."""


@register_model("nanotx")
class Nanotx(TemplateLM):  # type: ignore[misc]
    """A run, a pack, or a folder or id of the Hugging Face world.

    Args:
        run: its path, or a run that was loaded.
        step: of the checkpoint; None for the newest.
        batch_size: texts that are read at once, a number or "auto".
        device: such as cpu or cuda; the harness says cuda where nothing is asked for, so without one it is the CPU.
        load: Python file of your own that registers parts; several with : between them.
        max_batch_size: not needed, since no batch is searched.

    Raises:
        ConfigError: a number is out of range.
        RunError: the run cannot be loaded.
    """

    def __init__(
        self,
        run: str | LoadedRun,
        step: int | None = None,
        batch_size: int | str = BATCH,
        device: str | None = None,
        load: str = "",
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        for file in filter(None, load.split(":")):
            load_file(file)
        self.run = run if isinstance(run, LoadedRun) else load_run(str(run), step)
        self.where = device_of(device)
        self.model = self.run.model.to(self.where).eval()
        self.batch_size = batch_size_of(batch_size)

    @property
    def eot_token_id(self) -> int:
        """Id that ends a text, and comes before its first token."""
        codec = self.run.tokenizer
        return codec.special_tokens.get(END, codec.start)

    @property
    def tokenizer_name(self) -> str:
        """Name by which the harness keeps texts that were encoded."""
        return self.run.tokenizer.digest

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """Return the ids of a text; special tokens are never added, and their names are text."""
        ids: list[int] = self.run.tokenizer.encode(string).tolist()
        return ids

    # Log-likelihood.

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        context = self.model.context
        pairs = []
        for _texts, before, after in requests:
            if len(after) > context:
                raise ConfigError(
                    f"{self.run.folder}: a continuation of {len(after)} tokens does not fit a context of {context}; "
                    "leave the task out, or use a model of a longer context."
                )
            pairs.append(((before + after)[-(context + 1) :][:-1], after))
        results = self.scores(pairs)
        for (texts, _, _), result in zip(requests, results, strict=True):
            self.cache_hook.add_partial("loglikelihood", texts, result)
        return results

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole texts, in nats, each token predicted once."""
        totals = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.eot_token_id,
                max_seq_len=self.model.context,
                context_len=1,
            )
            pairs = []
            for window in windows:
                before, after = make_disjoint_window(window)
                pairs.append(((before + after)[:-1], after))
            totals.append(math.fsum(total for total, _ in self.scores(pairs)))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, totals[-1])
        return totals

    @torch.inference_mode()
    def scores(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """Return the log-likelihood of the scored ids of each pair, and whether each of them is the most likely."""
        results: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        order = sorted((number for number, (_, after) in enumerate(pairs) if after), key=lambda n: len(pairs[n][0]))
        for first in range(0, len(order), self.batch_size):
            numbers = order[first : first + self.batch_size]
            rows = [pairs[number][0] for number in numbers]
            length = len(rows[-1])  # shorter ones are filled up after their end, which nothing before it sees
            ids = torch.tensor([row + [0] * (length - len(row)) for row in rows], device=self.where)
            for number, row, logits in zip(numbers, rows, self.model(ids), strict=True):
                after = torch.tensor(pairs[number][1], device=self.where)
                scored = logits[len(row) - len(after) : len(row)].float()
                total = -F.cross_entropy(scored, after, reduction="sum").item()
                results[number] = (total, bool((scored.argmax(dim=-1) == after).all()))
        return results

    # Text.

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the continuation of each context, up to the first of its stop sequences."""
        texts = [""] * len(requests)
        order = sorted(range(len(requests)), key=lambda number: repr(requests[number].args[1]))
        for _, group in groupby(order, key=lambda number: repr(requests[number].args[1])):
            for numbers in batches(list(group), self.batch_size):
                contexts = [requests[number].args[0] for number in numbers]
                for number, text in zip(numbers, self.continued(contexts, requests[numbers[0]].args[1]), strict=True):
                    texts[number] = text
                    self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return texts

    def continued(self, contexts: Sequence[str], options: dict[str, Any]) -> list[str]:
        """Return the continuations of contexts, with the options of the harness."""
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        if END in self.run.tokenizer.special_tokens and END not in stops:
            stops.append(END)
        sampled = options.get("do_sample", float(options.get("temperature", 0.0)) > 0)
        sampling = Sampling(
            temperature=float(options.get("temperature", 1.0)) if sampled else 0.0,
            top_k=options.get("top_k"),
            top_p=float(options.get("top_p", 1.0)),
            seed=int(options.get("seed", 0)),
        )
        count = int(options.get("max_gen_toks", options.get("max_new_tokens", options.get("max_tokens", 256))))
        texts = [""] * len(contexts)
        for row, piece in self.run.generation(contexts, count, sampling, [stop for stop in stops if stop]):
            texts[row] += piece
        return texts


def load_run(path: str, step: int | None) -> LoadedRun:
    """Return the run of a path."""
    return load(path, step)


def device_of(name: str | None) -> torch.device:
    """Return the device of a name, or the CPU if it is not here.

    Raises:
        ConfigError: there is no device of this name.
    """
    try:
        device = torch.device(name or "cpu")
    except RuntimeError:
        raise ConfigError(f"device: expected a device such as cpu or cuda, got {name!r}.") from None
    return torch.device("cpu") if device.type == "cuda" and not torch.cuda.is_available() else device


def batch_size_of(given: int | str) -> int:
    """Return a batch size as a number.

    Raises:
        ConfigError: it is neither a whole number of at least 1 nor "auto".
    """
    text = str(given)
    if text.startswith("auto"):
        return BATCH
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"batch_size: expected a whole number of at least 1, or auto, got {given!r}.")
    return int(text)


def batches(numbers: list[int], size: int) -> Iterator[list[int]]:
    """Yield numbers, `size` at a time."""
    for first in range(0, len(numbers), size):
        yield numbers[first : first + size]
