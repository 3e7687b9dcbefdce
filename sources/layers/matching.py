"""Finding an account's counterpart in another system, without ever guessing.

In this order: the id that staff declared in the CRM, then each configured criterion (the firm's id written into the other
system, the customer number, the e-mail domain). The first that finds anything decides. It decides for a match only when
it is alone on both sides: one candidate there that names no other account, and no other account here with the same value.
Everything else is ambiguous, is kept with its candidates, and waits for staff.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from sources.layers.free_mail import FREE_MAIL
from sources.ports.common import Criterion, CustomerRecord, Ref
from sources.ports.crm import AccountRecord, Crm
from sources.ports.errors import AmbiguousMatch, SourceError, Unmatched
from sources.ports.links import SETTLED, Link, LinkState, LinkStore

_MOST_MERGES = 5
"""A record merged into one that was merged into another, and so on."""


class CustomerSource(Protocol):
    """What matching needs of any port other than the CRM."""

    name: str

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]: ...

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]: ...


class MatchingRules(msgspec.Struct, frozen=True):
    """How the accounts of one source are matched."""

    criteria: tuple[Criterion, ...] = (Criterion.EXTERNAL_ID, Criterion.NUMBER, Criterion.EMAIL_DOMAIN)
    shared_domains: frozenset[str] = FREE_MAIL
    """E-mail domains that belong to nobody in particular and never match."""
    retry_unmatched: timedelta = timedelta(minutes=15)
    """How long UNMATCHED stands before the rules are tried again."""


class Matcher:
    """Gives counterparts from the ledger, and matches the accounts that were never looked at."""

    def __init__(self, crm: Crm, links: LinkStore, rules: Mapping[str, MatchingRules] | None = None) -> None:
        self._crm = crm
        self._links = links
        self._rules = rules or {}

    async def counterparts(
        self, accounts: Sequence[Ref], source: CustomerSource
    ) -> Sequence[Ref | SourceError | None]:
        """In the order asked: the counterpart, the reason why there is none to show, or None where staff say that the
        account has none. One query when all are known."""
        links = await self._links.links_of(accounts, source.name)
        # Nearly always all of them are settled, which takes no call for each.
        known = [link.counterpart for link in links if link is not None and link.state in SETTLED]
        if len(known) == len(accounts):
            return known
        new = list(
            dict.fromkeys(a for a, link in zip(accounts, links, strict=True) if self._open(link, source))
        )
        if new:
            found = {link.account: link for link in await self.match(new, source)}
            links = [found.get(account, link) for account, link in zip(accounts, links, strict=True)]
        return [_outcome(link, source.name) for link in links]

    async def owners(self, counterparts: Sequence[Ref]) -> Sequence[Ref | None]:
        """The accounts of these counterparts, where a link is known."""
        return await self._links.accounts_of(counterparts)

    async def match(self, accounts: Sequence[Ref], source: CustomerSource) -> Sequence[Link]:
        """Applies the rules to these accounts and stores the outcome. An account that was merged away has no counterpart
        any more: its survivor has. Raises SourceError when a system that the rules need does not answer: nothing is
        stored then."""
        rules = self._rules.get(source.name, MatchingRules())
        records = {
            ref: record
            for ref, record in zip(accounts, await self._crm.accounts(accounts), strict=True)
            if record and record.ref == ref
        }
        decided: dict[Ref, Link] = {}

        declared = {
            ref: record.declared[source.name]
            for ref, record in records.items()
            if source.name in record.declared
        }
        await self._decide(decided, records, declared, source, f"declared:{source.name}", self._by_id(source))
        for criterion in rules.criteria:
            values = {
                ref: value
                for ref, record in records.items()
                if ref not in decided and (value := _value(record, criterion, rules)) is not None
            }
            attribute = "domain" if criterion is Criterion.EMAIL_DOMAIN else "number"
            await self._decide(
                decided, records, values, source, attribute, _by(source, criterion), criterion, rules
            )
        await self._release(records.values(), source)
        now = datetime.now(UTC)
        for ref in accounts:
            decided.setdefault(ref, Link(ref, source.name, LinkState.UNMATCHED))
        return await self._links.record(
            [msgspec.structs.replace(decided[ref], updated_at=now) for ref in accounts]
        )

    async def _decide(
        self,
        decided: dict[Ref, Link],
        records: Mapping[Ref, AccountRecord],
        values: Mapping[Ref, str],
        source: CustomerSource,
        attribute: str,
        find: Callable[[Sequence[str]], Awaitable[Sequence[Sequence[CustomerRecord]]]],
        criterion: Criterion | None = None,
        rules: MatchingRules | None = None,
    ) -> None:
        """Adds to ``decided`` what this one rule settles."""
        if not values:
            return
        distinct = sorted(set(values.values()))
        hits = dict(zip(distinct, await find(distinct), strict=True))
        hits = {value: await self._living(found, source) for value, found in hits.items() if found}
        hits = {value: found for value, found in hits.items() if found}
        if not hits:
            return
        claims = {value: {value} for value in hits}
        if criterion is Criterion.EMAIL_DOMAIN and rules:
            # A counterpart with people at several companies is as much the other companies'.
            for value, found in hits.items():
                claims[value].update(domain for one in found for domain in one.domains)
                claims[value] -= rules.shared_domains
        asked = sorted(set().union(*claims.values()))
        sharing = dict(zip(asked, await self._crm.accounts_sharing(attribute, asked), strict=True))
        bearers = await self._bearers(values, records, hits) if criterion is None else {}
        for ref, value in values.items():
            if value not in hits:
                continue
            evidence = criterion.value if criterion else "declared in the CRM"
            candidates = tuple(dict.fromkeys(customer.ref for customer in hits[value]))
            others = {other.ref for claim in claims[value] for other in sharing[claim]}
            others |= bearers.get(value, set())
            alone = len(candidates) == 1 and others <= {ref}
            if alone and (criterion is None or _claimed_by(hits[value][0], records[ref])):
                decided[ref] = Link(ref, source.name, LinkState.MATCHED, candidates[0], evidence)
            else:
                decided[ref] = Link(
                    ref, source.name, LinkState.AMBIGUOUS, evidence=evidence, candidates=candidates
                )

    async def _bearers(
        self,
        values: Mapping[Ref, str],
        records: Mapping[Ref, AccountRecord],
        hits: Mapping[str, Sequence[CustomerRecord]],
    ) -> dict[str, set[Ref]]:
        """The accounts whose numbers the declared counterparts carry: a slip of the pen in the CRM must not show one
        customer another's records. A number that no account has says nothing."""
        marks: dict[str, set[str]] = {}
        for ref, value in values.items():
            for one in hits.get(value, ()):
                found = {one.external_id, one.number} - {None, "", records[ref].number}
                marks.setdefault(value, set()).update(mark for mark in found if mark)
        asked = sorted(set().union(*marks.values()))
        if not asked:
            return {}
        accounts = dict(zip(asked, await self._crm.accounts_sharing("number", asked), strict=True))
        return {
            value: {account.ref for mark in found for account in accounts[mark]}
            for value, found in marks.items()
        }

    async def _release(self, survivors: Iterable[AccountRecord], source: CustomerSource) -> None:
        """What rules found for accounts that were merged away stands in their survivors' way; staff's word stays."""
        merged = [Ref(record.ref.source, old) for record in survivors for old in record.merged_ids]
        for link in await self._links.links_of(merged, source.name) if merged else ():
            if link and link.state in (LinkState.MATCHED, LinkState.AMBIGUOUS):
                await self._links.forget(link.account, source.name)

    async def _living(
        self, found: Sequence[CustomerRecord], source: CustomerSource
    ) -> Sequence[CustomerRecord]:
        """Merged records give way to their survivors; archived ones that were not merged stay."""
        living: dict[Ref, CustomerRecord] = {}
        for _ in range(_MOST_MERGES):
            living.update((customer.ref, customer) for customer in found if not customer.merged_into)
            merged = [customer.merged_into for customer in found if customer.merged_into]
            if not merged:
                break
            found = [customer for customer in await source.customers(merged) if customer]
        return list(living.values())

    def _by_id(
        self, source: CustomerSource
    ) -> Callable[[Sequence[str]], Awaitable[Sequence[Sequence[CustomerRecord]]]]:
        async def find(values: Sequence[str]) -> Sequence[Sequence[CustomerRecord]]:
            found = await source.customers([Ref(source.name, value) for value in values])
            return [[customer] if customer else [] for customer in found]

        return find

    def _open(self, link: Link | None, source: CustomerSource) -> bool:
        """Is it time to apply the rules?"""
        if link is None:
            return True
        if link.state is not LinkState.UNMATCHED or link.updated_at is None:
            return False
        rules = self._rules.get(source.name, MatchingRules())
        return link.updated_at + rules.retry_unmatched < datetime.now(UTC)


def _by(
    source: CustomerSource, criterion: Criterion
) -> Callable[[Sequence[str]], Awaitable[Sequence[Sequence[CustomerRecord]]]]:
    async def find(values: Sequence[str]) -> Sequence[Sequence[CustomerRecord]]:
        return await source.customers_by(criterion, values)

    return find


def _value(record: AccountRecord, criterion: Criterion, rules: MatchingRules) -> str | None:
    if criterion is not Criterion.EMAIL_DOMAIN:
        return record.number or None
    return record.domain if record.domain and record.domain not in rules.shared_domains else None


def _claimed_by(customer: CustomerRecord, account: AccountRecord) -> bool:
    """Does nothing on the counterpart name a different account? A number or id that is not this account's does."""
    return all(mark in (None, "", account.number) for mark in (customer.external_id, customer.number))


def _outcome(link: Link | None, source: str) -> Ref | SourceError | None:
    if link is None or link.state is LinkState.UNMATCHED:
        return Unmatched(source, "the account has no known counterpart here; see `gateway links`")
    if link.state is LinkState.AMBIGUOUS:
        return AmbiguousMatch(
            source, "the account's counterpart is not certain; confirm one with `gateway links`"
        )
    return link.counterpart
