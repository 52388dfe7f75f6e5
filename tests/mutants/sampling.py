"""Bugs of the sampler, each planted by changing an attribute, with the law that it breaks.

`tests/laws/test_laws_sampling.py` has the laws' random cases by these names.
"""

from collections import Counter
from dataclasses import replace

import torch

import nanotx.generation.engine
import nanotx.generation.sampler
import nanotx.generation.stop_sequences
import nanotx.generation.text
from nanotx.generation.sampler import Sampler
from nanotx.nn.transformer import Transformer

CATCHES: dict[str, str] = {}
"""None of them is a part."""

ADJUST, TRUNCATE = (
    nanotx.generation.sampler.LogitsProcessors.adjust,
    nanotx.generation.sampler.LogitsProcessors.truncate,
)
TOP_P_MASK, ENGINE, PUSH = (
    nanotx.generation.sampler.top_p_mask,
    nanotx.generation.engine.Engine.__init__,
    nanotx.generation.stop_sequences.StopSequences.push,
)
PROBABILITIES = Sampler.probabilities
TOKENS = nanotx.generation.engine.Step.tokens
INIT, APPEND, PROCESSORS = (
    Sampler.__init__,
    nanotx.generation.engine.DecodeState.append,
    nanotx.generation.sampler.LogitsProcessors.__init__,
)


def one_too_few(p, share):
    kept = TOP_P_MASK(p, share)
    order = p.masked_fill(~kept, 2.0).argmin(dim=-1, keepdim=True)
    return kept.scatter(-1, order, kept.sum(dim=-1, keepdim=True) < 2)


def shared(self, sampling, prompts):
    INIT(self, sampling, prompts)
    self.generators = self.generators[:1] * len(prompts)


def oldest(self, prompts, new):
    ENGINE(self, [prompt[:6] for prompt in prompts], new)


def sharpened(self, top=0):
    return TOKENS(self._replace(logits=2 * self.logits), top)


def token_too_many(self, prompts, new):
    ENGINE(self, prompts, new + 1)


def left_in(self, piece):
    held, out = self.held, PUSH(self, piece)
    return held + piece if self.stopped else out


def append_with_a_shorter_window(self, drawn):
    context, full = self.model.context, self.window.shape[1] == self.model.context
    APPEND(self, drawn)
    if full and context > 2:
        self.window = self.pending = self.window[:, 1:]


def prompt_counted(self, some, prompts):
    PROCESSORS(self, some, prompts)
    self.counts = [Counter(prompt) for prompt in prompts]


def in_order(*names):
    """The truncations after the temperature, in another order."""

    def truncate(self, logits):
        usual, self.sampling = self.sampling, self.sampling
        none = {"top_k": None, "top_p": 1.0, "min_p": 0.0, "typical": 1.0}
        for name in names:
            self.sampling = replace(usual, **{other: value for other, value in none.items() if other != name})
            logits = TRUNCATE(self, logits)
        self.sampling = usual
        return logits

    return truncate


top_p_first = in_order("top_p", "top_k", "min_p", "typical")
typical_first = in_order("top_k", "top_p", "typical", "min_p")


def unbanned(self):
    if self.sampling.bias and self.sampling.banned_tokens:
        self.sampling = replace(self.sampling, banned_tokens=())
    return self


def greedy_at_once(self, logits):
    if self.sampling.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
    return PROBABILITIES(self, logits)


def last_of_equals(logits, count):
    order = logits.flip(-1).argsort(dim=-1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, logits.shape[-1] - 1 - order, True)


def alone(self, piece):
    self.held = ""
    return PUSH(self, piece)


def named_first(self, piece):
    if self.stopped:
        return ""
    text = self.held + piece
    stop = next((stop for stop in self.stops if stop in text), None)
    if stop is None:
        return PUSH(self, piece)
    self.stopped, self.held = True, ""
    return text.partition(stop)[0]


BUGS = {
    "top-p comes before top-k": ("chances_of", (nanotx.generation.sampler.LogitsProcessors, "truncate", top_p_first)),
    "typical comes before min-p": (
        "chances_of",
        (nanotx.generation.sampler.LogitsProcessors, "truncate", typical_first),
    ),
    "bans are forgotten where a bias is given": (
        "chances_of",
        (nanotx.generation.sampler.LogitsProcessors, "adjust", lambda self, logits: ADJUST(unbanned(self), logits)),
    ),
    "greedy decoding skips the processors": ("chances_of", (Sampler, "probabilities", greedy_at_once)),
    "of equally good ids the last is the best": (
        "chances_of",
        (nanotx.generation.sampler, "top_k_mask", last_of_equals),
    ),
    "the penalty counts of the prompt what is read of it": (
        "samples_of",
        (nanotx.generation.engine, "Sampler", lambda how, prompts: Sampler(how, [prompt[-6:] for prompt in prompts])),
    ),
    "a stop is searched for in each piece alone": (
        "stops_of",
        (nanotx.generation.stop_sequences.StopSequences, "push", alone),
    ),
    "the stop that was named first is the first": (
        "stops_of",
        (nanotx.generation.stop_sequences.StopSequences, "push", named_first),
    ),
    "penalties after the temperature": (
        "chances_of",
        (nanotx.generation.sampler.LogitsProcessors, "adjust", lambda self, logits: logits),
        (
            nanotx.generation.sampler.LogitsProcessors,
            "truncate",
            lambda self, logits: TRUNCATE(self, ADJUST(self, logits)),
        ),
    ),
    "top-p keeps one too few": ("chances_of", (nanotx.generation.sampler, "top_p_mask", one_too_few)),
    "top-p keeps one too many": (
        "chances_of",
        (nanotx.generation.sampler, "top_p_mask", lambda p, share: TOP_P_MASK(p, min(1.0, share + 0.2))),
    ),
    "top-k keeps one too many": (
        "chances_of",
        (
            nanotx.generation.sampler,
            "top_k_mask",
            lambda logits, count, best=nanotx.generation.sampler.top_k_mask: best(logits, count + 1),
        ),
    ),
    "the repetition penalty divides what is below zero": (
        "chances_of",
        (
            nanotx.generation.sampler,
            "penalize_repetition",
            lambda logits, seen, by: torch.where(seen, logits / by, logits),
        ),
    ),
    "the repetition penalty does not count the prompt": (
        "chances_of",
        (nanotx.generation.sampler, "penalize_repetition", lambda logits, seen, by: logits),
    ),
    "typical keeps the least surprising": (
        "chances_of",
        (
            nanotx.generation.sampler,
            "typical_mask",
            lambda p, share: nanotx.generation.sampler.cumulative_mask(p, -p, share),
        ),
    ),
    "min-p is a share of all": ("chances_of", (nanotx.generation.sampler, "min_p_mask", lambda p, share: p >= share)),
    "presence is counted": (
        "chances_of",
        (
            nanotx.generation.sampler,
            "token_counts",
            lambda rows, size, table=nanotx.generation.sampler.token_counts: table(rows, size).clamp(max=1),
        ),
    ),
    "frequency and presence count the prompt": (
        "chances_of",
        (nanotx.generation.sampler.LogitsProcessors, "__init__", prompt_counted),
    ),
    "nothing is noted": (
        "samples_of",
        (nanotx.generation.sampler.LogitsProcessors, "record", lambda self, drawn: None),
    ),
    "the soft cap is left out": (
        "samples_of",
        (Transformer, "next_logits", lambda self, some, cache=None: self.head(self.hidden_states(some, cache)[:, -1])),
    ),
    "the oldest tokens of a long prompt are read": (
        "samples_of",
        (nanotx.generation.engine.Engine, "__init__", oldest),
    ),
    "beyond the context a token less is kept": (
        "samples_of",
        (nanotx.generation.engine.DecodeState, "append", append_with_a_shorter_window),
    ),
    "rows share a generator": ("samples_of", (Sampler, "__init__", shared)),
    "a row inside its prompt uses up its random numbers": ("samples_of", (Sampler, "reset", lambda self, row: None)),
    "a stop is left in the text": ("stops_of", (nanotx.generation.stop_sequences.StopSequences, "push", left_in)),
    "nothing is held back": ("stops_of", (nanotx.generation.stop_sequences, "overlap", lambda text, stop: 0)),
    "what is held back is lost": ("stops_of", (nanotx.generation.stop_sequences.StopSequences, "end", lambda self: "")),
    "half a character is lost": ("streams_of", (nanotx.generation.text.StreamingDecoder, "end", lambda self: "")),
    "a token more than asked for": ("texts_of", (nanotx.generation.engine.Engine, "__init__", token_too_many)),
    "a stopped text gets more tokens": ("texts_of", (nanotx.generation.engine.Engine, "stop", lambda self, row: None)),
    "a log-probability is that of the processed logits": (
        "samples_of",
        (nanotx.generation.engine.Step, "tokens", sharpened),
    ),
}
