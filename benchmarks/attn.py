"""How fast attentions are: every registered one, and two peers from outside; first the laws, then the time.

python benchmarks/attn.py --device cpu --json benchmarks/results/attn-cpu.json --plot benchmarks/results/attn-cpu.svg
python benchmarks/attn.py --device cpu,cuda --load mine.py --parts mine,sdpa
python benchmarks/attn.py --merge attn-cpu.json attn-cuda.json
"""

from harness.comparison import PartFlags
from harness.parts import read_flags, run

from nanotx.cli.entry import run_and_exit


def main() -> int:
    """Compare attentions."""
    return run(read_flags(PartFlags, "attn.py"), ("attention",))


if __name__ == "__main__":
    run_and_exit(main)
