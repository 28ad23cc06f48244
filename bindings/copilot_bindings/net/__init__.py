"""Sockets of the operating system: how to listen, and what a client has taken."""

from __future__ import annotations
