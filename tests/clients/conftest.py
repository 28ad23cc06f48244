"""Settings of the tests of the clients."""

import support.profile  # noqa: F401
