"""The headers that every answer carries, whoever makes it: what a browser may do with it.

A page of ours loads its own style and picture and sends its form back; anything else loads and
does nothing. Nobody frames us, learns from where our readers come, or keeps what does not say that
it may be kept.
"""

from __future__ import annotations

Headers = list[tuple[bytes, bytes]]

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The content security policy of what is no page: data, problems, streams."""
PAGE = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
"""The content security policy of a page."""
FEATURES = (
    *("accelerometer", "autoplay", "bluetooth", "browsing-topics", "camera", "clipboard-read"),
    *("clipboard-write", "display-capture", "encrypted-media", "fullscreen", "geolocation"),
    *("gyroscope", "hid", "identity-credentials-get", "idle-detection", "local-fonts"),
    *("magnetometer", "microphone", "midi", "payment", "picture-in-picture"),
    *("publickey-credentials-get", "screen-wake-lock", "serial", "storage-access", "usb"),
    *("web-share", "xr-spatial-tracking"),
)
"""What a page could ask of a browser, and none of ours does."""
ALWAYS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", NOTHING.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", ", ".join(f"{one}=()" for one in FEATURES).encode()),
    (b"cache-control", b"private, no-store"),
]
"""Set on every answer that does not set them itself."""
SHARED: Headers = [(b"cross-origin-resource-policy", b"cross-origin")]
"""In place of ours where pages of other origins may read (`api/origins.py`)."""


def always(*, shared: bool = False, hsts_seconds: int = 0) -> Headers:
    """The headers of an answer. `hsts_seconds`: for so long only by TLS (RFC 6797); 0: not said."""
    found = [*ALWAYS]
    if shared:
        names = {name for name, _ in SHARED}
        found = [one for one in found if one[0] not in names] + SHARED
    if hsts_seconds:
        found.append((b"strict-transport-security", b"max-age=%d" % hsts_seconds))
    return found
