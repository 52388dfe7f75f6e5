"""Put a folder of an export on the Hugging Face Hub."""

import dataclasses
import sys
from pathlib import Path

from nanotx.config.flags import argument, option, parse
from nanotx.hub.push import push

USAGE = "PATH --to OWNER/NAME"
GROUP = "Hand a run on"
ORDER = 44


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Put a folder of `nanotx export` on the Hugging Face Hub.

    Its files are compared with the digests that were recorded when it was proven (PROOF.json), and nothing is sent if
    one was changed since; the card, README.md, may be edited. A new repository is private. It needs the package
    huggingface-hub, and a token: hf auth login.

        nanotx push my-model --to you/my-model
        nanotx push my-model --to you/my-model --update
    """

    folder: str = argument("PATH")  # folder of an export
    to: str = option("OWNER/NAME", dataclasses.MISSING)  # repository on the Hub
    public: bool = False  # let everyone see a new repository
    update: bool = False  # add a commit to a repository that exists


def run(argv: list[str]) -> int:
    """Put it there, print its address, and return the exit code."""
    flags = parse(Flags, argv, "nanotx push")
    address, proof = push(Path(flags.folder), flags.to, public=flags.public, update=flags.update)
    sys.stdout.write(f"{flags.folder}: {proof}\n{address}\n")
    return 0
