"""Generate text from a run."""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import write_json
from nanotx.config.flags import parse
from nanotx.config.registry import load_file
from nanotx.config.schema import in_range
from nanotx.data.text_files import read_text
from nanotx.errors import ConfigError, DataError, TextError, printable
from nanotx.generation import Sampling, sampler
from nanotx.generation.completion import Completion, Generation, rank
from nanotx.generation.text import bias_by_id, parse_bias, token_ids
from nanotx.hardware.device import choose_machine
from nanotx.runs.load import LoadedRun, load
from nanotx.tokenizers import Codec

USAGE = "RUN"
GROUP = "Use a run"
ORDER = 20

RANGES = {"best_of": (1, 10_000), "threads": (0, 1024)} | {
    name: sampler.RANGES[name] for name in ("max_new_tokens", "draft_tokens")
}
"""From the least to the most of each whole number that is no field of `Sampling`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Prints the prompt and what the run's model makes of it, as it is written.

    Several texts, from --prompts or --best-of, are written side by side and printed when all are done. What is said of
    them goes to the standard error: the standard output holds the texts alone.
    """

    folder: tyro.conf.Positional[str]  # the run's folder
    prompt: str = ""  # what to go on from; without it the recorded start
    prompts: str = ""  # a file with a prompt a line, in UTF-8
    max_new_tokens: int = 500  # how many tokens to write at most
    temperature: float = 0.8  # 0 takes the best token always; lower is safer, higher is wilder
    top_k: int | None = None  # choose among the k best tokens only
    top_p: float = 1.0  # choose among the best tokens that together are this likely
    min_p: float = 0.0  # choose among tokens at least this share as likely as the best one
    typical: float = 1.0  # choose among the tokens nearest to the expected surprise that together are this likely
    repetition_penalty: float = 1.0  # divide the logits of tokens of the text so far, multiply those below zero
    frequency_penalty: float = 0.0  # take this off a token's logit for each time that it was written
    presence_penalty: float = 0.0  # take this off a token's logit once it was written
    banned_tokens: tuple[str, ...] = ()  # never generate this token; repeatable
    bias: tuple[str, ...] = ()  # TOKEN=NUMBER: add this to the token's logit; may be repeated
    stop: tuple[str, ...] = ()  # end before this text; may be repeated
    seed: int = 0  # another seed writes another text; of several texts, each has the next seed
    best_of: int = 1  # generate this many texts per prompt and print the most likely first
    log_probs: bool = False  # show how likely each token was to the model itself, before any of the above
    overflow: Literal["recompute", "rolling"] = "recompute"  # full context: recompute half of it, or drop its oldest
    draft_model: str = ""  # run folder of a smaller model, for speculative decoding
    draft_tokens: int = 4  # tokens drafted per round
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # where it runs; auto for the best that this machine has
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of weights and cache; half of it is half to read
    threads: int = 0  # processor threads; 0 for as many as there are cores
    compile: bool = False  # through torch.compile: half a minute at first, then faster, small models the most
    json: str = ""  # write texts, tokens and figures into this file
    step: int | None = None  # of which checkpoint; without it the newest
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them


def run(argv: list[str]) -> int:
    """Write."""
    left, said = extract_repeatable(argv, ("banned_tokens", "bias", "stop"))
    flags = parse(Flags, left, "nanotx sample")
    flags = dataclasses.replace(flags, banned_tokens=said["banned_tokens"], bias=said["bias"], stop=said["stop"])
    check(flags)
    how = sampling(flags)
    for file in flags.load:
        load_file(file)
    machine = choose_machine(flags.device, "float32", flags.threads)
    loaded = load(flags.folder, flags.step)
    loaded.model.to(machine.device, getattr(torch, flags.dtype))
    draft = load(flags.draft_model) if flags.draft_model else None
    generation = loaded.generation(
        [prompt for prompt in prompts(flags, loaded.tokenizer) for _ in range(flags.best_of)],
        flags.max_new_tokens,
        resolve_token_names(loaded, flags, how),
        flags.stop,
        rolling=flags.overflow == "rolling",
        draft_model=draft,
        draft_tokens=flags.draft_tokens,
        compiled=flags.compile,
    )
    clean = printable if sys.stdout.isatty() else str
    if len(generation.completions) == 1:
        write_stdout(clean(flags.prompt if not flags.prompts else generation.prompts[0]))
    for _, piece in generation:
        if len(generation.completions) == 1:
            write_stdout(clean(piece))
    completions = print_completions(generation, flags.best_of, flags.log_probs)
    if flags.json:
        drafts = {"run": flags.draft_model, "drafted": generation.drafted, "accepted": generation.accepted}
        asked = {
            "stop": flags.stop,
            "overflow": flags.overflow,
            "dtype": flags.dtype,
            "draft_model": drafts if draft else None,
        }
        write_json_file(flags.json, {"run": flags.folder, "step": loaded.step, **asked}, generation, completions)
    return 0


def check(flags: Flags) -> None:
    """Raise ConfigError where a number is out of range, or prompts come from two sides."""
    for name, (low, high) in RANGES.items():
        in_range(f"--{name.replace('_', '-')}", getattr(flags, name), low, high, whole=True)
    if flags.prompt and flags.prompts:
        raise ConfigError("--prompts: expected --prompt or --prompts, got both; leave one out.")


def extract_repeatable(argv: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Flags that may be repeated, one value each time, out of the words; and the words that are left.

    Raises:
        ConfigError: one has no value.
    """
    left, found = [], {name: list[str]() for name in names}
    rest = iter(argv)
    for arg in rest:
        flag, equals, value = arg.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not arg.startswith("--") or name not in found:
            left.append(arg)
            continue
        one = value if equals else next(rest, None)
        if one is None:
            raise ConfigError(f"{flag}: expected a text after it, got nothing.")
        found[name].append(one)
    return left, {name: tuple(values) for name, values in found.items()}


def prompts(flags: Flags, codec: Codec) -> list[str]:
    """What to go on from.

    Raises:
        DataError: the file of prompts cannot be read, or there are none in it.
        TextError: the tokenizer cannot hold one of them; says of which flag, or in which line.
    """
    if not flags.prompts:
        try:
            codec.encode(flags.prompt)
        except TextError as error:
            raise TextError(f"--prompt: {error}") from None
        return [flags.prompt]
    try:
        text = read_text(Path(flags.prompts), "or leave that line out")
    except DataError as error:
        raise DataError(f"--prompts {error}") from None
    if not text:
        raise DataError(f"--prompts {flags.prompts}: expected a prompt a line, got an empty file.")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            codec.encode(line)
        except TextError as error:
            raise TextError(f"--prompts {flags.prompts}: line {number:,}: {error}") from None
    return lines


def sampling(flags: Flags) -> Sampling:
    """How tokens are chosen, but for tokens that are called by their text.

    Raises:
        ConfigError: a number is out of range; says which flag's.
    """
    given = [field.name for field in dataclasses.fields(Sampling) if field.name not in ("banned_tokens", "bias")]
    with name_flags_in_errors():
        return Sampling(**{name: getattr(flags, name) for name in given})


def resolve_token_names(loaded: LoadedRun, flags: Flags, how: Sampling) -> Sampling:
    """The same with the tokens that are banned or biased, by the ids that a run's tokenizer gives them.

    Raises:
        ConfigError: a text is no token, or what is to be added to its logit is out of range; says which flag's.
        TextError: the tokenizer cannot hold a text.
    """
    pairs = dict(parse_bias(arg) for arg in flags.bias)
    with name_flags_in_errors():
        banned = token_ids(loaded.tokenizer, flags.banned_tokens, "banned_tokens")
        return dataclasses.replace(how, banned_tokens=banned, bias=bias_by_id(loaded.tokenizer, pairs))


@contextmanager
def name_flags_in_errors() -> Iterator[None]:
    """Within, an error that begins with a field of `Sampling` begins with its flag."""
    try:
        yield
    except (ConfigError, TextError) as error:
        field, colon, rest = str(error).partition(":")
        flag = field.replace("_", "-")
        raise type(error)(f"--{flag}{colon}{rest}") from None


def print_completions(generation: Generation, together: int, log_probs: bool) -> list[Completion]:
    """Print what was not printed while it was written; returns the texts in the order in which they stand.

    Args:
        generation: it is done.
        together: how many texts of each prompt there are; the likeliest of them comes first.
        log_probs: whether each token is listed.
    """
    groups = [generation.completions[at : at + together] for at in range(0, len(generation.completions), together)]
    completions = [completion for group in groups for completion in rank(group)]
    several, console = len(completions) > 1, Console(stderr=True, highlight=False)
    clean = printable if sys.stdout.isatty() else str
    if not several:
        write_stdout("\n")
    for number, completion in enumerate(completions, start=1):
        if several:
            likelihood = describe_likelihood(completion)
            line = f"{number} of {len(completions)}, seed {seed_of(generation, completion)}: {likelihood}"
            console.print(Text(line), soft_wrap=True)
            write_stdout(clean(completion.prompt + completion.text) + "\n")
        if log_probs:
            title = "" if several else describe_likelihood(completion)
            tables.print_table(console, title, token_cells(generation, completion), console.is_terminal)
    if generation.drafted:
        share = generation.accepted / generation.drafted
        console.print(Text(f"draft: {share:.0%} of {generation.drafted} draft tokens accepted"), soft_wrap=True)
    return completions


def write_stdout(text: str) -> None:
    """On the standard output, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def seed_of(generation: Generation, completion: Completion) -> int:
    """What a text was drawn with."""
    return generation.sampling.seed + generation.completions.index(completion)


def describe_likelihood(completion: Completion) -> str:
    """How likely a text is, in words."""
    end = "; stopped" if completion.stopped else ""
    return (
        f"{completion.log_prob:.3f} nats over {len(completion.ids)} tokens, "
        f"{completion.mean_log_prob:.3f} per token{end}"
    )


def token_cells(generation: Generation, completion: Completion) -> list[list[str]]:
    """A row for each token."""
    texts = (repr(generation.codec.decode([one])) for one in completion.ids)
    rows = zip(texts, completion.ids, completion.log_probs, strict=True)
    return [["token", "id", "log-prob"], *([text, str(one), f"{chance:.4f}"] for text, one, chance in rows)]


def write_json_file(
    path: str, head: Mapping[str, Any], generation: Generation, completions: Sequence[Completion]
) -> None:
    """Strict JSON, the texts in the order in which they are printed.

    Raises:
        RunError: it cannot be written there.
    """
    texts = [
        {
            "prompt": completion.prompt,
            "text": completion.text,
            "seed": seed_of(generation, completion),
            "ids": completion.ids,
            "log_probs": completion.log_probs,
            "log_prob": completion.log_prob,
            "mean_log_prob": completion.mean_log_prob,
            "stopped": completion.stopped,
        }
        for completion in completions
    ]
    write_json(path, {**head, "sampling": dataclasses.asdict(generation.sampling), "texts": texts})
