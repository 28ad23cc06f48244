"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Timings never decide a test. Built on the profile that is current, which in CI is Hypothesis's own
# for CI: the same examples each time.
settings.register_profile(
    "project",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")
