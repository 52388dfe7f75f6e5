"""How fast the other layers are: feed-forwards, blocks, norms, and positions within an `sdpa`; first the laws.

python benchmarks/layers.py --device cpu --json benchmarks/results/layers-cpu.json
python benchmarks/layers.py --slots ffn,norm --load mine.py
"""

from dataclasses import dataclass

from harness.parts import Flags, read_flags, run

from nanotx.cli.entry import run_and_exit
from nanotx.errors import ConfigError, did_you_mean

SLOTS = ("ffn", "block", "norm", "position")


@dataclass(frozen=True, kw_only=True)
class LayerFlags(Flags):
    """Times every registered part that obeys its laws on this very device and in this dtype, and no other."""

    slots: str = ",".join(SLOTS)  # which slots
    shapes: str = "laptop,baby,1k,4k"  # some of laptop,baby,baby_64,1k,2k,4k,8k and on a GPU 16k,32k; or all
    seconds: float = 2.0  # after which no round begins, for one shape and pass; there are three at least


def choose_slots(words: str) -> tuple[str, ...]:
    """Return the slots with these names, separated by commas.

    Raises:
        ConfigError: an unknown name.
    """
    names = [word.strip() for word in words.split(",")]
    for name in names:
        if name not in SLOTS:
            raise ConfigError(f"slots: no slot {name!r}.{did_you_mean(name, SLOTS)} Known: {', '.join(SLOTS)}.")
    return tuple(slot for slot in SLOTS if slot in names)


def main() -> int:
    """Compare layers."""
    flags = read_flags(LayerFlags, "layers.py")
    return run(flags, choose_slots(flags.slots))


if __name__ == "__main__":
    run_and_exit(main)
