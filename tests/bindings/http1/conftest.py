"""Settings of the tests of HTTP/1.1."""

import support.profile  # noqa: F401
