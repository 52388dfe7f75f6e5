"""Training in another process, whose strings hash differently, so that a result that depends on set order differs."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from reprlib import repr as brief
from typing import Any

from nanotx.config.schema import to_table
from nanotx.errors import LawBroken
from nanotx.tokenizers import Tokenizer

CHILD = """
import json, sys
sys.path[:] = json.loads(sys.stdin.readline())
from nanotx.config.schema import from_table
from nanotx.config.registry import load_file
from nanotx.tokenizers import Tokenizer
for line in sys.stdin:
    request = json.loads(line)
    try:
        if request["config"]["part"] not in Tokenizer.names():
            load_file(request["file"])
        answer = {"table": from_table(Tokenizer, request["config"]).train(request["texts"]).to_dict()}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


def trains_alike_in_subprocess(config: Tokenizer, texts: Sequence[str]) -> None:
    """Raise LawBroken unless the same texts train the same tokenizer in another process, where set order differs.

    Args:
        config: the tokenizer's; its part has a file, from which the other process loads it.
        texts: the training texts.

    Raises:
        LawBroken: the other process trained another tokenizer; the message shows it.
    """
    here = json.loads(json.dumps(config.train(texts).to_dict()))
    there = _ask(
        {"config": to_table(config), "file": inspect.getfile(inspect.unwrap(type(config).train)), "texts": list(texts)}
    )
    if there != {"table": here}:
        raise LawBroken(
            f"trains_alike: {brief(list(texts))} taught {here}, and in another process {there.get('table', there)}."
        )


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    child = _child()
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(json.dumps(question) + "\n")
        child.stdin.flush()
        answer = child.stdout.readline()
    except OSError:
        answer = ""
    if not answer:
        _child.cache_clear()
        raise LawBroken(f"trains_alike: the other process ended with {child.wait()} while it learned.")
    return dict(json.loads(answer))


@lru_cache(maxsize=1)
def _child() -> subprocess.Popen[str]:
    """Return the child process of all cases; it ends with this process, when its input is closed."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", CHILD]
    child = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, encoding="utf-8")
    assert child.stdin is not None
    child.stdin.write(json.dumps(sys.path) + "\n")
    return child
