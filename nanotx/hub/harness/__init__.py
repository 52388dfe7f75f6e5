"""The harness of EleutherAI, lm-evaluation-harness, on any run."""
