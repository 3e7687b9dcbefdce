"""Small files with real content types: minimal valid PDFs and plain text, the same bytes every time."""

from __future__ import annotations

from functools import lru_cache


def paper(content_type: str, title: str, paragraphs: tuple[str, ...]) -> bytes:
    """200 to 2,000 bytes for a handful of short paragraphs."""
    if content_type == "application/pdf":
        return _pdf(title, paragraphs)
    if content_type == "text/csv":
        rows = [f"{number},{text.replace(',', ';')}" for number, text in enumerate(paragraphs, start=1)]
        return ("\r\n".join(["line,text", f"0,{title}", *rows]) + "\r\n").encode()
    return "\n\n".join([f"# {title}", *paragraphs, ""]).encode()


@lru_cache(maxsize=1024)
def attachment_content(attachment_id: int, file_name: str, content_type: str) -> bytes:
    return paper(content_type, file_name, (f"Attachment {attachment_id}.", "Sent with a helpdesk comment."))


def _pdf(title: str, paragraphs: tuple[str, ...]) -> bytes:
    """One A4 page in Helvetica: header, five objects, cross-reference table with true offsets, trailer."""
    shown = [_pdf_string(text) for text in (title, *paragraphs)]
    stream = b"BT /F1 11 Tf 56 780 Td 16 TL " + b" T* ".join(text + b" Tj" for text in shown) + b" ET"
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )
    out = bytearray(b"%PDF-1.4\n")
    offsets: list[int] = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % table
    return bytes(out)


def _pdf_string(text: str) -> bytes:
    """What WinAnsi cannot say becomes a question mark; fine for a sandbox's paper."""
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return b"(" + escaped.encode("cp1252", "replace") + b")"
