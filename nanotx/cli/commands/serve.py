"""Serve a run: a page to play with, and an API."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError, printable
from nanotx.hardware.device import choose_machine

USAGE = "RUN [RUN2]"
GROUP = "Use a run"
ORDER = 27

PACKAGES = ("starlette", "uvicorn")
"""Packages of the extra `web`."""

INSTALL = "pip install starlette uvicorn"
"""What installs them, where nanotx came from a wheel as in a checkout: pip knows the extras of what is installed."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Serve a run, or two side by side, on 127.0.0.1: a page to play with it, and the API of OpenAI's completions.

    On the page text streams in as you type, coloured by probability, with the ten likeliest tokens at each place;
    sliders act at once, heads can be looked at and removed. Programs use /v1/completions and /v1/models, for instance
    with OpenAI's client: OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none"). Ctrl-C ends it.

    It needs two packages more than the other commands: pip install starlette uvicorn

        nanotx serve runs/shakespeare_char-1
        nanotx serve runs/shakespeare_char-1 runs/shakespeare_char-2
        nanotx serve runs/shakespeare_char-3 --watch
    """

    folder: str = argument("RUN")  # folder of the run
    other: str = argument("RUN2", default="")  # folder of a second run, shown with the first
    port: int = 8000  # port to listen on; the next free one if it is in use; 0 for any
    watch: bool = False  # show curve and samples of a run that is training, and load each new checkpoint
    prompt: str = option("TEXT", default="")  # text that the page begins with
    step: int | None = None  # step of the checkpoint to load; without it, the newest
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # device to run on; auto for the best one of this machine
    threads: int = 0  # processor threads; 0 for OMP_NUM_THREADS, else one per core
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "threads", "step", "port")
        check_max(self, 1024, "threads")
        check_max(self, 65535, "port")
        if self.watch and self.step is not None:
            raise ConfigError(
                "watch: a run that trains is shown by its newest checkpoint; leave --step or --watch out."
            )


def run(argv: list[str]) -> int:
    """Serve until a signal ends it, and return the exit code."""
    flags = parse(Flags, argv, "nanotx serve")
    check_packages()
    from nanotx.cli.unfinished import report_unfinished
    from nanotx.serve.app import Service, build_app  # they import an optional extra
    from nanotx.serve.run import ServedRun, model_names
    from nanotx.serve.server import ADDRESS, open_socket, serve
    from nanotx.serve.watch import Watch

    for file in flags.load:
        load_file(file)
    machine = choose_machine(flags.device, "float32", flags.threads)
    folders = [folder for folder in (flags.folder, flags.other) if folder]
    runs = [
        ServedRun(folder, name, machine.device, flags.step, watched=flags.watch)
        for folder, name in zip(folders, model_names(folders), strict=True)
    ]
    if not flags.watch and flags.step is None:
        for served in runs:
            report_unfinished(served.loaded, flags.load)
    listener = open_socket(flags.port)
    port = listener.getsockname()[1]
    watches = [Watch(run, flags.prompt) for run in runs] if flags.watch else []
    service = Service(runs, flags.prompt, watches)
    if flags.port not in (0, port):
        sys.stdout.write(f"Port {flags.port} is in use; this is the next free one.\n")
    names = " and ".join(printable(run.name) for run in runs)
    sys.stdout.write(f"{names}: http://{ADDRESS}:{port}/ (the API is at /v1; Ctrl-C ends it)\n")
    sys.stdout.flush()
    for watch in watches:
        watch.start()
    serve(build_app(service), listener, service.close)
    return 0


def check_packages() -> None:
    """Raise ConfigError if a package of the extra is not installed; names it."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        are = "are" if len(missing) > 1 else "is"
        raise ConfigError(f"nanotx serve: {' and '.join(missing)} {are} not installed; try {INSTALL}")
