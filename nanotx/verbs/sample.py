"""nanotx sample RUN [flags]: let a run write."""

import sys
from dataclasses import dataclass

import tyro

from nanotx.display import printable
from nanotx.errors import ConfigError
from nanotx.flags import parse
from nanotx.loaded import load
from nanotx.registry import load_file
from nanotx.sample import Sampling


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Prints the prompt and what the run's model makes of it, as it is written."""

    folder: tyro.conf.Positional[str]  # the run's folder
    prompt: str = ""  # what to go on from; without it the recorded start
    max_new_tokens: int = 500  # how many tokens to write at most
    temperature: float = 0.8  # 0 takes the best token always; lower is safer, higher is wilder
    top_k: int | None = None  # choose among the k best tokens only
    top_p: float = 1.0  # choose among the best tokens that together are this likely
    seed: int = 0  # another seed writes another text
    stop: str = ""  # end before this text
    step: int | None = None  # of which checkpoint; without it the newest
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them


def run(words: list[str]) -> int:
    """Write."""
    flags = parse(Flags, words, "nanotx sample")
    if flags.max_new_tokens < 0:
        raise ConfigError(f"--max-new-tokens: expected a number of at least 0, got {flags.max_new_tokens}.")
    for file in flags.load:
        load_file(file)
    sampling = Sampling(temperature=flags.temperature, top_k=flags.top_k, top_p=flags.top_p, seed=flags.seed)
    loaded = load(flags.folder, flags.step)
    clean = printable if sys.stdout.isatty() else str
    started = False
    for piece in loaded.stream(flags.prompt, flags.max_new_tokens, sampling, flags.stop):
        sys.stdout.write(clean(piece) if started else clean(flags.prompt + piece))
        sys.stdout.flush()
        started = True
    sys.stdout.write("\n")
    return 0
