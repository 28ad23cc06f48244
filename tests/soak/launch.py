"""Serves the runtime of the soak with one server file of the conformance suite, as its launcher."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    from conformance.launch import launch
    from soak.runtime import make_runtime

    launch(make_runtime)
