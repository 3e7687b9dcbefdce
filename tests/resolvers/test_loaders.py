"""Loaders live in one request, read by its scope layer alone, and refuse any other."""

import asyncio
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest

from permissions.principal import Principal
from resolvers.context import Context, UnscopedRead
from resolvers.errors import Forbidden
from sources.layers.reads import scoped_by
from sources.layers.scope import ScopedSources
from sources.ports.common import Page, Ref
from tests.door import Door

PARENT = Ref("hubspot", "1")


async def context(door: Door, *scopes: str, organisation: str = "harbour") -> Context:
    caller = Principal("x", None, None, (), frozenset(scopes), organisation, (organisation,))
    return await door.office.context(caller)


def loads(context: Context, read: Any) -> list[Callable[[], Any]]:
    """Every way in which a resolver can ask by a read."""
    return [
        lambda: context.record("account", read, PARENT),
        lambda: context.page(read, "query", "order", PARENT),
        lambda: context.value(read, PARENT),
        lambda: context.listing(read, "query", "order"),
    ]


async def test_what_is_no_read_of_the_scope_layer_is_refused(door: Door) -> None:
    mine = await context(door, "accounts:read")

    async def free(refs: Any, *_: Any) -> Any:
        return [None for _ in refs]

    crm = door.office.backoffice.crm
    for read in (
        free,
        crm.accounts,
        crm.find_accounts,
        ScopedSources.accounts,
        mine.sources._own_accounts,
        mine.release,
    ):
        for load in loads(mine, read):
            with pytest.raises(UnscopedRead):
                load()
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_another_requests_reads_are_refused(door: Door) -> None:
    mine, other = (
        await context(door, "accounts:read"),
        await context(door, "accounts:read", organisation="moeller"),
    )

    for read in (other.sources.accounts, other.books.members):
        for load in loads(mine, read):
            with pytest.raises(UnscopedRead, match="not a marked read of this request's scope layer"):
                load()


async def test_a_request_that_is_answered_loads_nothing_more(door: Door) -> None:
    mine = await context(door, "accounts:read")
    mine.release()

    for load in loads(mine, mine.sources.accounts):
        with pytest.raises(UnscopedRead, match="the request is answered"):
            load()


async def test_what_a_request_was_about_to_read_when_it_was_answered_is_not_read(door: Door) -> None:
    mine = await context(door, "accounts:read")
    asked: list[Ref] = []

    @scoped_by("account", gives="Account")
    async def accounts(sources: ScopedSources, refs: list[Ref]) -> list[None]:
        asked.extend(refs)
        return [None for _ in refs]

    for answered in (False, True):
        mine.record(f"account, {answered}", MethodType(accounts, mine.sources), PARENT)
        if answered:
            mine.release()
        for _ in range(5):
            await asyncio.sleep(0)
    assert asked == [PARENT]


async def test_a_read_that_only_changes_something_gives_no_loader_records(door: Door) -> None:
    mine = await context(door, "members:read", "members:write")

    with pytest.raises(UnscopedRead):
        mine.value(mine.books.note_delivery, PARENT)


async def test_a_type_that_is_closed_to_the_caller_is_not_read_for_a_count_either(door: Door) -> None:
    mine = await context(door, "accounts:read")

    for read in (mine.sources.open_ticket_counts_of, mine.sources.tickets_of, mine.sources.tickets):
        with pytest.raises(Forbidden) as refused:
            mine.value(read, PARENT)
        assert (str(refused.value), refused.value.missing) == (
            "Ticket needs tickets:read",
            [["tickets:read"]],
        )
    assert door.calls() == {"hubspot": 0, "xero": 0, "zendesk": 0, "s3": 0}


async def test_an_empty_page_needs_no_read(door: Door) -> None:
    mine = await context(door)

    assert mine.nothing("accounts").page == Page((), ())
