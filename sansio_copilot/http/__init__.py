"""HTTP without I/O: messages, routes, CORS, forwarded headers, and how a request is refused."""

from __future__ import annotations

from .cors import CorsPolicy
from .forwarding import ForwardHeaders
from .messages import HeaderItems, Headers, Request, Response
from .routing import Route

__all__ = ["CorsPolicy", "ForwardHeaders", "HeaderItems", "Headers", "Request", "Response", "Route"]
