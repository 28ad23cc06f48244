"""The responses with pages of one file each, as the demo and the dashboard have them."""

from __future__ import annotations

import base64
import hashlib
import re


def page_headers(html: bytes) -> dict[str, str]:
    """The header fields of the response that is a page, whose script and style stand in it.

    :param html: the page, without attributes that are scripts or styles.
    """
    return {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "content-security-policy": _content_security_policy(html),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


def _content_security_policy(html: bytes) -> str:
    """The policy of the page: only its own script and style, and only requests to its own server.

    The script and the style are inline, so the policy names their hashes; 'unsafe-inline' would
    allow any other inline script too.
    """

    def hashes(tag: bytes) -> str:
        contents = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(content).digest()) for content in contents)
        return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)

    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes(b'script')}",
            f"style-src {hashes(b'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
