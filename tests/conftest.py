"""What every test relies on: hypothesis' three profiles, and quiet, small torch."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

slow = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=slow)
settings.register_profile("ci", max_examples=12, deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("deep", max_examples=1000, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

torch.set_num_threads(1)  # the tests run side by side


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `slow` run wherever nobody waits for an answer within minutes: everywhere but in CI."""
    if os.environ.get("CI") and os.environ.get("HYPOTHESIS_PROFILE") != "deep":
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: runs without CI, or with HYPOTHESIS_PROFILE=deep"))
