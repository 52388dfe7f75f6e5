"""A run that is served: its newest checkpoint, a lock around its model, and the spelling of its tokens."""

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from nanotx.errors import RunError
from nanotx.lens.sites import sites
from nanotx.runs import checkpoint
from nanotx.runs.folder import RunFolder
from nanotx.runs.load import LoadedRun, load
from nanotx.tokenizers import Codec


class ServedRun:
    """A run, loaded from its newest checkpoint or from that of a step.

    Args:
        folder: of the run, as it was given.
        name: the id of the model in the API.
        device: where its model runs.
        step: of the checkpoint; None is the newest.
        watched: it may train meanwhile, and have no checkpoint yet.

    Raises:
        RunError: there is no run, or no checkpoint that can be read.
    """

    def __init__(
        self, folder: str, name: str, device: torch.device, step: int | None = None, *, watched: bool = False
    ) -> None:
        self.folder, self.name, self.device, self.step = folder, name, device, step
        self.lock = threading.Lock()
        """Held for each pass of the model, so that the hooks of one pass never meet another."""
        self.created = int(time.time())
        self.newest: LoadedRun | None = None
        if not (watched and RunFolder(Path(folder)).is_run and not self.saved_steps()):
            self.reload()

    @property
    def loaded(self) -> LoadedRun:
        """The run, loaded.

        Raises:
            RunError: it has no checkpoint yet.
        """
        if self.newest is None:
            raise RunError(f"{self.name}: no checkpoint yet; the run is training, so try again later.")
        return self.newest

    def saved_steps(self) -> list[int]:
        """Return the steps of its checkpoints, newest first; they are not verified."""
        return list(checkpoint.steps(RunFolder(Path(self.folder)).checkpoints))

    def reload(self) -> LoadedRun:
        """Load the checkpoint; requests in progress keep the model that they began with."""
        loaded = load(self.folder, self.step)
        loaded.model.to(self.device)
        self.newest = loaded
        return loaded


def model_names(folders: list[str]) -> list[str]:
    """Return the names of runs in the API: those of their folders, numbered where they are equal."""
    names = [Path(folder).resolve().name for folder in folders]
    return [
        f"{name}-{names[: place + 1].count(name)}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def head_names(loaded: LoadedRun) -> list[list[str]]:
    """Return the names of the heads by layer, such as 2.attention.head3."""
    layers: dict[str, list[str]] = {}
    for site in sites(loaded.model):
        names = layers.setdefault(site.name.partition(".")[0], [])
        names += [f"{site.name}.head{head}" for head in range(site.heads)]
    return list(layers.values())


def spelling(codec: Codec, token: int) -> str:
    r"""Return the text of a token; `bytes:\xe2\x82` where its bytes are no text of their own."""
    data = codec.decode_bytes([token])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def spelled_table(codec: Codec, top: Iterable[tuple[int, float]]) -> dict[str, float]:
    """Return log-probabilities by spelling; of two tokens with the same bytes, the less likely is `token_id:7`."""
    table: dict[str, float] = {}
    for token, log_prob in top:
        name = spelling(codec, token)
        table[f"token_id:{token}" if name in table else name] = finite(log_prob)
    return table


def finite(log_prob: float) -> float:
    """Return a log-probability that JSON knows; that of an impossible token is -9999, as OpenAI writes it."""
    return max(log_prob, -9999.0)
