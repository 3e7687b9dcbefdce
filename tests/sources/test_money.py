"""Money is exact: padded to the currency's minor units, never rounded, never in exponents."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.ports.common import Money, minor_units


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("48", "GBP", "48.00"),
        ("48.5", "EUR", "48.50"),
        ("48", "JPY", "48"),
        ("48.00", "JPY", "48"),
        ("48.5", "JPY", "48.5"),
        ("48", "KWD", "48.000"),
        ("0.1255", "GBP", "0.1255"),
        ("0.125500", "GBP", "0.1255"),
        ("1.10", "KWD", "1.100"),
        ("100.0000", "GBP", "100.00"),
        ("0", "GBP", "0.00"),
        ("0.0000", "KWD", "0.000"),
        ("-12.3", "USD", "-12.30"),
        ("1E+3", "GBP", "1000.00"),
        ("1E+3", "JPY", "1000"),
        ("1200.000", "JPY", "1200"),
        ("99999999999999999999.99", "USD", "99999999999999999999.99"),
    ],
)
def test_an_amount_has_at_least_its_currencys_places(amount: str, currency: str, shown: str) -> None:
    money = Money.of(Decimal(amount), currency)

    assert money is not None
    assert str(money.amount) == shown


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_no_amount_is_none(amount: str) -> None:
    assert Money.of(Decimal(amount), "GBP") is None


def test_without_amount_or_currency_there_is_no_money() -> None:
    assert [Money.of(None, "GBP"), Money.of(Decimal(1), None), Money.of(Decimal(1), "")] == [None] * 3


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=None
    ).filter(lambda amount: len(amount.as_tuple().digits) <= 24),
    st.sampled_from(["GBP", "JPY", "KWD", "CLF"]),
)
def test_no_amount_changes_its_value(amount: Decimal, currency: str) -> None:
    money = Money.of(amount, currency)

    assert money is not None
    assert money.amount == amount
    exponent = money.amount.as_tuple().exponent
    assert isinstance(exponent, int)
    assert -exponent >= minor_units(currency)


amounts = st.none() | st.decimals() | st.decimals(places=2, allow_nan=False, allow_infinity=False)
currencies = st.sampled_from(["GBP", "JPY", "KWD", "CLF", "", None])


@given(st.lists(st.tuples(amounts, currencies), max_size=4))
def test_many_are_made_as_each_by_itself(given: list[tuple[Decimal | None, str | None]]) -> None:
    made = Money.of_many([amount for amount, _ in given], [currency for _, currency in given])

    assert list(map(str, made)) == [str(Money.of(amount, currency)) for amount, currency in given]
