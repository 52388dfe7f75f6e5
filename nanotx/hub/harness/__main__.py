"""The command of lm-evaluation-harness, with `--model nanotx`; the other words are its own.

python -m nanotx.hub.harness --model nanotx --model_args run=runs/shakespeare_char-1 --tasks mine --include_path tasks
"""

import importlib.util
import sys

from nanotx.errors import NanotxError, printable


def main() -> int:
    """Run the harness, and return the exit code."""
    if not importlib.util.find_spec("lm_eval"):
        sys.stderr.write("nanotx.hub.harness: lm-eval is not installed here; try pip install lm-eval\n")
        return 2
    from lm_eval.__main__ import cli_evaluate  # seconds, and only this needs it

    import nanotx.hub.harness.model  # noqa: F401  registers the name

    try:
        cli_evaluate()
    except NanotxError as error:
        sys.stderr.write(f"nanotx.hub.harness: {printable(str(error))}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
