"""Chat with a run."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from nanotx.cli.commands.sample import flag_names_in_errors, write_stdout
from nanotx.cli.unfinished import report_unfinished
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import in_range
from nanotx.data.text_files import read_text
from nanotx.errors import ConfigError, DataError, TextError, printable
from nanotx.generation import Sampling, sampler
from nanotx.generation.chat import Chat
from nanotx.hardware.device import choose_machine
from nanotx.runs.load import load

USAGE = "RUN"
GROUP = "Use a run"
ORDER = 29

COMMANDS = "/reset forgets the conversation, /quit ends it; Ctrl-C stops an answer"
PROMPT = "> "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Chat with the model of a run that was trained on conversations, or of an imported model with a chat template.

    Answers are written token by token. A line that is `/reset` forgets the conversation, `/quit` ends it. Where the
    standard input is no terminal, each line of it is a message, and standard output holds the answers alone.

        nanotx chat runs/shakespeare_char-1
        nanotx chat runs/smol --system "Answer in one sentence." --temperature 0.7
    """

    folder: str = argument("RUN")  # folder of the run
    system: str = ""  # system message before the conversation
    max_new_tokens: int = 256  # maximum number of tokens of an answer
    temperature: float = 0.8  # divisor of the logits: 0 always takes the most likely token, higher is more random
    top_k: int | None = None  # draw from the k most likely tokens only
    top_p: float = 1.0  # draw from the most likely tokens whose probabilities add up to this
    min_p: float = 0.0  # draw from tokens at least this fraction as likely as the most likely one
    repetition_penalty: float = 1.0  # divide the logits of tokens in the text so far by this; multiply negative ones
    seed: int = 0  # seed of the first answer; each further one has the next seed
    template: str = option("FILE")  # chat template in Jinja, in place of the one in the run's tokenizer
    step: int | None = None  # step of the checkpoint to load; without it, the newest
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # device to run on; auto for the best one of this machine
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # type of weights and cache; 16 bits halve the memory
    threads: int = 0  # processor threads; 0 for OMP_NUM_THREADS, else one per core
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        for name, limits in {"max_new_tokens": sampler.RANGES["max_new_tokens"], "threads": (0, 1024)}.items():
            in_range(name, getattr(self, name), *limits, whole=True)


def run(argv: list[str]) -> int:
    """Load the run, and answer line by line until the input ends."""
    flags = parse(Flags, argv, "nanotx chat")
    names = {field.name for field in dataclasses.fields(Sampling)} & {field.name for field in dataclasses.fields(Flags)}
    with flag_names_in_errors():  # checked before a file is read
        sampling = Sampling(**{name: getattr(flags, name) for name in names})
    for file in flags.load:
        load_file(file)
    machine = choose_machine(flags.device, "float32", flags.threads)
    source = template_of(flags.template)
    loaded = load(flags.folder, flags.step)
    if flags.step is None:
        report_unfinished(loaded, flags.load)
    loaded.model.to(machine.device, getattr(torch, flags.dtype))
    chat = loaded.chat(sampling, flags.max_new_tokens, flags.system, source)
    if sys.stdin.isatty():
        remark(f"{flags.folder}, step {loaded.step:,}, context {loaded.model.context:,}. {COMMANDS}.")
    return converse(chat, lines())


def template_of(path: str) -> str:
    """Return the chat template of a file; empty where none is named.

    Raises:
        DataError: it cannot be read.
    """
    if not path:
        return ""
    try:
        return read_text(Path(path))
    except DataError as error:
        raise DataError(f"--template {error}") from None
    except OSError as error:
        raise DataError(f"--template {path}: cannot be read: {error.strerror}.") from None


def lines() -> Iterator[str]:
    """Yield the lines that the user types, or those of standard input."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    with contextlib.suppress(ImportError):  # a system without it has no history
        import readline  # noqa: F401  gives `input` the arrow keys
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            write_stdout("\n")
            return


def converse(chat: Chat, typed: Iterator[str]) -> int:
    """Answer each line, until the input ends or the user quits; return the exit code.

    Where nobody types, a line that cannot be answered ends the conversation with its error.
    """
    for line in typed:
        command = line.strip()
        if command == "/quit":
            return 0
        if command == "/reset":
            chat.reset()
            remark("The conversation is forgotten.")
        elif command.startswith("/"):
            remark(f"{command.split()[0]}: unknown; {COMMANDS}.")
        elif command:
            try:
                answer(chat, line)
            except (ConfigError, DataError, TextError) as error:
                if not sys.stdin.isatty():
                    raise
                remark(str(error))
    return 0


def answer(chat: Chat, line: str) -> None:
    """Write the answer to a line, and what is to be remarked on it."""
    remarked, pieces = False, chat.ask(line)
    try:
        for piece in pieces:
            if chat.dropped and not remarked:
                turns = "turn is" if chat.dropped == 1 else f"{chat.dropped} turns are"
                remark(f"The context of {chat.model.context:,} tokens is full: the oldest {turns} forgotten.")
                remarked = True
            write_stdout(piece)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        pieces.close()
        write_stdout("\n")
        return
    write_stdout("\n")
    if not chat.ended:
        remark("The answer ends here: --max-new-tokens, or the context, has no more room.")


def remark(text: str) -> None:
    """Print a line beside the conversation, on standard error."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()
