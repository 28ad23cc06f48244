"""The page that ``sansio-copilot dashboard`` serves: what a runtime's metrics tell, as charts.

The command asks for the metrics, and not the page, which no CORS policy lets do that: a runtime's
probes and metrics are for machines. What the command has read is kept for some minutes, bounded,
and each page asks for that.
"""

from __future__ import annotations

from .app import build_dashboard
from .exposition import NotMetrics
from .source import Away, Source

__all__ = ["Away", "NotMetrics", "Source", "build_dashboard"]
