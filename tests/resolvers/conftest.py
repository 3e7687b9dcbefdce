"""The graph as programs meet it: through the `gql` client, which checks each query against the schema it fetched."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from gql import Client, GraphQLRequest
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportQueryError
from graphql import GraphQLSchema

from tests.door import Door


class Caller:
    """A signed-in client."""

    def __init__(self, session: Any, schema: GraphQLSchema) -> None:
        self._session, self.schema = session, schema

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer without errors."""
        answer: dict[str, Any] = await self._session.execute(GraphQLRequest(query, variable_values=variables))
        return answer

    async def refusals(self, query: str, **variables: Any) -> list[tuple[str, str, str]]:
        """(path, code, message) of each error of an answer that has some."""
        with pytest.raises(TransportQueryError) as caught:
            await self.ask(query, **variables)
        return [
            (".".join(map(str, error.get("path", ()))), error["extensions"]["code"], error["message"])
            for error in caught.value.errors or ()
        ]

    async def partly(self, query: str, **variables: Any) -> tuple[Any, list[tuple[str, str]]]:
        """The data of an answer that has errors, and (path, code) of each of them."""
        with pytest.raises(TransportQueryError) as caught:
            await self.ask(query, **variables)
        return caught.value.data, [
            (".".join(map(str, error.get("path", ()))), error["extensions"]["code"])
            for error in caught.value.errors or ()
        ]


Callers = Mapping[str, Caller]


@pytest_asyncio.fixture(scope="session")
async def callers(running_door: Door) -> AsyncIterator[Callers]:
    """The personas that these tests need."""
    found: dict[str, Caller] = {}
    schema = None
    async with AsyncExitStack() as stack:
        for persona in (
            "owner-harbour",
            "owner-moeller",
            "finance-harbour",
            "standard-harbour",
            "support",
            "admin",
        ):
            transport = AIOHTTPTransport(
                f"{running_door.url}/graphql",
                headers={"Authorization": f"Bearer {running_door.issuer.token(persona)}"},
            )
            client = (
                Client(transport=transport, schema=schema)
                if schema
                else Client(transport=transport, fetch_schema_from_transport=True)
            )
            session = await stack.enter_async_context(client)
            schema = client.schema
            assert schema is not None
            found[persona] = Caller(session, schema)
        yield found


@pytest.fixture
def owner(callers: Callers) -> Caller:
    """The owner at the first customer."""
    return callers["owner-harbour"]


@pytest.fixture
def admin(callers: Callers) -> Caller:
    """Somebody of the firm who sees everything."""
    return callers["admin"]
