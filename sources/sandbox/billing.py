"""The company's ledger: invoices, payments and credit notes that add up, and some suppliers' bills."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random

from sources.sandbox.customers import FULLY_MATCHED, morning, uuid_from
from sources.sandbox.facts import (
    Account,
    Allocation,
    AppliedCredit,
    CreditNote,
    Invoice,
    InvoiceLine,
    Payment,
)
from sources.sandbox.words import PRODUCTS

MINOR_UNITS = {"JPY": Decimal(1), "KWD": Decimal("0.001")}
"""The smallest amount of a currency; a hundredth where it is not listed."""

SECOND_CURRENCY = {0: "EUR", 1: "KWD"}
"""The demo's two customers have balances in two currencies each; so has every ninth account (USD or GBP)."""

_PRICE_LEVEL = {"JPY": Decimal(160), "KWD": Decimal("0.35")}
_TAX: dict[str, tuple[tuple[str, Decimal], ...]] = {
    "GB": (("OUTPUT2", Decimal("0.2")), ("OUTPUT2", Decimal("0.2")), ("RROUTPUT", Decimal("0.05"))),
    "US": (("ZERORATEDOUTPUT", Decimal(0)),),
    "KW": (("ZERORATEDOUTPUT", Decimal(0)),),
    "JP": (("TAX001", Decimal("0.1")),),
}
_EUROPE: tuple[tuple[str, Decimal], ...] = (("ECZROUTPUT", Decimal(0)), ("TAX002", Decimal("0.19")))
# What the nightly bank feed touched last: many records with equal updated_at, which paging must survive.
_BANK_FEED_SHARE = 0.06
_NOTHING = Decimal(0)


def ledger(
    account: Account, count: int, seed: int, today: date
) -> tuple[tuple[Invoice, ...], tuple[CreditNote, ...]]:
    """`count` customer invoices, oldest first, and the credit notes applied to them or still open."""
    rng = Random(f"{seed}/ledger/{account.index}")
    notes: list[CreditNote] = []
    days = sorted((_age_in_days(rng) for _ in range(count)), reverse=True)
    invoices = tuple(
        _invoice(account, sequence, today - timedelta(days=age), rng, today, notes)
        for sequence, age in enumerate(days, start=1)
    )
    if count and account.index not in FULLY_MATCHED and account.index % 6 == 2:
        notes.append(
            _credit_note(account, len(notes) + 1, _money(rng, 50, 400, account.currency), today, rng)
        )
    return invoices, tuple(notes)


def bills(account: Account, count: int, seed: int, today: date) -> tuple[Invoice, ...]:
    """Type ACCPAY: what a customer that also supplies the company charges it. Never a customer's invoice."""
    rng = Random(f"{seed}/bills/{account.index}")
    built: list[Invoice] = []
    for sequence in range(1, count + 1):
        issued = today - timedelta(days=rng.randint(1, 300))
        lines = _lines(account, account.currency, rng)
        status = rng.choice(("AUTHORISED", "PAID", "DRAFT"))
        number = f"BILL-{10001 + account.index}-{sequence:03d}"
        total = _total(lines)
        paid = (
            (Payment(uuid_from(rng), min(today, issued + timedelta(days=20)), total, number),)
            if status == "PAID"
            else ()
        )
        built.append(
            _assemble(
                account,
                "ACCPAY",
                number,
                "Supplier's bill",
                issued,
                30,
                status,
                account.currency,
                lines,
                paid,
                (),
                rng,
                today,
            )
        )
    return tuple(built)


def minor_unit(currency: str) -> Decimal:
    return MINOR_UNITS.get(currency, Decimal("0.01"))


def _invoice(
    account: Account, sequence: int, issued: date, rng: Random, today: date, notes: list[CreditNote]
) -> Invoice:
    currency = account.currency
    if rng.random() < 0.25 and (account.index in SECOND_CURRENCY or account.index % 9 == 8):
        currency = SECOND_CURRENCY.get(account.index, "USD" if currency != "USD" else "GBP")
    number = f"INV-{10001 + account.index}-{sequence:05d}"
    lines = _lines(account, currency, rng)
    total = _total(lines)
    terms = rng.choice((14, 30, 30, 60))
    status = _status(rng, (today - issued).days, terms)
    payments: tuple[Payment, ...] = ()
    applied: tuple[AppliedCredit, ...] = ()
    if status == "PAID":
        credited = (
            _credit(account, number, total, currency, issued, rng, today, notes)
            if rng.random() < 0.1
            else None
        )
        applied = (credited,) if credited else ()
        payments = _payments(
            total - (credited.amount if credited else _NOTHING), currency, number, issued, rng, today
        )
    elif status == "AUTHORISED" and rng.random() < 0.25:
        part = (total * Decimal(rng.randint(10, 80)) / 100).quantize(minor_unit(currency), ROUND_HALF_UP)
        payments = _payments(part, currency, number, issued, rng, today)
    elif status == "AUTHORISED" and rng.random() < 0.08:
        credited = _credit(account, number, total, currency, issued, rng, today, notes)
        applied = (credited,) if credited else ()
    if applied:
        # A credit note's allocation names the invoice, so it is written once that has its id.
        invoice = _assemble(
            account,
            "ACCREC",
            number,
            _reference(rng),
            issued,
            terms,
            status,
            currency,
            lines,
            payments,
            applied,
            rng,
            today,
        )
        notes[-1] = _allocated(notes[-1], invoice, applied[0])
        return invoice
    return _assemble(
        account,
        "ACCREC",
        number,
        _reference(rng),
        issued,
        terms,
        status,
        currency,
        lines,
        payments,
        (),
        rng,
        today,
    )


def _assemble(
    account: Account,
    kind: str,
    number: str,
    reference: str,
    issued: date,
    terms: int,
    status: str,
    currency: str,
    lines: tuple[InvoiceLine, ...],
    payments: tuple[Payment, ...],
    applied: tuple[AppliedCredit, ...],
    rng: Random,
    today: date,
) -> Invoice:
    zero = _NOTHING.quantize(minor_unit(currency))
    sub_total = sum((line.line_amount for line in lines), zero)
    total_tax = sum((line.tax_amount for line in lines), zero)
    paid = sum((payment.amount for payment in payments), zero)
    credited = sum((credit.amount for credit in applied), zero)
    last_event = max([issued, *(payment.date for payment in payments), *(credit.date for credit in applied)])
    return Invoice(
        id=uuid_from(rng),
        type=kind,
        number=number,
        account=account.index,
        reference=reference,
        issue_date=issued,
        due_date=issued + timedelta(days=terms),
        status=status,
        currency=currency,
        lines=lines,
        sub_total=sub_total,
        total_tax=total_tax,
        total=sub_total + total_tax,
        amount_due=sub_total + total_tax - paid - credited,
        amount_paid=paid,
        amount_credited=credited,
        payments=payments,
        credit_notes=applied,
        updated_at=_updated(last_event, rng, today),
    )


def _status(rng: Random, age: int, terms: int) -> str:
    if rng.random() < 0.035:
        return "VOIDED"
    if age < 45 and rng.random() < 0.25:
        return rng.choice(("DRAFT", "DRAFT", "SUBMITTED", "DELETED"))
    settled = 0.3 if age <= terms else 0.62 if age < terms + 120 else 0.93
    return "PAID" if rng.random() < settled else "AUTHORISED"


def _lines(account: Account, currency: str, rng: Random) -> tuple[InvoiceLine, ...]:
    rates = _TAX.get(account.country, _EUROPE)
    unit = minor_unit(currency)
    built: list[InvoiceLine] = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5))):
        code, description, account_code, low, high = rng.choice(PRODUCTS)
        quantity = Decimal(rng.choice(("1", "1", "2", "3", "12", "0.5", "2.25", "40")))
        price = _money(rng, low, high, currency)
        amount = (quantity * price).quantize(unit, ROUND_HALF_UP)
        tax_type, rate = rng.choice(rates)
        tax = (amount * rate).quantize(unit, ROUND_HALF_UP)
        built.append(
            InvoiceLine(
                uuid_from(rng), description, quantity, price, tax, amount, account_code, tax_type, code
            )
        )
    return tuple(built)


def _payments(
    amount: Decimal, currency: str, number: str, issued: date, rng: Random, today: date
) -> tuple[Payment, ...]:
    """One payment, or one in eight times two, that together come to `amount`; none for nothing."""
    unit = minor_unit(currency)
    parts = [amount]
    if amount >= 4 * unit and rng.random() < 0.125:
        first = (amount * Decimal(rng.randint(20, 70)) / 100).quantize(unit, ROUND_HALF_UP)
        parts = [first, amount - first]
    days = sorted(min(today, issued + timedelta(days=rng.randint(1, 50))) for _ in parts)
    return tuple(
        Payment(uuid_from(rng), day, part, rng.choice(("BACS", "SEPA", "Card")) + f" {number}")
        for day, part in zip(days, parts, strict=True)
        if part > 0
    )


def _credit(
    account: Account,
    number: str,
    total: Decimal,
    currency: str,
    issued: date,
    rng: Random,
    today: date,
    notes: list[CreditNote],
) -> AppliedCredit | None:
    """Applies a new credit note to a tenth to half of an invoice; its allocation follows in `_allocated`."""
    amount = (total * Decimal(rng.randint(10, 50)) / 100).quantize(minor_unit(currency), ROUND_HALF_UP)
    if amount <= 0:
        return None
    spare = _money(rng, 5, 60, currency) if rng.random() < 0.2 else _NOTHING
    day = min(today, issued + timedelta(days=rng.randint(2, 30)))
    note = _credit_note(account, len(notes) + 1, amount + spare, day, rng, currency)
    notes.append(note)
    return AppliedCredit(note.id, note.number, day, amount)


def _credit_note(
    account: Account, sequence: int, total: Decimal, day: date, rng: Random, currency: str | None = None
) -> CreditNote:
    currency = currency or account.currency
    total = total.quantize(minor_unit(currency))
    zero = _NOTHING.quantize(minor_unit(currency))
    line = InvoiceLine(
        uuid_from(rng), "Goodwill credit", Decimal(1), total, zero, total, "200", "ZERORATEDOUTPUT", None
    )
    return CreditNote(
        id=uuid_from(rng),
        number=f"CN-{10001 + account.index}-{sequence:04d}",
        account=account.index,
        reference=_reference(rng),
        date=day,
        status="AUTHORISED",
        currency=currency,
        lines=(line,),
        sub_total=total,
        total_tax=zero,
        total=total,
        remaining=total,
        allocations=(),
        updated_at=_updated(day, rng, day),
    )


def _allocated(note: CreditNote, invoice: Invoice, applied: AppliedCredit) -> CreditNote:
    remaining = note.total - applied.amount
    return CreditNote(
        id=note.id,
        number=note.number,
        account=note.account,
        reference=note.reference,
        date=note.date,
        status="AUTHORISED" if remaining else "PAID",
        currency=note.currency,
        lines=note.lines,
        sub_total=note.sub_total,
        total_tax=note.total_tax,
        total=note.total,
        remaining=remaining,
        allocations=(Allocation(invoice.id, invoice.number, applied.date, applied.amount),),
        updated_at=note.updated_at,
    )


def _money(rng: Random, low: int, high: int, currency: str) -> Decimal:
    """A price in the currency's minor units, at the currency's level of prices."""
    level = _PRICE_LEVEL.get(currency, Decimal(1))
    amount = (Decimal(rng.randint(low * 100, high * 100)) / 100 * level).quantize(
        minor_unit(currency), ROUND_HALF_UP
    )
    return max(amount, minor_unit(currency))


def _total(lines: tuple[InvoiceLine, ...]) -> Decimal:
    return sum((line.line_amount + line.tax_amount for line in lines), _NOTHING)


def _age_in_days(rng: Random) -> int:
    """Up to two years, more often recent than old."""
    return int(720 * rng.random() ** 1.6)


def _reference(rng: Random) -> str:
    return rng.choice(("", "", f"PO {rng.randint(1000, 99999)}", f"Bestellung {rng.randint(100, 999)}/ä"))


def _updated(last_event: date, rng: Random, today: date) -> datetime:
    if rng.random() < _BANK_FEED_SHARE:
        return max(datetime.combine(last_event, time(3), UTC), datetime.combine(today, time(3), UTC))
    moment = datetime.combine(last_event, time(9), UTC) + timedelta(seconds=rng.randint(0, 200_000))
    return min(moment, morning(today))
