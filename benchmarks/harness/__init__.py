"""What the benchmarks share: laws before times, times taken interleaved, rows of figures, tables and JSON."""

from typing import Any

Row = dict[str, Any]
"""One line of results, by the names of its fields; what is not known is None."""
