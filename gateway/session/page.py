"""The few plain pages that the gateway shows to people: a choice, or one line of what went wrong. Nothing but HTML."""

from collections.abc import Sequence
from html import escape

from starlette.responses import HTMLResponse

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page(
    title: str, text: str = "", links: Sequence[tuple[str, str]] = (), status: int = 200
) -> HTMLResponse:
    """``links`` are addresses and what they are called. Everything is escaped."""
    items = "".join(f'<li><a href="{escape(address)}">{escape(name)}</a></li>' for address, name in links)
    return HTMLResponse(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title></head><body><main><h1>{escape(title)}</h1>"
        + (f"<p>{escape(text)}</p>" if text else "")
        + (f"<ul>{items}</ul>" if items else "")
        + "</main></body></html>\n",
        status,
        _HEADERS,
    )
