"""What the benchmarks share: machines, times taken interleaved, laws before times, tables and JSON."""

from typing import Any

Row = dict[str, Any]
"""One line of results, by the names of its fields; what is not known is None."""
