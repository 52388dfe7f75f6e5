"""What the benchmarks share: machines, times taken in turns, laws asked before them, tables and JSON."""
