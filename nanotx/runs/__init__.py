"""Run folders: checkpoints, the metrics log, resuming, verification and replay."""
