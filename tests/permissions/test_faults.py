"""A schema whose rules do not hold what they seem to is refused at start-up, one line per fault."""

from collections.abc import AsyncGenerator, Mapping
from enum import Enum
from typing import Annotated, Any

import pytest
import strawberry

from permissions.directives import (
    AUTHENTICATED,
    PUBLIC,
    RequiresScopes,
    personal,
    requires,
    reveals,
    scoped,
)
from permissions.policy import Policy, PolicyError
from resolvers.vocabulary import Connection, First, Node, batched
from sources.layers.reads import Read, nobodys, reads_of, scoped_by

ME = [AUTHENTICATED, scoped("caller")]
INVOICES, TICKETS = requires("invoices:read"), requires("tickets:read")


def field(*directives: Any, **more: Any) -> Any:
    return strawberry.field(default=None, directives=directives, **more)


def read(*directives: Any, **more: Any) -> Any:
    """A field that a loader answers."""
    return batched(lambda: None, directives=directives, **more)


def faults(
    query: Any, *types: Any, reads: Mapping[str, Read | None] | None = None, **roots: Any
) -> list[str]:
    """The lines that start-up prints; none: it starts."""
    schema = strawberry.Schema(query=query, types=types, **roots)
    try:
        Policy(schema._schema, reads or {})
    except PolicyError as refused:
        return str(refused).splitlines()
    return []


def query(**fields: tuple[Any, Any]) -> Any:
    """A Query of these fields: each its type and its definition."""
    made = type("Query", (), {name: definition for name, (_, definition) in fields.items()})
    made.__annotations__ = {name: annotation for name, (annotation, _) in fields.items()}
    return strawberry.type(made)


def asked(*directives: Any, argument: Any = None, of: Any = str | None, gives: Any = str | None) -> Any:
    """A Query with one field that takes an argument ``by``."""

    def thing(by: Any = None) -> Any:
        return None

    thing.__annotations__ = {
        "by": Annotated[of, strawberry.argument(description="x", directives=[argument] if argument else [])],
        "return": gives,
    }
    return query(
        thing=(gives, strawberry.field(resolver=thing, directives=directives or [AUTHENTICATED, reveals()]))
    )


@strawberry.type(directives=ME)
class Secretive:
    """A type with a field that takes more than the type."""

    open: str | None = None
    secret: str | None = field(requires("invoices:read"))


GIVES_SECRETIVE = (Secretive | None, field(AUTHENTICATED))


# -- rules ------------------------------------------------------------------------------------------------------------


def test_what_is_sound_starts() -> None:
    assert faults(query(it=GIVES_SECRETIVE, number=(int | None, field(PUBLIC, reveals())))) == []


def test_a_field_without_a_rule() -> None:
    @strawberry.type(directives=[scoped("caller")])
    class Thing:
        name: str | None = None

    assert faults(query(thing=(Thing | None, field(AUTHENTICATED)), bare=(str | None, field(reveals())))) == [
        f"{place}: no rule; write @public, @authenticated or @requiresScopes(scopes: [[...]]) on it or on its type"
        for place in ("Query.bare", "Thing.name")
    ]


def test_a_mutation_and_a_subscription_without_a_rule() -> None:
    @strawberry.type
    class Mutation:
        @strawberry.mutation
        def change(self) -> str | None: ...

    @strawberry.type
    class Subscription:
        @strawberry.subscription(directives=[reveals()])
        async def news(self) -> AsyncGenerator[str | None, None]:
            yield None

    found = faults(query(it=GIVES_SECRETIVE), mutation=Mutation, subscription=Subscription)
    assert [line.partition(" rule;")[0] for line in found] == ["Mutation.change: no", "Subscription.news: no"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (requires("invoices:red"), "unknown scope invoices:red; add it to permissions/scopes.py"),
        (
            RequiresScopes(scopes=[]),
            "@requiresScopes without a list, which nobody satisfies; name the scopes",
        ),
    ],
)
def test_a_rule_that_cannot_be_meant(rule: Any, said: str) -> None:
    assert faults(query(it=(str | None, field(rule, reveals())))) == [f"Query.it: {said}"]


def test_an_unknown_scope_on_an_argument_an_input_and_an_enums_value() -> None:
    Colour = strawberry.enum(Enum("Colour", ["RED"]))  # noqa: N806
    Colour.__strawberry_definition__.values[0].directives = (requires("a:b"), reveals())

    @strawberry.input
    class By:
        colour: Colour | None = field(requires("c:d"))  # type: ignore[valid-type]

    lines = faults(asked(argument=requires("e:f"), of=By | None))
    assert sorted(line for line in lines if "unknown scope" in line) == [
        "By.colour: unknown scope c:d; add it to permissions/scopes.py",
        "Colour.RED: unknown scope a:b; add it to permissions/scopes.py",
        "Query.thing(by:): unknown scope e:f; add it to permissions/scopes.py",
    ]


def test_two_rules_on_one_field() -> None:
    assert faults(query(it=(str | None, field(PUBLIC, AUTHENTICATED, reveals())))) == [
        "Query.it: 2 rules; write one of @public, @authenticated or @requiresScopes(scopes: [[...]])"
    ]


def test_a_restricted_field_that_is_non_null() -> None:
    @strawberry.type(directives=ME)
    class Thing:
        secret: str = strawberry.field(directives=[requires("invoices:read")])
        open: str = "as the type says"

    assert faults(query(thing=(Thing | None, field(AUTHENTICATED)))) == [
        "Thing.secret: restricted but non-null; make its type nullable"
    ]


def test_a_field_that_is_restricted_by_the_type_that_it_gives_is_not_non_null_either() -> None:
    @strawberry.type(directives=[INVOICES, scoped("caller")])
    class Closed:
        name: str = ""

    @strawberry.type(directives=ME)
    class Thing:
        one: Closed
        many: list[Closed]
        none: list[Closed] | None

    assert faults(query(thing=(Thing | None, field(AUTHENTICATED)))) == [
        f"Thing.{name}: restricted but non-null; make its type nullable" for name in ("many", "one")
    ]


def test_a_rule_on_an_interface_on_its_field_and_on_a_union() -> None:
    @strawberry.interface(directives=[INVOICES])
    class Named:
        name: str | None = field(INVOICES)

    @strawberry.type(directives=[INVOICES, scoped("caller")])
    class One(Named):
        name: str | None = None

    @strawberry.type(directives=[INVOICES, scoped("caller")])
    class Other(Named):
        name: str | None = None

    either = Annotated[One | Other, strawberry.union("Either", directives=[INVOICES])]
    assert faults(query(it=(either | None, field(INVOICES)), named=(Named | None, field(INVOICES)))) == [
        "Either: a rule on a union; write it on each of its types",
        "Named.name: a rule on an interface; write it on each type that implements it",
        "Named: a rule on an interface; write it on each type that implements it",
    ]


def test_an_implementer_that_is_laxer_than_its_interface() -> None:
    @strawberry.interface
    class Named:
        name: str | None = field(INVOICES)

    @strawberry.type(directives=ME)
    class Lax(Named):
        name: str | None = None

    assert "Lax.name: laxer than Named.name, which takes invoices:read; it has to take that too" in faults(
        query(it=(Lax | None, field(AUTHENTICATED))), Lax
    )


def test_personal_data_of_an_unknown_category_or_for_anyone() -> None:
    assert faults(
        query(
            known=(str | None, field(AUTHENTICATED, reveals(), personal("identity"))),
            odd=(str | None, field(AUTHENTICATED, reveals(), personal("shoes"))),
            shown=(str | None, field(PUBLIC, reveals(), personal("contact"))),
        )
    ) == [
        "Query.odd: unknown category shoes; there are account, communication, contact, identity (permissions/personal.py)",
        "Query.shown: personal data that anyone may read; write @authenticated or @requiresScopes",
    ]


# -- whose records ----------------------------------------------------------------------------------------------------


def test_a_type_of_records_without_an_owner() -> None:
    @strawberry.type(directives=[INVOICES])
    class Thing:
        name: str | None = None

    assert faults(query(thing=(Thing | None, field(INVOICES)))) == [
        "Thing: whose records are these? write @organisationScoped(by: ...); @public where they are nobody's; "
        "@part where they are a value of what gives them"
    ]


def test_an_owner_that_does_not_exist_and_one_too_many() -> None:
    @strawberry.type(directives=[INVOICES, scoped("landlord")])
    class Thing:
        name: str | None = None

    @strawberry.type(directives=[PUBLIC, scoped("id")])
    class Poster:
        name: str | None = None

    assert faults(query(thing=(Thing | None, field(INVOICES)), poster=(Poster | None, field(PUBLIC)))) == [
        "Poster: @public and @organisationScoped contradict each other; write one of them",
        'Query.poster: gives Poster, for which no read of the scope layer is marked @scoped_by("id", gives="Poster"); '
        "read it through one",
        'Thing: @organisationScoped(by: "landlord") names no owner; there are caller, id, organisation, poster, thing',
    ]


def test_a_node_without_a_rule_and_without_an_owner() -> None:
    @strawberry.type
    class Thing(Node):
        id: strawberry.ID = field(INVOICES)

    lines = faults(query(node=(Node | None, read(AUTHENTICATED, graphql_type=Node | None))), Thing)
    assert (
        "Thing: a node without a rule; node(id:) would give it to anyone: write @requiresScopes on the type"
        in lines
    )
    assert "Thing: a node without organisation scope; write @organisationScoped(by: ...) on the type" in lines


@strawberry.type(directives=[INVOICES, scoped("id")])
class Bill:
    """As the scope layer gives it."""

    number: str | None = None


BILLS = query(bill=(Bill | None, read(INVOICES, graphql_type=Bill | None)))


class Layer:
    """A scope layer: ``bills`` is as it should be."""

    @scoped_by("id", gives="Bill")
    async def bills(self) -> None: ...

    async def _inside(self) -> None: ...


def test_reads_that_are_marked_as_the_schema_says() -> None:
    assert faults(BILLS, reads=reads_of(Layer)) == []


def test_a_read_without_a_mark() -> None:
    class Open(Layer):
        async def find(self) -> None: ...

    assert faults(BILLS, reads=reads_of(Layer, Open)) == [
        "Open.find: could run without a scope; mark it @scoped_by(owner, gives=type), @changes(owner) or "
        "@nobodys(gives=type)"
    ]


def test_reads_whose_mark_is_not_what_the_schema_says() -> None:
    class Wrong:
        @nobodys(gives="Bill")
        async def anyones(self) -> None: ...

        @scoped_by("organisation", gives="Bill")
        async def elsewhere(self) -> None: ...

        @scoped_by("id", gives="Bull")
        async def misspelt(self) -> None: ...

    assert faults(BILLS, reads=reads_of(Layer, Wrong)) == [
        'Bill: Wrong.elsewhere keeps it by organisation; write @organisationScoped(by: "organisation")',
        "Wrong.anyones: gives Bill to any caller, but the type is not @public; mark it @scoped_by",
        "Wrong.misspelt: gives Bull, which is no type of the schema; name the type",
    ]


def test_a_scoped_type_that_no_read_gives() -> None:
    assert faults(BILLS) == [
        'Query.bill: gives Bill, for which no read of the scope layer is marked @scoped_by("id", gives="Bill"); '
        "read it through one"
    ]


# -- what an answer tells beside ----------------------------------------------------------------------------------------


def test_an_argument_that_does_not_say_what_it_tells() -> None:
    assert faults(asked()) == [
        "Query.thing(by:): asked with in Query.thing; write @reveals(fields: [...]) with what it tells of, an empty "
        "list where that is nothing"
    ]
    assert faults(asked(argument=reveals())) == []


def test_a_filter_that_tells_what_reading_would_not() -> None:
    @strawberry.input
    class By:
        secret: str | None = field(reveals("Secretive.secret"))
        silent: str | None = None
        fine: str | None = field(reveals("Secretive.open"))
        guarded: str | None = field(reveals("Secretive.secret"), requires("invoices:read"))
        gone: str | None = field(reveals("Secretive.gone"))

    assert faults(asked(AUTHENTICATED, of=By | None, gives=Secretive | None)) == [
        "By.gone: reveals Secretive.gone, which the schema does not have; name it as Type.field",
        "By.secret: reveals Secretive.secret, which takes invoices:read, but using it in Query.thing takes signing in; "
        'write @requiresScopes(scopes: [["invoices:read"]]) on it',
        "By.silent: asked with in Query.thing; write @reveals(fields: [...]) with what it tells of, an empty list where "
        "that is nothing",
    ]


def test_a_filter_within_filters() -> None:
    @strawberry.input
    class Inner:
        secret: str | None = field(reveals("Secretive.secret"))

    @strawberry.input
    class Outer:
        all_of: list[Inner] | None = None
        again: "list[Annotated['Outer', strawberry.lazy('tests.permissions.test_faults')]] | None" = None

    globals()["Outer"] = Outer
    assert [
        line.partition(":")[0]
        for line in faults(asked(AUTHENTICATED, of=Outer | None, gives=Secretive | None))
    ] == ["Inner.secret"]


def test_what_is_said_of_an_argument_hides_nothing_that_is_said_within() -> None:
    @strawberry.input
    class By:
        secret: str | None = field(reveals("Secretive.secret"))
        silent: str | None = None

    assert [
        line.partition(";")[0]
        for line in faults(asked(AUTHENTICATED, argument=reveals(), of=By | None, gives=Secretive | None))
    ] == [
        "By.secret: reveals Secretive.secret, which takes invoices:read, but using it in Query.thing takes signing in"
    ]


def test_an_ordering_that_tells_what_reading_would_not() -> None:
    Order = strawberry.enum(Enum("Order", ["OPEN", "SECRET", "SILENT"]))  # noqa: N806
    open_, secret, _ = Order.__strawberry_definition__.values
    open_.directives, secret.directives = (reveals("Secretive.open"),), (reveals("Secretive.secret"),)

    assert [
        line.partition(";")[0]
        for line in faults(asked(AUTHENTICATED, of=Order | None, gives=Secretive | None))
    ] == [
        "Order.SECRET: reveals Secretive.secret, which takes invoices:read, but using it in Query.thing takes signing in",
        "Order.SILENT: asked with in Query.thing",
    ]


def test_a_default_that_nobody_could_refuse() -> None:
    Order = strawberry.enum(Enum("Order", ["OPEN", "SECRET"]))  # noqa: N806
    for value in Order.__strawberry_definition__.values:
        value.directives = (reveals(),)
    Order.__strawberry_definition__.values[1].directives = (reveals(), requires("invoices:read"))

    @strawberry.input
    class By:
        order: Order = strawberry.field(default=Order.SECRET)  # type: ignore[attr-defined,valid-type]
        always: str = strawberry.field(directives=[reveals(), requires("invoices:read")])

    assert faults(asked(AUTHENTICATED, reveals(), of=By | None)) == [
        "By.always: restricted, but everyone has to use it; make it nullable, without a default",
        "By.order: its default Order.SECRET is restricted; choose another default",
    ]


def test_a_restricted_argument_of_a_field_that_could_not_be_refused() -> None:
    @strawberry.input
    class By:
        guarded: str | None = field(reveals(), INVOICES)

    assert faults(asked(AUTHENTICATED, argument=None, of=By | None, gives=str)) == [
        "By.guarded: restricted, but Query.thing is non-null and could not be refused; make its type nullable",
        "Query.thing: restricted but non-null; make its type nullable",
        "Query.thing: works out something of other records; write @reveals(fields: [...]) with what it tells of, an empty "
        "list where that is nothing",
    ]


def test_a_count_that_tells_of_what_reading_would_not() -> None:
    @strawberry.type(directives=ME)
    class Thing:
        count: int | None = read(reveals("Secretive.secret"), graphql_type=int | None)
        silent: int | None = read(graphql_type=int | None)
        total: int | None = read(
            reveals("Secretive.secret"), requires("invoices:read"), graphql_type=int | None
        )

    assert [
        line.partition(";")[0]
        for line in faults(query(thing=(Thing | None, field(AUTHENTICATED)), it=GIVES_SECRETIVE))
    ] == [
        "Thing.count: reveals Secretive.secret, which takes invoices:read, but using it takes signing in",
        "Thing.silent: works out something of other records",
    ]


def test_pages_and_counts_of_a_type_without_a_rule_of_its_own() -> None:
    @strawberry.type(directives=[scoped("caller")])
    class Loose:
        secret: str | None = field(INVOICES)

    def pages(first: First = None) -> Any: ...

    pages.__annotations__["return"] = Connection[Loose] | None
    assert faults(query(pages=(Connection[Loose] | None, batched(pages, directives=[AUTHENTICATED])))) == [
        f"{page}: counts and pages of Loose tell how many there are, but the type has no rule; write it on Loose, beside "
        "those of its fields"
        for page in ("LooseConnection", "LooseEdge")
    ]


def test_a_total_count_says_what_it_tells() -> None:
    @strawberry.type
    class SecretivePage(Connection[Secretive]):
        total_count: int | None = None
        sum: int | None = field(reveals("Secretive.secret"))

    assert [
        line.partition(";")[0] for line in faults(query(pages=(SecretivePage | None, field(AUTHENTICATED))))
    ] == [
        "SecretivePage.sum: reveals Secretive.secret, which takes invoices:read, but using it takes signing in",
        "SecretivePage.totalCount: write @reveals(fields: [...]) with what it tells of, an empty list where that is nothing",
    ]


def test_a_page_takes_what_its_records_take() -> None:
    @strawberry.type(directives=[INVOICES, scoped("caller")])
    class Closed:
        name: str | None = None

    made = strawberry.Schema(query=query(pages=(Connection[Closed] | None, field(AUTHENTICATED))))
    policy = Policy(made._schema, {})
    assert policy.fields["Query", "pages"] == policy.types["Closed"]
    assert policy.types["ClosedConnection"] == policy.types["ClosedEdge"] == policy.types["Closed"]


def test_a_search_hit_of_a_type_that_is_closed() -> None:
    @strawberry.type(directives=[INVOICES, scoped("caller")])
    class Bill:
        name: str | None = None

    @strawberry.type(directives=[TICKETS, scoped("caller")])
    class Call:
        name: str | None = None

    hit = Annotated[Bill | Call, strawberry.union("Hit")]
    assert [line.partition(";")[0] for line in faults(query(hits=(list[hit] | None, field(INVOICES))))] == [  # type: ignore[valid-type]
        "Query.hits: may be a Call, which takes tickets:read"
    ]
    assert faults(query(hits=(list[hit] | None, read(AUTHENTICATED, graphql_type=list[hit] | None)))) == []  # type: ignore[valid-type]


def test_every_fault_is_told_at_once() -> None:
    @strawberry.type
    class Thing:
        name: str

    assert len(faults(query(thing=(Thing, strawberry.field(resolver=lambda: None))))) == 3
