"""Files that a vendor's records give an address for: on the vendor's own host, or on hosts that the settings list."""

from collections.abc import Sequence

from yarl import URL

from sources.ports.errors import SourceBadResponse
from sources.transport.http import Answer, HttpClient, NoAuth
from sources.transport.traffic import Traffic

REDIRECTS = (301, 302, 303, 307, 308)
MOST_HOPS = 3


class Downloads:
    """Credentials go to the host of ``http`` alone; other hosts are asked only where they are listed, ``.example.com``
    standing for every host below it."""

    def __init__(
        self, source: str, http: HttpClient, *, hosts: Sequence[str], elsewhere: Traffic, endpoint: str
    ) -> None:
        """``elsewhere``: by which other hosts are called."""
        self._source, self._http, self._hosts = source, http, hosts
        self._elsewhere, self._endpoint = elsewhere, endpoint

    async def fetch(self, address: str) -> Answer:
        """The file, or a 404. Raises SourceError; SourceBadResponse for an address that may not be asked."""
        url = self._url(address)
        for _ in range(MOST_HOPS):
            answer = await self._ask(url)
            if answer.status not in REDIRECTS:
                return answer
            url = self._url(answer.headers.get("location", ""), url)
        raise SourceBadResponse(self._source, "an attachment's address leads from redirect to redirect")

    async def _ask(self, url: URL) -> Answer:
        expect, headers = (200, 404, *REDIRECTS), {"Accept": "*/*"}
        home = URL(self._http.base_url)
        if url.origin() == home.origin():
            return await self._http.call(
                "GET",
                url.raw_path_qs,
                expect=expect,
                headers=headers,
                endpoint=self._endpoint,
                route="attachment",
            )
        listed = any(
            url.authority == host or (host.startswith(".") and (url.host or "").endswith(host))
            for host in self._hosts
        )
        if not listed or url.scheme != home.scheme:
            raise SourceBadResponse(
                self._source,
                f"an attachment lies on {url.host}; list it in attachment_hosts if it may be fetched there",
            )
        elsewhere = HttpClient(
            self._source, str(url.origin()), auth=NoAuth(), traffic=self._elsewhere, traced=False
        )
        try:
            return await elsewhere.call(
                "GET", url.raw_path_qs, expect=expect, headers=headers, route="attachment"
            )
        finally:
            await elsewhere.close()

    def _url(self, text: str, base: URL | None = None) -> URL:
        try:
            url = URL(text)
            url = base.join(url) if base is not None else url
            if url.scheme in ("http", "https") and url.host:
                return url
        except ValueError:
            pass
        raise SourceBadResponse(self._source, "an attachment's address is not one of the web")
