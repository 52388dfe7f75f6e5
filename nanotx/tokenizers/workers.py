"""A pool of worker processes that encode; each is a new interpreter, which loads the tokenizer from its table.

Workers are started as a command. A fork could copy a lock that another thread holds, and multiprocessing would run a
script without a `__main__` guard again.
"""

import inspect
import json
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BufferedReader
from itertools import accumulate, pairwise
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

import numpy as np

from nanotx.config.registry import load_file
from nanotx.errors import NanotxError, TextError
from nanotx.hardware.cpu import cores
from nanotx.hardware.memory import keep_freed_memory
from nanotx.tokenizers.base import Codec, Ids, Tokenizer, utf8
from nanotx.tokenizers.special_tokens import known_bytes

TASK_CHARACTERS = 1 << 20  # characters per task
CHARACTERS_PER_WORKER = 1 << 24  # characters that justify one more worker
SPLIT_POINT = re.compile("[A-Za-z](?=[ \n])")
CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline());"
    "from nanotx.tokenizers.workers import serve; serve(sys.stdin.buffer, sys.stdout.buffer)"
)


def encode_batch(codec: Codec, texts: Sequence[str], processes: int = 0) -> list[Ids]:
    """Encode several texts; see `Codec.encode_batch`."""
    processes = min(processes or cores(), sum(map(len, texts)) // CHARACTERS_PER_WORKER + 1)
    if processes == 1:
        return [codec.encode(text) for text in texts]
    pieces = [list(segments(text) if codec.splittable else [text]) for text in texts]
    with WorkerPool(codec, processes) as pool:
        try:
            rows = pool.encode(piece for parts in pieces for piece in parts)
            return [np.concatenate([np.empty(0, np.int32), *(next(rows) for _ in parts)]) for parts in pieces]
        except TextError:
            for text in texts:  # its error has the offset in the whole text
                codec.encode(text)
            raise


def segments(text: str) -> Iterator[str]:
    """Yield a text in segments of about `TASK_CHARACTERS` that end at split points; see `nanotx/data/text_files.py`."""
    at = 0
    while at < len(text):
        split = SPLIT_POINT.search(text, at + TASK_CHARACTERS)
        end = split.end() if split else len(text)
        yield text[at:end]
        at = end


class Encoded(NamedTuple):
    """What some texts are encoded to."""

    rows: Sequence[Ids]
    size: int  # UTF-8 bytes of the texts
    exact: bool  # whether the ids, <unk> aside, decode to the texts; True where a pool does not check it


def encode_checked(codec: Codec, data: Sequence[bytes], check: bool) -> Encoded:
    """Encode texts in UTF-8; with `check`, decode their ids and compare.

    Raises:
        TextError: a text holds something that the tokenizer cannot.
    """
    rows = [codec.encode(text.decode("utf-8")) for text in data]
    pairs = zip(rows, data, strict=True)
    exact = not check or all(not text or known_bytes(codec, ids, text) > 0 for ids, text in pairs)
    return Encoded(rows, sum(map(len, data)), exact)


class WorkerPool:
    """A pool of processes that encode texts in order; a pool of one is this process itself.

    Args:
        codec: the tokenizer.
        processes: how many.
        check: decode the ids of every text, and compare.
    """

    def __init__(self, codec: Codec, processes: int, check: bool = False) -> None:
        self.processes, self.codec, self.check = processes, codec, check
        if processes == 1:  # this process
            processes = 0
        setup = {"part": codec.part, "table": codec.to_dict(), "file": inspect.getfile(type(codec)), "check": check}
        hello = f"{json.dumps(sys.path)}\n{json.dumps(setup)}\n".encode()
        self._children = [
            subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(processes)
        ]
        self._free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for child in self._children:
            _writer(child).write(hello)
            self._free.put(child)
        self._threads = ThreadPoolExecutor(max(processes, 1))

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            child.kill()
            child.wait()
            with suppress(OSError):  # what was never sent to it
                _writer(child).close()
            _reader(child).close()

    def encode(self, texts: Iterable[str]) -> Iterator[Ids]:
        """Yield the ids of each text in order; read only as many texts as keep the workers busy.

        Raises:
            TextError: a text holds something that the tokenizer cannot.
        """
        for encoded in self.encode_tasks(_tasks(texts) if self._children else ([text] for text in texts)):
            yield from encoded.rows

    def encode_tasks(self, tasks: Iterable[list[str]]) -> Iterator[Encoded]:
        """Yield what the texts of each task are encoded to, in order; a task is the work of one message to a worker.

        Raises:
            TextError: a text holds something that the tokenizer cannot.
        """
        if not self._children:
            for task in tasks:
                yield encode_checked(self.codec, [utf8("encode_batch", text) for text in task], self.check)
            return
        waiting: deque[Future[Encoded]] = deque()
        for task in tasks:
            waiting.append(self._threads.submit(self._send, task))
            if len(waiting) > 2 * self.processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _send(self, task: list[str]) -> Encoded:
        data = [utf8("encode_batch", text) for text in task]
        child = self._free.get()
        try:
            _write(_writer(child), list(map(len, data)), data)
            answer = json.loads(_reader(child).readline() or '"the process has ended"')
            if isinstance(answer, str):
                raise TextError(answer)
            *sizes, exact = answer
            ids = np.empty(sum(sizes), np.int32)
            if _reader(child).readinto(ids.data) != ids.nbytes:
                raise TextError("the process has ended")
        finally:
            self._free.put(child)
        rows = [ids[low:high] for low, high in pairwise(accumulate(sizes, initial=0))]
        return Encoded(rows, sum(map(len, data)), exact)


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """Run a worker until its standard input ends."""
    keep_freed_memory()  # each text needs the same large arrays again
    setup: dict[str, Any] = json.loads(orders.readline())
    if setup["part"] not in Tokenizer.names():
        load_file(setup["file"])
    codec = Tokenizer.find(setup["part"]).from_dict(setup["table"])
    while line := orders.readline():
        sizes = json.loads(line)
        data = orders.read(sum(sizes))
        texts = [data[low:high] for low, high in pairwise(accumulate(sizes, initial=0))]
        try:
            rows, _, exact = encode_checked(codec, texts, setup["check"])
        except NanotxError as error:
            answers.write(json.dumps(str(error)).encode() + b"\n")
        else:
            _write(answers, [*map(len, rows), exact], [np.ascontiguousarray(row, np.int32).data for row in rows])
        answers.flush()


def _tasks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Group short texts into tasks of a useful size."""
    task, size = list[str](), 0
    for text in texts:
        task.append(text)
        size += len(text)
        if size >= TASK_CHARACTERS:
            yield task
            task, size = [], 0
    if task:
        yield task


def _write(stream: IO[bytes], sizes: list[int], data: Iterable[bytes | memoryview]) -> None:
    stream.write(json.dumps(sizes).encode() + b"\n")
    for part in data:
        stream.write(part)
    stream.flush()


def _writer(child: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert child.stdin is not None
    return child.stdin


def _reader(child: "subprocess.Popen[bytes]") -> BufferedReader:
    assert isinstance(child.stdout, BufferedReader)
    return child.stdout
