"""How fast the other layers are: feed-forwards, blocks, norms, and positions within an `sdpa`; first the laws.

python benchmarks/layers.py --device cpu --json benchmarks/results/layers-cpu.json
python benchmarks/layers.py --slots ffn,norm --load mine.py
"""

from dataclasses import dataclass

from harness.comparison import PartFlags
from harness.parts import read_flags, run
from harness.report import known_names

from nanotx.cli.entry import run_and_exit

SLOTS = ("ffn", "block", "norm", "position")


@dataclass(frozen=True, kw_only=True)
class LayerFlags(PartFlags):
    """Times every registered part that obeys its laws on this very device and in this dtype, and no other."""

    slots: str = ",".join(SLOTS)  # which slots
    shapes: str = "laptop,baby,1k,4k"  # some of laptop,baby,baby_64,1k,2k,4k,8k and on a GPU 16k,32k; or all
    seconds: float = 2.0  # after which no round begins, for one shape and pass; there are three at least


def main() -> int:
    """Compare layers."""
    flags = read_flags(LayerFlags, "layers.py")
    return run(flags, known_names("--slots", flags.slots, SLOTS))


if __name__ == "__main__":
    run_and_exit(main)
