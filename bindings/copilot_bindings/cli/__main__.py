"""``python -m copilot_bindings.cli``, where the command itself is not on the path."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
