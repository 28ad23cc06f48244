"""The parts that bindings share beside I/O: homes of runs, calls, pools, the order of a
shutdown."""

from __future__ import annotations
