"""Watch a run that trains: its curve and its samples as they come, and a film of its heads over the checkpoints.

A thread reads what is new, so that a request only hands out what is there. Old checkpoints are removed while a run
trains; the film keeps what was seen of each.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, RunError
from nanotx.files import open_regular
from nanotx.generation import Sampling
from nanotx.generation.engine import BatchEngine
from nanotx.lens.capture import capture
from nanotx.lens.induction import head_scores
from nanotx.lens.look import attention_maps
from nanotx.runs.folder import RunFolder
from nanotx.runs.load import LoadedRun, load
from nanotx.runs.metrics_log import LONGEST, Row, row_of
from nanotx.serve.run import ServedRun, spelling

SECONDS = 1.0
"""Time between two looks at the folder of a run."""

READ_AT_ONCE = 1 << 23
"""Bytes of the metrics log that are read in one look."""

MOST_POINTS = 100_000
"""Most points of a curve; beyond these, every second one is dropped."""

MOST_SENT = 4000
"""Most points in one answer."""

MOST_SAMPLE = 2000
"""Most characters of a sample on the page."""

MOST_FRAMES = 48
"""Most frames of a film; beyond these, every second one is dropped."""

MOST_FILMED = 48
"""Most tokens of the text of a film."""

MOST_WEIGHTS = 100_000
"""Most attention weights in a frame; heads of later layers are left out beyond these."""


class GrowingLog:
    """Reads the rows of a metrics log as they come, each once; begins anew where the file was replaced or cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarts = 0
        self._offset, self._file, self._rest = 0, (0, 0), b""

    def new_rows(self) -> list[Row]:
        """Return the rows that were added; lines that are not rows are skipped."""
        try:
            with open_regular(self.path) as stream:
                status = self.path.stat()
                if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
                    self.restarts += self._offset > 0
                    self._offset, self._rest = 0, b""
                    self._file = (status.st_dev, status.st_ino)
                stream.seek(self._offset)
                data = stream.read(READ_AT_ONCE)
        except OSError:  # it is not there yet
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            self._rest = b""
        rows = (row_of(line.decode("utf-8", "replace") + "\n") for line in lines)
        return [row for row in rows if row is not None]


class Watch:
    """What is seen of a run in training.

    Args:
        run: the run, which gets each new checkpoint.
        prompt: the text of the film; an empty one is text of the first checkpoint, twice over, which shows the heads
            that continue what they have seen before.
    """

    def __init__(self, run: ServedRun, prompt: str = "") -> None:
        self.run, self.prompt = run, prompt
        self.log = GrowingLog(RunFolder(Path(run.folder)).metrics)
        self.lock = threading.Lock()
        """Held while what is handed out changes."""
        self.points: list[list[Any]] = []  # ["loss", step, loss], ["eval", step, loss], ["sample", step, text], ...
        self.frames: list[dict[str, Any]] = []
        self.versions = [0, 0]  # of the points and of the frames, raised where their places change
        self.film_ids: list[int] = []
        self.seen_steps: set[int] = set()
        self.problem = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def since(self, version: Sequence[int], after: Sequence[int]) -> dict[str, Any]:
        """Return what is new.

        Args:
            version: of the points and of the frames that the page has.
            after: how many of each it has.
        """
        with self.lock:
            points, frames = (
                count if known == own else 0 for count, known, own in zip(after, version, self.versions, strict=True)
            )
            sent = self.points[points : points + MOST_SENT]
            film = self.frames[frames : frames + 1]
            return {
                "version": list(self.versions),
                "from": [points, frames],
                "points": sent,
                "frames": film,
                "more": points + len(sent) < len(self.points) or frames + len(film) < len(self.frames),
                "film": self.film_text(),
                "problem": self.problem,
            }

    def film_text(self) -> list[str]:
        """Return the tokens of the film's text; none before the first checkpoint."""
        codec = self.run.newest.tokenizer if self.run.newest is not None else None
        return [spelling(codec, token) for token in self.film_ids] if codec is not None else []

    def _watch(self) -> None:
        while not self._stopped.is_set():
            try:
                self.update()
            except Exception as error:  # what cannot be read now may be readable later
                self.problem = str(error)[:400]
            self._stopped.wait(SECONDS)

    def update(self) -> None:
        """Read what is new in the folder.

        Raises:
            NanotxError: a checkpoint cannot be read.
        """
        self.problem = ""
        while rows := self.log.new_rows():
            self._add_rows(rows)
        for step in reversed(self.run.saved_steps()):
            if step not in self.seen_steps and not self._stopped.is_set():
                self.seen_steps.add(step)
                self._add_checkpoint(step)

    def _add_rows(self, rows: Sequence[Row]) -> None:
        points = [point for row in rows if (point := point_of(row)) is not None]
        with self.lock:
            if self.log.restarts > self.versions[0]:
                self.versions[0] = self.log.restarts
                self.points.clear()
            self.points += points
            if len(self.points) > MOST_POINTS:
                self.points = [point for place, point in enumerate(self.points) if place % 2 or point[0] != "loss"]
                self.log.restarts = self.versions[0] = self.versions[0] + 1

    def _add_checkpoint(self, step: int) -> None:
        loaded = self.run.newest
        if loaded is None or loaded.step != step:
            try:
                loaded = load(self.run.folder, step)
            except RunError as error:  # it was removed since, or does not verify
                self.problem = str(error)[:400]
                return
            loaded.model.to(self.run.device)
            if self.run.newest is None or step > self.run.newest.step:
                self.run.newest = loaded
        frame = self._frame(loaded)
        with self.lock:
            self.frames.append(frame)
            if len(self.frames) > MOST_FRAMES:
                self.frames = self.frames[-1::-2][::-1]
                self.versions[1] += 1

    def _frame(self, loaded: LoadedRun) -> dict[str, Any]:
        """Return the maps of the heads on the text of the film, in hundredths, and their scores."""
        if not self.film_ids:
            self.film_ids = film_ids(loaded, self.prompt)
        with self.run.lock:
            with capture(loaded.model, self.film_ids) as c:
                maps, _ = attention_maps(loaded.model, c)
            scores = {}
            with suppress(ConfigError):  # the context is too short to repeat anything
                scores = {score.head: [score.induction, score.previous] for score in head_scores(loaded.model)}
        size = len(self.film_ids)
        shown = islice(maps.items(), max(1, 2 * MOST_WEIGHTS // (size * (size + 1))))
        return {
            "step": loaded.step,
            "maps": {
                head: [[round(100 * weight) for weight in row[: place + 1]] for place, row in enumerate(rows.tolist())]
                for head, rows in shown
            },
            "scores": {head: [round(number, 3) for number in pair] for head, pair in scores.items()},
        }


def point_of(row: Row) -> list[Any] | None:
    """Return what the page shows of a row of the metrics log; None for nothing."""
    event, step = row["event"], row["step"]
    if event == "step":
        return ["loss", step, row["loss"]]
    if event == "eval":
        return ["eval", step, row["val_loss"]]
    if event == "sample":
        return ["sample", step, row["text"][:MOST_SAMPLE]]
    if event in ("start", "resume"):
        return [event, step, row["steps"]]
    return ["end", step, None] if event == "end" else None


def film_ids(loaded: LoadedRun, prompt: str) -> list[int]:
    """Return the ids of the text of a film: a prompt, or a text of the run's own, twice over."""
    most = min(MOST_FILMED, loaded.model.context)
    if prompt and (ids := loaded.tokenizer.encode(prompt).tolist()[-most:]):
        return [int(token) for token in ids]
    sampling = Sampling(temperature=1.0).with_banned(loaded.tokenizer.undefined_ids)
    device = next(loaded.model.parameters()).device
    half = BatchEngine(loaded.model, [[loaded.tokenizer.start]], sampling, max(1, most // 2), device=device).run()[0]
    return [*half, *half][:most]
