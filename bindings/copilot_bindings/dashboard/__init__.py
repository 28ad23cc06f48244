"""The page that ``sansio-copilot dashboard`` serves: a runtime's metrics as charts.

The command itself reads the metrics, because no CORS policy allows a page to: a runtime's probes
and metrics are for machines. The readings of the last minutes are kept, and each page asks for
them.
"""

from __future__ import annotations

from .app import build_dashboard
from .exposition import NotMetrics
from .source import Away, Source

__all__ = ["Away", "NotMetrics", "Source", "build_dashboard"]
