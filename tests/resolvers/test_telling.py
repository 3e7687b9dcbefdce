"""No error message can carry what a record holds."""

from typing import ClassVar

import pytest

from resolvers.errors import BadUserInput, GraphError, NotFound
from resolvers.telling import TellingError, refuse_telling_errors, telling_calls


def test_the_graphs_own_errors_tell_nothing() -> None:
    refuse_telling_errors.__wrapped__("resolvers")


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (
            'BadUserInput(f"no {name} here")',
            "write its message as a literal with {placeholders} for what is named",
        ),
        (
            'BadUserInput("no " + name)',
            "write its message as a literal with {placeholders} for what is named",
        ),
        ("BadUserInput(str(error))", "write its message as a literal with {placeholders} for what is named"),
        (
            "errors.BadUserInput(text, limit=3)",
            "write its message as a literal with {placeholders} for what is named",
        ),
        (
            'BadUserInput("{email} is taken", email=email)',
            "{email} could be anything; there are argument, coordinate, limit, scopes, what",
        ),
        (
            'BadUserInput("{limit}", **words)',
            "{**} could be anything; there are argument, coordinate, limit, scopes, what",
        ),
    ],
)
def test_a_message_that_could_carry_data_is_refused(call: str, fault: str) -> None:
    source = f"def resolver(name):\n    raise {call}\n"

    assert [line.partition(": ")[2].partition(": ")[2] for line in telling_calls(source, "resolvers.x")] == [
        fault
    ]


def test_literals_and_words_are_taken() -> None:
    assert (
        telling_calls('raise BadUserInput("{argument} must be from 0 to {limit}", argument=a, limit=9)', "x")
        == []
    )


def test_a_template_with_a_word_of_its_own_is_refused() -> None:
    class Taken(GraphError):
        template: ClassVar[str | None] = "{email} is taken"

    try:
        with pytest.raises(TellingError, match=r"Taken\.template: \{email\} could be anything"):
            refuse_telling_errors.__wrapped__("resolvers")
    finally:
        Taken.template = ""


@pytest.mark.parametrize("value", ["anna@harbour.example", "two\nlines", "", "x" * 400, "Müller"])
def test_what_is_no_name_is_not_filled_in(value: str) -> None:
    with pytest.raises(TypeError):
        BadUserInput("{argument} is wrong", argument=value)


def test_names_and_limits_are_filled_in() -> None:
    assert str(BadUserInput("{argument}: at most {limit}", argument="Query.nodes(ids:)", limit=5)) == (
        "Query.nodes(ids:): at most 5"
    )
    assert str(NotFound("invoice")) == "no such invoice"
