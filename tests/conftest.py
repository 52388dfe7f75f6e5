"""What every test relies on: hypothesis' three profiles, and quiet, small torch."""

import os

import torch
from hypothesis import HealthCheck, settings

slow = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=slow)
settings.register_profile("ci", max_examples=20, deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("deep", max_examples=1000, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

torch.set_num_threads(1)  # the tests run side by side
