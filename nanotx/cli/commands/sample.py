"""Generate text from a run."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import check_output, write_json
from nanotx.cli.unfinished import report_unfinished
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import in_range
from nanotx.data.text_files import read_text
from nanotx.errors import ConfigError, DataError, TextError, printable
from nanotx.generation import Completion, Generation, Sampling, sampler
from nanotx.generation.text import bias_by_id, rank, token_ids
from nanotx.hardware.device import choose_machine
from nanotx.nn.stored_weights import store_weights
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
    """Print a prompt and its continuation by the model of a run, token by token.

    Several texts, from --prompts or --best-of, are generated in one batch and printed when all are done. Remarks on
    them go to standard error: standard output holds the texts alone.

        nanotx sample runs/shakespeare_char-1 --prompt "To be, or not to be"
        nanotx sample runs/shakespeare_char-1 --temperature 0.5 --top-k 20 --seed 3
        nanotx sample runs/shakespeare_char-1 --best-of 4 --json texts.json
    """

    folder: str = argument("RUN")  # folder of the run
    prompt: str = ""  # text to continue; without it, generation starts from the recorded start of the run
    max_new_tokens: int = 500  # maximum number of tokens to generate
    temperature: float = 0.8  # divisor of the logits: 0 always takes the most likely token, higher is more random
    top_k: int | None = None  # draw from the k most likely tokens only
    top_p: float = 1.0  # draw from the most likely tokens whose probabilities add up to this
    min_p: float = 0.0  # draw from tokens at least this fraction as likely as the most likely one
    seed: int = 0  # seed of the draws; of several texts, each has the next seed
    stop: tuple[str, ...] = repeated("TEXT")  # text at which to end, without printing it
    best_of: int = 1  # generate this many texts per prompt, and print the most likely first
    prompts: str = option("FILE")  # UTF-8 file with one prompt per line
    typical: float = 1.0  # draw from the tokens closest to the expected surprise whose probabilities add up to this
    repetition_penalty: float = 1.0  # divide the logits of tokens in the text so far by this; multiply negative ones
    frequency_penalty: float = 0.0  # subtract this from the logit of a token for each time that it was generated
    presence_penalty: float = 0.0  # subtract this from the logit of a token that was generated before
    banned_tokens: tuple[str, ...] = repeated("TOKEN")  # never generate this token
    bias: tuple[str, ...] = repeated("TOKEN=X")  # add X to the logit of this token
    log_probs: bool = False  # list each token with its log-probability under the model, before any option above
    overflow: Literal["recompute", "rolling"] = "recompute"  # full context: recompute half of it, or drop the oldest
    draft_model: str = option("RUN")  # folder of a smaller run, for speculative decoding
    draft_tokens: int = 4  # tokens drafted per round of speculative decoding, or of --lookup
    lookup: bool = False  # try the tokens that followed the same ones before: the same text, for text that repeats
    step: int | None = None  # step of the checkpoint to load; without it, the newest
    json: str = option("FILE")  # write texts, tokens and figures to this file
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # device to run on; auto for the best one of this machine
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # type of weights and cache; 16 bits halve the memory
    weights: Literal["float32", "bfloat16", "int8"] = (
        "float32"  # number format of linear maps' weights; others than float32 compile
    )
    threads: int = 0  # processor threads; 0 for OMP_NUM_THREADS, else one per core
    compile: bool | Literal["auto"] = "auto"  # compile a token's step, once for all runs of this kind; auto if it was
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            in_range(name, getattr(self, name), low, high, whole=True)
        if self.prompt and self.prompts:
            raise ConfigError("prompts: expected --prompt or --prompts, got both; leave one out.")
        if self.weights != "float32" and self.dtype != "float32":
            raise ConfigError(
                f"weights: {self.weights} is for a model in float32, got --dtype {self.dtype} as well; leave one out."
            )


def run(argv: list[str]) -> int:
    """Generate, print, write the JSON file."""
    flags = parse(Flags, argv, "nanotx sample", stray="--prompt")
    if flags.json:
        check_output(flags.json, "--json")
    sampling = sampling_of(flags)  # checked before a file is read
    for file in flags.load:
        load_file(file)
    machine = choose_machine(flags.device, "float32", flags.threads)
    loaded = load(flags.folder, flags.step)
    if flags.step is None:
        report_unfinished(loaded, flags.load)
    if flags.weights != "float32" and machine.device.type != "cpu":
        raise ConfigError(f"weights: {flags.weights} is for the CPU; on {machine.device.type} try --dtype bfloat16.")
    loaded.model.to(machine.device, getattr(torch, flags.dtype))
    store_weights(loaded.model, flags.weights)
    generation = loaded.generation(
        [prompt for prompt in read_prompts(flags, loaded.tokenizer) for _ in range(flags.best_of)],
        flags.max_new_tokens,
        with_tokens(sampling, flags, loaded.tokenizer),
        flags.stop,
        rolling=flags.overflow == "rolling",
        draft_model=load(flags.draft_model) if flags.draft_model else None,
        draft_tokens=flags.draft_tokens,
        lookup=flags.lookup,
        compiled=wanted_compilation(flags),
        say=remark,
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


def wanted_compilation(flags: Flags) -> bool | Literal["auto"]:
    """Return whether to compile: with weights of fewer bits too, as only a compiled step reads them as they are."""
    with_others = flags.draft_model or flags.lookup or flags.overflow == "rolling"
    return True if flags.compile == "auto" and flags.weights != "float32" and not with_others else flags.compile


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


def remark(text: str) -> None:
    """Print a remark to standard error."""
    Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)


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
        "weights": flags.weights,
        "draft_model": draft if flags.draft_model else None,
        "lookup": {"drafted": engine.drafted, "accepted": engine.accepted} if flags.lookup else None,
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
