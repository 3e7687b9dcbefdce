"""The company's customers and their people, and how far each system agrees on who they are."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from uuid import UUID

from sources.sandbox.facts import Account, Contact, DuplicateOrganisation, MergedXeroContact
from sources.sandbox.words import (
    COMPANY_STEMS,
    COMPANY_TRADES,
    FIRST_NAMES,
    JOB_TITLES,
    LAST_NAMES,
    PLACE_WEIGHTS,
    PLACES,
    STREETS,
)

FULLY_MATCHED = (0, 1)
"""The demo's two customers: explicit ids everywhere and plenty of everything."""

GROUPS = {4: 2, 33: 32, 71: 70}
"""Subsidiary -> the account whose e-mail domain it shares. Neither has an explicit id in the ledger."""

_NO_DECOMPOSITION = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ß": "ss", "ı": "i", "İ": "I", "–": "-"}
)


def accounts(count: int, seed: int, today: date) -> tuple[Account, ...]:
    built: list[Account] = []
    for index in range(count):
        built.append(_account(index, seed, today, built))
    return tuple(built)


def duplicate_organisations(of: tuple[Account, ...]) -> tuple[DuplicateOrganisation, ...]:
    """A second helpdesk organisation for account 5 and every fortieth after it."""
    return tuple(
        DuplicateOrganisation(
            zendesk_org_id=account.zendesk_org_id + 500_000_000,
            account=account.index,
            name=f"{account.crm_name} (old)",
            domains=(account.domain,),
            created_at=account.created_at,
            updated_at=account.updated_at,
        )
        for account in of
        if _has_two_organisations(account.index) and account.zendesk_org_id is not None
    )


def contacts(account: Account, count: int, seed: int, today: date) -> tuple[Contact, ...]:
    """The first four are never archived; the first has a helpdesk user wherever the account is known there."""
    if count > 99:
        raise ValueError(f"account {account.index}: {count} contacts, at most 99 fit the id scheme")
    rng = Random(f"{seed}/contacts/{account.index}")
    return tuple(_contact(account, position, rng, today) for position in range(count))


def plain(text: str) -> str:
    """Without accents, as older systems write it; letters that have no plain form stay."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_NO_DECOMPOSITION))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def uuid_from(rng: Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def moment_between(rng: Random, start: datetime, end: datetime) -> datetime:
    """Whole seconds, the coarsest of the vendors' clocks; `start` where the span is empty."""
    return start + timedelta(seconds=rng.randint(0, max(0, int((end - start).total_seconds()))))


def morning(day: date) -> datetime:
    return datetime.combine(day, time(9), UTC)


def _account(index: int, seed: int, today: date, earlier: list[Account]) -> Account:
    rng = Random(f"{seed}/account/{index}")
    now = morning(today)
    number = f"C-{10001 + index}"
    place = rng.choices(PLACES, PLACE_WEIGHTS)[0]
    stem, slug = COMPANY_STEMS[index % len(COMPANY_STEMS)]
    trade, industry = COMPANY_TRADES[(index // len(COMPANY_STEMS) + index) % len(COMPANY_TRADES)]
    lap = index // (len(COMPANY_STEMS) * len(COMPANY_TRADES))
    base = f"{stem} {trade}" + (f" {lap + 1}" if lap else "")
    domain = f"{slug}-{trade.lower()}{lap + 1 if lap else ''}.example"
    if index == 0:
        place, base, domain, industry = (
            PLACES[0],
            "Harbour & Vale Provisions",
            "harbourvale.example",
            "Food and drink",
        )
    elif index == 1:
        place, base, domain = PLACES[4], "Møller & Großmann Präzision", "moeller-grossmann.example"
        industry = "Manufacturing"
    if index in GROUPS:
        base = f"{COMPANY_STEMS[GROUPS[index] % len(COMPANY_STEMS)][0]} {trade}"
        domain = earlier[GROUPS[index]].domain
    country, city, suffix, ledger_suffix, currency, _region, dialling, postcode = place
    crm_name = f"{base} {suffix}"
    created = moment_between(rng, now - timedelta(days=2200), now - timedelta(days=740))
    updated = moment_between(rng, now - timedelta(days=300), now)
    in_ledger = index < 8 or index % 13 != 9
    in_helpdesk = index != 3 and (index < 8 or index % 10 != 3)
    xero_id = uuid_from(rng) if in_ledger else None
    merged_xero = (
        (
            MergedXeroContact(
                uuid_from(rng), f"{base} (duplicate)", f"old@{domain}", created + timedelta(days=90)
            ),
        )
        if xero_id and index % 30 == 7
        else ()
    )
    declares, numbered, external = rng.random() < 0.62, rng.random() < 0.3, rng.random() < 0.74
    if index in FULLY_MATCHED:
        declares = numbered = external = True
    elif index in GROUPS or index in GROUPS.values():
        declares, numbered, external = False, False, index == 2
    elif merged_xero and index == 7:
        declares = True
    declared = xero_id if declares else None
    if index == 7 and merged_xero:
        declared = merged_xero[0].xero_contact_id
    ledger_base = base if index % 3 else plain(base).replace("&", "and")
    helpdesk_name = (crm_name, base, f"{crm_name} ", plain(base).upper(), f"{base.lower()} {suffix}")[
        index % 5
    ]
    return Account(
        index=index,
        account_number=number,
        crm_name=crm_name,
        erp_name=f"{plain(ledger_base) if index == 1 else ledger_base} {ledger_suffix}",
        helpdesk_name=helpdesk_name,
        domain=domain,
        phone=None if index > 1 and rng.random() < 0.2 else f"{dialling}{rng.randint(100, 999)}",
        city=city,
        country=country,
        street=f"{rng.randint(1, 180)} {rng.choice(STREETS)}",
        postcode=postcode,
        industry=industry,
        currency=currency,
        tier="gold" if index in FULLY_MATCHED else rng.choices(("gold", "silver", "bronze"), (2, 3, 5))[0],
        renewal_date=_renewal(index, rng, today),
        created_at=created,
        updated_at=updated,
        hubspot_id=str(9_999_900_000 + index * 7_919),
        xero_contact_id=xero_id,
        zendesk_org_id=360_000_100_000 + index * 17 if in_helpdesk else None,
        s3_prefix=f"accounts/{number}/",
        declared_xero_id=declared,
        xero_account_number=number if numbered and in_ledger else None,
        xero_email=f"accounts@{domain}" if in_ledger else None,
        zendesk_external_id=number
        if external and in_helpdesk and not _has_two_organisations(index)
        else None,
        zendesk_domains=(domain,) if in_helpdesk else (),
        merged_hubspot_ids=(str(7_700_000_000 + index * 31),) if index % 25 == 6 else (),
        merged_xero_contacts=merged_xero,
    )


def _renewal(index: int, rng: Random, today: date) -> date | None:
    """Sometimes just missed, sometimes unknown; ahead for the demo's two customers."""
    if index in FULLY_MATCHED:
        return today + timedelta(days=rng.randint(30, 200))
    return today + timedelta(days=rng.randint(-20, 500)) if rng.random() < 0.75 else None


def _has_two_organisations(index: int) -> bool:
    return index % 40 == 5


def _contact(account: Account, position: int, rng: Random, today: date) -> Contact:
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    mailbox = plain(f"{first}.{last}").lower().replace(" ", "").replace("'", "")
    if not mailbox.isascii():
        mailbox = f"contact.{last.lower()}" if last.isascii() else "contact"
    dialling = next(place[6] for place in PLACES if place[1] == account.city)
    created = moment_between(rng, account.created_at, morning(today) - timedelta(days=30))
    has_user = position == 0 or account.index in FULLY_MATCHED or rng.random() < 0.85
    return Contact(
        hubspot_id=str(91_000 + account.index * 100 + position),
        account=account.index,
        first_name=first,
        last_name=last,
        # Two accounts of a group share a domain, so the account's number keeps mailboxes apart.
        email=f"{mailbox}.{account.index}{position:02d}@{account.domain}",
        phone=None if rng.random() < 0.3 else f"{dialling}{rng.randint(100, 999)}",
        mobile=None if rng.random() < 0.5 else f"+44 7700 900{rng.randint(100, 999)}",
        job_title=None if rng.random() < 0.2 else rng.choice(JOB_TITLES),
        archived=position >= 4 and rng.random() < 0.3,
        created_at=created,
        updated_at=moment_between(rng, created, morning(today)),
        zendesk_user_id=8_000_000_000 + account.index * 100 + position
        if account.zendesk_org_id is not None and has_user
        else None,
    )
