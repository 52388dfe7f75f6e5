"""Prove that a folder computes what the run does, by opening it with `transformers` as its users would."""

import os
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from nanotx.errors import ConfigError, RunError, TextError
from nanotx.generation import Sampling, generate
from nanotx.nn.transformer import Transformer
from nanotx.runs.load import LoadedRun
from nanotx.tokenizers import Codec
from nanotx.tokenizers.hard_texts import TROUBLE

TEXTS = 2_000
"""Texts whose ids are compared."""

WINDOWS = 64
"""Windows whose logits are compared."""

LONGEST = 128
"""The most tokens of these windows; one more window fills the context."""

GREEDY = 500
"""The most tokens of a text that both generate greedily."""

NO_ID = 1 << 30
"""An id that no vocabulary has."""

TOLERANCE = 1e-5
"""The largest difference of logits, relative to their standard deviation, at which they count as equal."""

ROUNDING = 2.0
"""A model that magnifies rounding may differ by more: by this many times what the last bits of its weights do."""

DRAWS = 16
"""The number of times that the last bits of all weights are drawn to find what they do."""

Windows = Int[Tensor, "b t"]
WindowLogits = Float[Tensor, "b t v"]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was compared, and by how much it differs."""

    texts: int  # with equal ids, and equal texts of these ids; 0 where transformers cannot read the tokenizer
    windows: int
    full: float  # largest difference of logits relative to their standard deviation: whole windows,
    cached: float  # token by token through the cache,
    padded: float  # and windows of several lengths in one batch, padded on the left
    allowed: float
    greedy: int  # tokens of the text that both generate greedily
    near_tie: int | None  # the token at which the texts part, because two are as likely but for rounding
    transformers: str  # version

    def __str__(self) -> str:
        worst = max(self.full, self.cached, self.padded)
        tie = "" if self.near_tie is None else ", then a tie that rounding decides"
        ids = f"ids of {self.texts:,} texts equal" if self.texts else "it cannot read the tokenizer, so no ids"
        return (
            f"transformers {self.transformers}: {ids}, logits apart by {worst:.1e} of "
            f"their standard deviation at most, {self.greedy:,} tokens of greedy text equal{tie}"
        )


def prove(run: LoadedRun, folder: Path, *, foreign: bool = False, code: bool = False) -> Proof:
    """Compare a folder with the run that it was written from, or that was read from it.

    Args:
        run: the run.
        folder: the folder, as transformers opens it.
        foreign: the folder is not ours: its tokenizer may be in files that transformers does not read, and then no ids
            are compared.
        code: the model is in a file of the folder, which we wrote; it has no cache.

    Raises:
        ConfigError: transformers is not installed.
        RunError: something differs; says what, and by how much.
    """
    transformers = library()
    with offline():
        tokenizer = open_tokenizer(folder)
        theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder),
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=code,
        )
    if wrong := {kind: sorted(map(str, names)) for kind, names in report.items() if names}:
        raise RunError(f"{folder.name}: transformers reads other weights than were written: {wrong}.")
    if tokenizer is None and not foreign:
        raise RunError(f"{folder.name}: transformers cannot read the tokenizer that was written. Please report this.")
    texts = 0 if tokenizer is None else check_ids(run.tokenizer, tokenizer)
    with torch.no_grad():
        return check_model(run.model, theirs.eval(), texts, transformers.__version__, cache=not code)


def library() -> Any:
    """Return transformers.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers  # seconds, and only an export needs it
    except ImportError:
        raise ConfigError(
            "--to hf: the folder is proven by opening it with transformers, which is not installed here; try "
            "pip install 'transformers>=5' tokenizers"
        ) from None
    return transformers


@contextmanager
def offline() -> Iterator[None]:
    """Context in which nothing is asked of a network, and the library prints neither hints nor bars."""
    logging = library().utils.logging
    before, bars = os.environ.get("HF_HUB_OFFLINE"), logging.is_progress_bar_enabled()
    verbosity = logging.get_verbosity()
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


# Texts.


def open_tokenizer(folder: Path) -> Any | None:
    """Return the folder's tokenizer as transformers opens it; None if it finds none in the files that it knows."""
    try:  # the library asks at the terminal whether to execute the folder's code unless it is told
        tokenizer = library().AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception:  # which class it is depends on the files, and on what else is installed
        return None
    return tokenizer if tokenizer.vocab_size else None  # of the right class, and empty but for special tokens


def check_ids(codec: Codec, tokenizer: Any) -> int:
    """Return how many texts have the same ids in both, and the same text again.

    Raises:
        RunError: a text has other ids, or ids another text.
    """
    texts = list(some_texts(codec, TEXTS))
    for text in texts:
        ours = codec.encode(text).tolist()
        theirs = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if ours != theirs:
            raise RunError(f"the tokenizer differs: {text[:40]!r} has the ids {ours[:8]}, and there {theirs[:8]}.")
        back = tokenizer.decode(ours, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if back != codec.decode(ours):
            raise RunError(f"the tokenizer differs: the ids {ours[:8]} are the text {codec.decode(ours)[:40]!r} here.")
    return len(texts)


def some_texts(codec: Codec, count: int) -> Iterator[str]:
    """Yield texts that the tokenizer can encode: of random ids, some with snippets that broke a tokenizer before."""
    draw = random.Random(0)
    usual = [token for token in range(codec.vocab_size) if token not in codec.undefined_ids]
    usual = [token for token in usual if token not in codec.special_tokens.values()]
    for _ in range(count):
        text = codec.decode(draw.choices(usual, k=draw.randint(0, 24)))
        nasty = text + "".join(draw.choices(TROUBLE, k=draw.randint(1, 4)))
        yield nasty if draw.random() < 0.5 and encodable(codec, nasty) else text


def encodable(codec: Codec, text: str) -> bool:
    """Return whether a tokenizer can encode a text."""
    try:
        codec.encode(text)
    except TextError:
        return False
    return True


# Logits.


def check_model(ours: Transformer, theirs: Any, texts: int, version: str, cache: bool = True) -> Proof:
    """Compare logits and greedy text.

    Raises:
        RunError: they differ by more than rounding.
    """
    windows = some_windows(ours)
    theirs = Cropped(theirs, ours.vocab_size)
    logits = ours(windows)
    scale = float(logits.std())
    whole = torch.randint(ours.vocab_size, (1, ours.context), generator=torch.Generator().manual_seed(1))
    differences = {
        "windows": far(logits, theirs(windows).logits, scale),
        "a window of the whole context": far(ours(whole), theirs(whole).logits, scale),
        "token by token": far(logits, token_by_token(theirs, windows), scale) if cache else 0.0,
        "padded on the left": left_padded(ours, theirs, windows, scale),
    }
    allowed = TOLERANCE
    if not all(difference <= allowed for difference in differences.values()):
        moved = moved_by_last_bits(lambda: theirs(windows[:8]).logits, theirs.model.parameters(), scale)
        allowed = max(allowed, ROUNDING * moved)
    for name, difference in differences.items():
        if not difference <= allowed:
            raise RunError(
                f"logits differ ({name}): by {difference:.1e} of their standard deviation, and {allowed:.1e} is what "
                "rounding explains. The folder was not written. Please report this recipe."
            )
    full, other, cached, padded = differences.values()
    count, near_tie = greedy(ours, theirs, windows[0, :1], allowed * scale)
    return Proof(
        texts=texts,
        windows=len(windows) + 1,
        full=max(full, other),
        cached=cached,
        padded=padded,
        allowed=allowed,
        greedy=count,
        near_tie=near_tie,
        transformers=version,
    )


class Cropped:
    """A model of transformers without the rows that pad its vocabulary."""

    def __init__(self, model: Any, vocab_size: int) -> None:
        self.model, self.vocab_size = model, vocab_size

    def __call__(self, ids: Windows, **inputs: Any) -> Any:
        output = self.model(ids, **inputs)
        output.logits = output.logits[..., : self.vocab_size]
        return output

    def generate(self, ids: Windows, **settings: Any) -> Int[Tensor, "b grown"]:
        """Return texts with their continuations."""
        continued: Tensor = self.model.generate(ids, **settings)
        return continued


def far(ours: WindowLogits, theirs: WindowLogits, scale: float) -> float:
    """Return the largest difference of logits, in units of `scale`; NaN where one is not finite."""
    return float((ours - theirs).abs().max()) / scale


@torch.no_grad()
def moved_by_last_bits(compute: Callable[[], WindowLogits], weights: Iterable[Tensor], scale: float) -> float:
    """Return how far logits move where the last bit of every weight does, in units of `scale`.

    Rounding in float32 is such a movement, and a model that magnifies one magnifies the other. One movement may happen
    to do little, so the largest of `DRAWS` is returned. The weights are as before in the end.

    Args:
        compute: return the logits, by the weights as they are.
        weights: of the model, which are moved in place.
        scale: the standard deviation of the logits.
    """
    draw = torch.Generator().manual_seed(2)
    before, kept = compute(), [(weight, weight.clone()) for weight in weights]
    largest = 0.0
    for _ in range(DRAWS):
        for weight, value in kept:
            away = torch.randint(2, value.shape, generator=draw).to(value) * 4 - 2  # up or down by a factor
            weight.copy_(torch.nextafter(value, away * value))  # a zero stays one
        largest = max(largest, far(compute(), before, scale))
    for weight, value in kept:
        weight.copy_(value)
    return largest


def some_windows(model: Transformer) -> Windows:
    """Return windows of ids: a half at random, a half drawn from the model itself."""
    draw = torch.Generator().manual_seed(0)
    length = min(model.context, LONGEST)
    at_random = torch.randint(model.vocab_size, (WINDOWS // 2, length), generator=draw)
    starts = torch.randint(model.vocab_size, (WINDOWS // 2, 1), generator=draw)
    if length == 1:
        return torch.cat([at_random, starts])
    return torch.cat([at_random, generate(model, starts, length - 1, Sampling(temperature=1.0))])


def token_by_token(theirs: Any, windows: Windows) -> WindowLogits:
    """Return the logits of windows that are read one token after another, through the cache."""
    cache, logits = None, []
    for column in windows.split(1, dim=1):
        output = theirs(column, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


def left_padded(ours: Transformer, theirs: Any, windows: Windows, scale: float) -> float:
    """Return the largest difference on windows of several lengths in one batch, as `generate` pads them."""
    length = windows.shape[1]
    lengths = torch.linspace(1, length, len(windows)).round().long()
    mask = torch.arange(length) >= rearrange(length - lengths, "b -> b 1")
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    logits = theirs(windows.masked_fill(~mask, 0), attention_mask=mask.long(), position_ids=positions).logits
    return max(
        far(ours(window[None, -int(size) :]), row[None, -int(size) :], scale)
        for window, row, size in zip(windows, logits, lengths, strict=True)
    )


def greedy(ours: Transformer, theirs: Any, start: Int[Tensor, " t"], near: float) -> tuple[int, int | None]:
    """Return how many tokens both generate alike, and where they part at two tokens that rounding cannot tell apart.

    Raises:
        RunError: they part where the model is certain.
    """
    count = min(GREEDY, ours.context - len(start))
    if count < 1:
        return 0, None
    prompt = rearrange(start, "t -> 1 t")
    here = generate(ours, prompt, count, Sampling(temperature=0.0))
    there = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=NO_ID,  # ours does not stop where a text or a turn ends
    )
    length = min(here.shape[1], there.shape[1])
    parted = (here[0, :length] != there[0, :length]).nonzero()
    if not len(parted):
        return length - len(start), None
    place = int(parted[0])
    logits = ours(here[:, :place])[0, -1]
    if abs(float(logits[here[0, place]] - logits[there[0, place]])) > 2 * near:
        raise RunError(f"greedy text differs at token {place}, where the two tokens are not equally likely.")
    return place - len(start), place
