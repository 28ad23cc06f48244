"""Sockets of the operating system: listening, running out of them, and progress of a client."""

from __future__ import annotations
