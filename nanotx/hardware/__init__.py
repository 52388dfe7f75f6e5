"""The machine: device, dtype, number of threads, and limits."""
