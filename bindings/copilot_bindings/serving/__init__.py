"""What bindings share beside their I/O: homes of runs, calls, pools, the order of a shutdown."""

from __future__ import annotations
