"""Hypothesis's settings, for the conftest.py of each folder whose tests use it.

They are not in the one of all tests, because to import Hypothesis takes most of a second in each of
the processes that run tests, and half of those have no use for it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The profile has no deadline, because timings never decide a test. It is built on the current
# profile, which in CI is Hypothesis's own for CI, with the same examples each time.
settings.register_profile(
    "project",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")
