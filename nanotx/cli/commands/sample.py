"""Generate text from a run."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import check_output, write_json
from nanotx.config.flags import parse
from nanotx.config.registry import load_file
from nanotx.config.schema import in_range
from nanotx.data.text_files import read_text
from nanotx.errors import ConfigError, DataError, TextError, printable
from nanotx.generation import Completion, Generation, Sampling, sampler
from nanotx.generation.text import bias_by_id, rank, token_ids
from nanotx.hardware.device import choose_machine
from nanotx.runs.load import LoadedRun, load
from nanotx.tokenizers import Codec

USAGE = "RUN"
GROUP = "Use a run"
ORDER = 20

RANGES = {"best_of": (1, 10_000), "threads": (0, 1024)} | {
    name: sampler.RANGES[name] for name in ("max_new_tokens", "draft_tokens")
}
"""Smallest and largest value of each integer flag that is not a field of `Sampling`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Prints the prompt and its continuation, as it is generated.

    Several texts, from --prompts or --best-of, are generated in one batch and printed when all are complete. Standard
    output holds only the texts; figures are printed to standard error.
    """

    folder: tyro.conf.Positional[str]  # the run's folder
    prompt: str = ""  # text to continue; without it, the model starts a new text
    prompts: str = ""  # a UTF-8 file with one prompt per line
    max_new_tokens: int = 500  # tokens to generate, at most
    temperature: float = 0.8  # 0 always takes the most likely token; lower is safer, higher is wilder
    top_k: int | None = None  # sample from the k most likely tokens
    top_p: float = 1.0  # sample from the most likely tokens whose probabilities sum to this
    min_p: float = 0.0  # sample from tokens at least this fraction as likely as the most likely one
    typical: float = 1.0  # sample from tokens with the most typical surprisal whose probabilities sum to this
    repetition_penalty: float = 1.0  # divide the logits of tokens of the text so far by this, multiply negative ones
    frequency_penalty: float = 0.0  # subtract this from a token's logit each time it is generated
    presence_penalty: float = 0.0  # subtract this from a token's logit once it was generated
    banned_tokens: tuple[str, ...] = ()  # never generate this token; repeatable
    bias: tuple[str, ...] = ()  # TOKEN=NUMBER: add this to the token's logit; repeatable
    stop: tuple[str, ...] = ()  # end before this text; repeatable
    seed: int = 0  # of the random numbers; of several texts, each uses the next seed
    best_of: int = 1  # generate this many texts per prompt and print the most likely first
    log_probs: bool = False  # list each token with its log-probability, before any of the above
    overflow: Literal["recompute", "rolling"] = "recompute"  # full context: recompute half of it, or drop its oldest
    draft_model: str = ""  # run folder of a smaller model, for speculative decoding
    draft_tokens: int = 4  # tokens that it proposes per round
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # where to run; auto is the best device of this machine
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of weights and cache; 16 bits halve the memory
    threads: int = 0  # processor threads; 0 for as many as there are cores
    compile: bool = False  # use torch.compile: half a minute at first, then faster, above all for small models
    json: str = ""  # write texts, tokens and figures to this file
    step: int | None = None  # checkpoint of this step; without it, the newest
    load: tuple[str, ...] = ()  # your own Python files, with parts in them


def run(argv: list[str]) -> int:
    """Generate, print, write the JSON file."""
    flags = parse_flags(argv)
    sampling = sampling_of(flags)  # checked before a file is read
    for file in flags.load:
        load_file(file)
    machine = choose_machine(flags.device, "float32", flags.threads)
    loaded = load(flags.folder, flags.step)
    loaded.model.to(machine.device, getattr(torch, flags.dtype))
    generation = loaded.generation(
        [prompt for prompt in read_prompts(flags, loaded.tokenizer) for _ in range(flags.best_of)],
        flags.max_new_tokens,
        with_tokens(sampling, flags, loaded.tokenizer),
        flags.stop,
        rolling=flags.overflow == "rolling",
        draft_model=load(flags.draft_model) if flags.draft_model else None,
        draft_tokens=flags.draft_tokens,
        compiled=flags.compile,
    )
    if len(generation.completions) == 1:
        stream(generation)
    else:
        for _ in generation:
            pass
    completions = ranked(generation.completions, flags.best_of)
    print_figures(generation, completions, flags.log_probs)
    if flags.json:
        write_json_file(flags, loaded, generation, completions)
    return 0


# Flags.


def parse_flags(argv: Sequence[str]) -> Flags:
    """Return the flags.

    Raises:
        ConfigError: a flag is unknown or has no value, an integer is out of range, or two flags contradict each other.
    """
    rest, repeated = extract_repeatable(argv, ("banned_tokens", "bias", "stop"))
    values: Any = repeated
    flags = dataclasses.replace(parse(Flags, rest, "nanotx sample"), **values)
    for name, (low, high) in RANGES.items():
        in_range(f"--{name.replace('_', '-')}", getattr(flags, name), low, high, whole=True)
    if flags.prompt and flags.prompts:
        raise ConfigError("--prompts: expected --prompt or --prompts, got both; leave one out.")
    if flags.json:
        check_output(flags.json, "--json")
    return flags


def extract_repeatable(argv: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Separate flags that may be repeated, with one value each time; return the other arguments, and values by name.

    Raises:
        ConfigError: a flag has no value.
    """
    rest, values = list[str](), {name: list[str]() for name in names}
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not argument.startswith("--") or name not in values:
            rest.append(argument)
            continue
        try:
            values[name].append(value if equals else next(arguments))
        except StopIteration:
            raise ConfigError(f"{flag}: expected a text after it, got nothing.") from None
    return rest, {name: tuple(texts) for name, texts in values.items()}


def sampling_of(flags: Flags) -> Sampling:
    """Return the sampling config, without banned and biased tokens.

    Raises:
        ConfigError: a number is out of range; names the flag.
    """
    names = [field.name for field in dataclasses.fields(Sampling) if field.name not in ("banned_tokens", "bias")]
    with flag_names_in_errors():
        return Sampling(**{name: getattr(flags, name) for name in names})


def with_tokens(sampling: Sampling, flags: Flags, codec: Codec) -> Sampling:
    """Return the sampling config with the ids of the banned and biased tokens.

    Raises:
        ConfigError: a text is not exactly one token, or a bias is out of range; names the flag.
        TextError: the tokenizer cannot encode a text; names the flag.
    """
    biases = dict(parse_bias(argument) for argument in flags.bias)
    with flag_names_in_errors():
        banned = token_ids(codec, flags.banned_tokens, "banned_tokens")
        return dataclasses.replace(sampling, banned_tokens=banned, bias=bias_by_id(codec, biases))


def parse_bias(argument: str) -> tuple[str, float]:
    """Parse TOKEN=NUMBER; the last = separates them.

    Raises:
        ConfigError: the argument does not have this form.
    """
    text, _, number = argument.rpartition("=")
    if text:
        with contextlib.suppress(ValueError):
            return text, float(number)
    raise ConfigError(f"--bias {argument}: expected TOKEN=NUMBER such as e=-2.5.")


@contextlib.contextmanager
def flag_names_in_errors() -> Iterator[None]:
    """Context in which an error that begins with the name of a field begins with that of its flag instead."""
    try:
        yield
    except (ConfigError, TextError) as error:
        field, colon, rest = str(error).partition(":")
        flag = field.replace("_", "-")
        raise type(error)(f"--{flag}{colon}{rest}") from None


def read_prompts(flags: Flags, codec: Codec) -> list[str]:
    """Return the prompts.

    Raises:
        DataError: the file of prompts cannot be read or is empty.
        TextError: the tokenizer cannot encode a prompt; names the flag, or the file and line.
    """
    if not flags.prompts:
        check_prompt(flags.prompt, "--prompt", codec)
        return [flags.prompt]
    try:
        text = read_text(Path(flags.prompts), "or leave that line out")
    except DataError as error:
        raise DataError(f"--prompts {error}") from None
    if not text:
        raise DataError(f"--prompts {flags.prompts}: expected one prompt per line, got an empty file.")
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        check_prompt(line, f"--prompts {flags.prompts}: line {number:,}", codec)
    return lines


def check_prompt(prompt: str, source: str, codec: Codec) -> None:
    """Raise TextError, with the source of the prompt, if the tokenizer cannot encode it."""
    try:
        codec.encode(prompt)
    except TextError as error:
        raise TextError(f"{source}: {error}") from None


# Output.


def stream(generation: Generation) -> None:
    """Print the prompt of a single text, and its continuation as it is generated."""
    write_stdout(generation.prompts[0])
    for _, text in generation:
        write_stdout(text)
    write_stdout("\n")


def write_stdout(text: str) -> None:
    """Write to standard output, at once; a terminal gets no control characters."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def ranked(completions: Sequence[Completion], best_of: int) -> list[Completion]:
    """Return the completions, those of each prompt by falling likelihood."""
    groups = [completions[start : start + best_of] for start in range(0, len(completions), best_of)]
    return [completion for group in groups for completion in rank(group)]


def print_figures(generation: Generation, completions: Sequence[Completion], log_probs: bool) -> None:
    """Print the likelihood of each text, and the texts too if they are several.

    Args:
        generation: the generation, complete.
        completions: its completions in the order to print them.
        log_probs: whether to list the tokens of each.
    """
    console = Console(stderr=True, highlight=False)
    single = len(completions) == 1
    for number, completion in enumerate(completions, start=1):
        likelihood = describe_likelihood(completion)
        if not single:
            title = f"{number} of {len(completions)}, seed {seed_of(generation, completion)}: {likelihood}"
            console.print(Text(title), soft_wrap=True)
            write_stdout(completion.prompt + completion.text + "\n")
        if log_probs:
            cells = token_cells(generation.codec, completion)
            tables.print_table(console, likelihood if single else "", cells, console.is_terminal)
    engine = generation.engine
    if engine.drafted:
        share = engine.accepted / engine.drafted
        console.print(Text(f"draft: {share:.0%} of {engine.drafted} draft tokens accepted"), soft_wrap=True)


def seed_of(generation: Generation, completion: Completion) -> int:
    """Return the seed of a completion."""
    return generation.sampling.seed + generation.completions.index(completion)


def describe_likelihood(completion: Completion) -> str:
    """Return the likelihood of a completion, in words."""
    end = "; stopped" if completion.stopped else ""
    return (
        f"{completion.log_prob:.3f} nats over {len(completion.ids)} tokens, "
        f"{completion.mean_log_prob:.3f} per token{end}"
    )


def token_cells(codec: Codec, completion: Completion) -> list[list[str]]:
    """Return a table with a row for each token."""
    texts = (repr(codec.decode([token])) for token in completion.ids)
    rows = zip(texts, completion.ids, completion.log_probs, strict=True)
    return [["token", "id", "log-prob"], *([text, str(token), f"{log_prob:.4f}"] for text, token, log_prob in rows)]


def write_json_file(flags: Flags, loaded: LoadedRun, generation: Generation, completions: Sequence[Completion]) -> None:
    """Write the settings and the texts, in the order in which they were printed, as JSON.

    Raises:
        RunError: the file cannot be written.
    """
    engine = generation.engine
    draft = {"run": flags.draft_model, "drafted": engine.drafted, "accepted": engine.accepted}
    settings: Mapping[str, Any] = {
        "run": flags.folder,
        "step": loaded.step,
        "stop": flags.stop,
        "overflow": flags.overflow,
        "dtype": flags.dtype,
        "draft_model": draft if flags.draft_model else None,
        "sampling": dataclasses.asdict(generation.sampling),
    }
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
    write_json(flags.json, {**settings, "texts": texts})
