"""Bugs of the sampler, each planted by changing an attribute, with the law that it breaks.

`tests/test_laws_sampling.py` has the laws' random cases by these names.
"""

from collections import Counter
from dataclasses import replace

import torch

import nanotx.generation.completion
import nanotx.generation.engine
import nanotx.generation.sampler
import nanotx.generation.stop_sequences
import nanotx.generation.text
from nanotx.generation.sampler import Choice
from nanotx.nn.transformer import Transformer

CATCHES: dict[str, str] = {}
"""None of them is a part."""

CHANGED, LIMITED = nanotx.generation.sampler.Shaping.changed, nanotx.generation.sampler.Shaping.limited
NUCLEUS, TOGETHER, PUSH = (
    nanotx.generation.sampler.nucleus,
    nanotx.generation.engine.together,
    nanotx.generation.stop_sequences.Stops.push,
)
PROBABILITIES = Choice.probabilities
INIT, FEED, SHAPING = (
    Choice.__init__,
    nanotx.generation.sampler.Reading.feed,
    nanotx.generation.sampler.Shaping.__init__,
)


def one_too_few(p, share):
    kept = NUCLEUS(p, share)
    order = p.masked_fill(~kept, 2.0).argmin(dim=-1, keepdim=True)
    return kept.scatter(-1, order, kept.sum(dim=-1, keepdim=True) < 2)


def shared(self, sampling, prompts):
    INIT(self, sampling, prompts)
    self.generators = self.generators[:1] * len(prompts)


def oldest(made, prompts, *rest, **named):
    return TOGETHER(made, [one[: made.context] for one in prompts], *rest, **named)


def left_in(self, piece):
    held, out = self.held, PUSH(self, piece)
    return held + piece if self.found else out


def feed_a_token_more(self, drawn):
    context, full = self.model.context, self.window.shape[1] == self.model.context
    FEED(self, drawn)
    if full and context > 2:
        self.window = self.unread = self.window[:, 1:]


def prompt_counted(self, some, prompts):
    SHAPING(self, some, prompts)
    self.drawn = [Counter(prompt) for prompt in prompts]


def in_order(*names):
    """Knobs after the temperature, in another order."""

    def limited(self, logits):
        usual, self.knobs = self.knobs, self.knobs
        none = {"top_k": None, "top_p": 1.0, "min_p": 0.0, "typical": 1.0}
        for name in names:
            self.knobs = replace(usual, **{other: value for other, value in none.items() if other != name})
            logits = LIMITED(self, logits)
        self.knobs = usual
        return logits

    return limited


top_p_first = in_order("top_p", "top_k", "min_p", "typical")
typical_first = in_order("top_k", "top_p", "typical", "min_p")


def unbanned(self):
    if self.knobs.bias and self.knobs.banned:
        self.knobs = replace(self.knobs, banned=())
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
    if self.found:
        return ""
    text = self.held + piece
    stop = next((one for one in self.stops if one in text), None)
    if stop is None:
        return PUSH(self, piece)
    self.found, self.held = True, ""
    return text.partition(stop)[0]


BUGS = {
    "top-p comes before top-k": ("chances_of", (nanotx.generation.sampler.Shaping, "limited", top_p_first)),
    "typical comes before min-p": ("chances_of", (nanotx.generation.sampler.Shaping, "limited", typical_first)),
    "bans are forgotten where a bias is given": (
        "chances_of",
        (nanotx.generation.sampler.Shaping, "changed", lambda self, logits: CHANGED(unbanned(self), logits)),
    ),
    "without chance the knobs are not asked": ("chances_of", (Choice, "probabilities", greedy_at_once)),
    "of equally good ids the last is the best": ("chances_of", (nanotx.generation.sampler, "best", last_of_equals)),
    "the penalty counts of the prompt what is read of it": (
        "samples_of",
        (nanotx.generation.engine, "Choice", lambda how, prompts: Choice(how, [prompt[-6:] for prompt in prompts])),
    ),
    "a stop is looked for in each piece alone": ("stops_of", (nanotx.generation.stop_sequences.Stops, "push", alone)),
    "the stop that was named first is the first": (
        "stops_of",
        (nanotx.generation.stop_sequences.Stops, "push", named_first),
    ),
    "penalties after the temperature": (
        "chances_of",
        (nanotx.generation.sampler.Shaping, "changed", lambda self, logits: logits),
        (nanotx.generation.sampler.Shaping, "limited", lambda self, logits: LIMITED(self, CHANGED(self, logits))),
    ),
    "top-p keeps one too few": ("chances_of", (nanotx.generation.sampler, "nucleus", one_too_few)),
    "top-p keeps one too many": (
        "chances_of",
        (nanotx.generation.sampler, "nucleus", lambda p, share: NUCLEUS(p, min(1.0, share + 0.2))),
    ),
    "top-k keeps one too many": (
        "chances_of",
        (
            nanotx.generation.sampler,
            "best",
            lambda logits, count, best=nanotx.generation.sampler.best: best(logits, count + 1),
        ),
    ),
    "the repetition penalty divides what is below zero": (
        "chances_of",
        (nanotx.generation.sampler, "repelled", lambda logits, seen, by: torch.where(seen, logits / by, logits)),
    ),
    "the repetition penalty does not count the prompt": (
        "chances_of",
        (nanotx.generation.sampler, "repelled", lambda logits, seen, by: logits),
    ),
    "typical keeps the least surprising": (
        "chances_of",
        (nanotx.generation.sampler, "typical", lambda p, share: nanotx.generation.sampler.fewest(p, -p, share)),
    ),
    "min-p is a share of all": ("chances_of", (nanotx.generation.sampler, "likely", lambda p, share: p >= share)),
    "presence is counted": (
        "chances_of",
        (
            nanotx.generation.sampler,
            "table",
            lambda rows, size, table=nanotx.generation.sampler.table: table(rows, size).clamp(max=1),
        ),
    ),
    "frequency and presence count the prompt": (
        "chances_of",
        (nanotx.generation.sampler.Shaping, "__init__", prompt_counted),
    ),
    "nothing is noted": ("samples_of", (nanotx.generation.sampler.Shaping, "note", lambda self, drawn: None)),
    "the soft cap is left out": (
        "samples_of",
        (Transformer, "next_logits", lambda self, some, cache=None: self.head(self.hidden_states(some, cache)[:, -1])),
    ),
    "the oldest tokens of a long prompt are read": ("samples_of", (nanotx.generation.engine, "together", oldest)),
    "beyond the context a token less is kept": (
        "samples_of",
        (nanotx.generation.sampler.Reading, "feed", feed_a_token_more),
    ),
    "rows share a generator": ("samples_of", (Choice, "__init__", shared)),
    "a row that waits uses up its chance": (
        "samples_of",
        (nanotx.generation.engine, "begin_anew", lambda choice, row: None),
    ),
    "a stop is left in the text": ("stops_of", (nanotx.generation.stop_sequences.Stops, "push", left_in)),
    "nothing is held back": ("stops_of", (nanotx.generation.stop_sequences, "overlap", lambda text, stop: 0)),
    "what is held back is lost": ("stops_of", (nanotx.generation.stop_sequences.Stops, "end", lambda self: "")),
    "half a character is lost": ("streams_of", (nanotx.generation.text.StreamingDecoder, "end", lambda self: "")),
    "a token more than asked for": (
        "texts_of",
        (nanotx.generation.completion.Sheet, "done", property(lambda self: self.stopped or len(self.ids) > self.limit)),
    ),
}
