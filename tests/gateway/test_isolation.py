"""An organisation sees its own accounts and nothing else: through every field, id, cursor and filter of the schema."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from resolvers.vocabulary import cursor, node_id
from sources.ports.common import Key, Page, Ref
from sources.ports.members import OrganisationRecord
from sources.sandbox.world import INTERNAL_MARK, World
from tests import walk
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door
from tests.walk import NOWHERE, ids_of

ROLES = ("owner", "finance", "standard", "read-only")
CUSTOMERS = {"harbour": 0, "moeller": 1}
TYPES = ("Account", "Contact", "Document", "Invoice", "Ticket")
PEOPLE = [f"{role}-{organisation}" for organisation in CUSTOMERS for role in ROLES]


class Leaks:
    """What must not be read by a caller of one account."""

    def __init__(self, world: World, account: int) -> None:
        self._own = walk.facts(world, account) | walk.public(world)
        self.foreign = {
            text
            for other in world.accounts
            if other.index != account
            for text in walk.facts(world, other.index)
        } - self._own
        rival = next(index for index in CUSTOMERS.values() if index != account)
        self._rival = [text for text in walk.facts(world, rival) - self._own if len(text) >= 8]

    def in_(self, answer: Answer) -> list[str]:
        """Foreign texts anywhere in an answer, its errors and headers; internal notes among them."""
        headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
        whole = list(walk.texts(answer.body)) + list(walk.texts(headers))
        raw = "\n".join(whole)
        return sorted(
            {text for text in whole if text in self.foreign}
            | {text for text in self._rival if text in raw}
            | ({INTERNAL_MARK} if INTERNAL_MARK in raw else set())
        )


@pytest.fixture(scope="module")
def leaks(world: World) -> dict[str, Leaks]:
    return {organisation: Leaks(world, index) for organisation, index in CUSTOMERS.items()}


GARBAGE = [
    "", " ", "x", "☃", "null", "=" * 9, "A" * 5000, "SW52b2ljZQ", base64.b64encode(b"\xff\xfe:::").decode(),
    node_id("Invoice", Ref("hubspot", "1")), node_id("Account", Ref("xero", "1")), node_id("Query", Ref("a", "b")),
    node_id("Viewer", Ref("hubspot", "1")), node_id("Account", Ref("hubspot", "1' OR '1'='1")),
    node_id("Invoice", Ref("xero", '"); DROP')), node_id("Ticket", Ref("zendesk", "1,2,3")),
    node_id("Document", Ref("s3", "accounts/C-10001/../C-10002/a.pdf")),
    node_id("Document", Ref("s3", "accounts/C-10001//../../C-10002/a.pdf")), node_id("Account", Ref("hubspot", "\0")),
]  # fmt: skip


def foreign_ids(world: World, mine: int, other: int) -> list[str]:
    """Ids of every type that are not of account ``mine``: another's, merged away, nothing's, another type's, garbage."""
    theirs = ids_of(world, other)
    refs = [
        Ref("hubspot", world.accounts[other].hubspot_id),
        Ref("xero", world.invoices_by_account[other][0].id),
    ]
    return [
        *theirs.values(),
        *NOWHERE.values(),
        *(node_id(type_, ref) for type_ in TYPES for ref in refs),
        *(node_id("Account", Ref("hubspot", old)) for old in world.accounts_by_merged_hubspot_id),
        *(node_id("Invoice", Ref("xero", bill.id)) for bill in world.bills_by_account[mine]),
        *(
            node_id("Contact", Ref("hubspot", person.hubspot_id))
            for person in world.contacts_by_account[mine]
            if person.archived
        ),
        *GARBAGE,
    ]


@pytest.mark.parametrize("person", PEOPLE)
async def test_every_field_of_the_schema_gives_a_customer_only_its_own(
    door: Door, leaks: dict[str, Leaks], person: str
) -> None:
    organisation = person.rpartition("-")[2]
    ids = ids_of(door.world, CUSTOMERS[organisation])
    seen: set[str] = set()
    answers = await asyncio.gather(
        *(
            door.ask(person, query, {"id": ids.get(type_), "ids": [ids.get(type_)]})
            for type_, query in walk.walks(door.office.schema.graphql, "invoice")
        )
    )
    for answer in answers:
        assert answer.status == 200
        assert leaks[organisation].in_(answer) == []
        seen.update(walk.texts(answer.body))

    assert len(seen & walk.facts(door.world, CUSTOMERS[organisation])) > 60


@pytest.mark.parametrize(
    "person", ["owner-harbour", "finance-moeller", "standard-harbour", "read-only-moeller"]
)
async def test_no_id_of_any_kind_opens_what_is_not_yours(
    door: Door, leaks: dict[str, Leaks], person: str
) -> None:
    organisation = person.rpartition("-")[2]
    mine, other = (CUSTOMERS[organisation], 1 - CUSTOMERS[organisation])
    ids = foreign_ids(door.world, mine, other)

    for field in ("node", "account", "invoice", "ticket", "document"):
        for some in (ids[:45], ids[45:]):
            declared = ", ".join(f"$i{number}: ID!" for number in range(len(some)))
            aliases = " ".join(f"a{number}: {field}(id: $i{number}) {{ id }}" for number in range(len(some)))
            variables = {f"i{number}": id_ for number, id_ in enumerate(some)}
            answer = await door.ask(person, f"query Q({declared}) {{ {aliases} }}", variables)
            assert set(answer.data.values()) == {None}
            assert {code for _, code in answer.codes()} <= {"NOT_FOUND", "FORBIDDEN"}
            assert leaks[organisation].in_(answer) == []

    answer = await door.ask(person, "query Q($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ids})
    assert set(answer.data["nodes"]) == {None}
    assert {code for _, code in answer.codes()} <= {"NOT_FOUND", "FORBIDDEN"}
    assert leaks[organisation].in_(answer) == []


@pytest.mark.parametrize(
    ("type_", "field"),
    [
        (type_, field)
        for type_ in TYPES
        for field in ("node", "nodes", "by type")
        if (type_, field) != ("Contact", "by type")
    ],
)
async def test_not_yours_reads_exactly_as_not_there(door: Door, type_: str, field: str) -> None:
    theirs = ids_of(door.world, 1)[type_]
    one = f"{type_.lower()}(id: $id)" if field == "by type" else "node(id: $id)"
    query = (
        "query Q($id: ID!) { nodes(ids: [$id]) { id } }"
        if field == "nodes"
        else f"query Q($id: ID!) {{ {one} {{ id }} }}"
    )
    answers, calls = [], []
    for id_ in (theirs, NOWHERE[type_], theirs):
        door.forget_calls()
        answer = await door.ask("owner-harbour", query, {"id": id_})
        headers = {name.lower(): value for name, value in answer.headers.items()}
        answers.append((answer.status, answer.body, headers | dict.fromkeys(("date", "x-request-id"), "")))
        calls.append(
            [
                (box, c.method, c.path.partition("/accounts/")[0])
                for box in door.boxes
                for c in door.boxes[box].log.calls()
            ]
        )

    assert answers[0] == answers[1] == answers[2]
    assert calls[0] == calls[1] == calls[2]


@pytest.mark.parametrize(
    "hidden", ["a draft", "a supplier's bill", "a deleted invoice", "an archived contact"]
)
async def test_what_is_no_record_for_customers_reads_as_not_there(door: Door, hidden: str) -> None:
    world = door.world
    ref, type_ = {
        "a draft": lambda: (Ref("xero", _draft(world, 0)), "Invoice"),
        "a supplier's bill": lambda: (Ref("xero", world.bills_by_account[0][0].id), "Invoice"),
        "a deleted invoice": lambda: (
            Ref("xero", next(i.id for i in world.invoices if i.status == "DELETED")),
            "Invoice",
        ),
        "an archived contact": lambda: (
            Ref("hubspot", next(c.hubspot_id for c in world.contacts if c.archived)),
            "Contact",
        ),
    }[hidden]()
    query = "query Q($id: ID!) { node(id: $id) { id } }"

    answer = await door.ask("owner-harbour", query, {"id": node_id(type_, ref)})
    nothing = await door.ask("owner-harbour", query, {"id": NOWHERE[type_]})

    assert answer.body == nothing.body


def _draft(world: World, account: int) -> str:
    return next(i.id for i in world.invoices_by_account[account] if i.status in ("DRAFT", "SUBMITTED"))


# -- cursors and filters -----------------------------------------------------------------------------------------------


MARKS = ("after", "before")


async def test_cursors_of_another_customer_lead_to_nothing_of_theirs(
    door: Door, leaks: dict[str, Leaks]
) -> None:
    for name, nodes in walk.connections(door.office.schema.graphql, "Account").items():
        query = f"query Q($id: ID!%s) {{ account(id: $id) {{ page: {name}(%s) {{ edges {{ cursor }} nodes {nodes} pageInfo {{ startCursor endCursor }} }} }} }}"
        theirs = await door.ask("owner-moeller", query % ("", "first: 20"), {"id": door.account_id(1)})
        cursors = [edge["cursor"] for edge in theirs.data["account"]["page"]["edges"]]
        assert len(cursors) > 2

        for arguments in (
            "first: 3, after: $after",
            "last: 3, before: $before",
            "first: 2, after: $after, before: $before",
        ):
            for after, before in ((cursors[0], cursors[-1]), (cursors[-1], cursors[0])):
                mine = await door.ask(
                    "owner-harbour",
                    query % ("".join(f", ${name}: String" for name in MARKS if name in arguments), arguments),
                    {"id": door.account_id(0), "after": after, "before": before},
                )
                assert mine.status == 200
                assert leaks["harbour"].in_(mine) == []


async def test_cursors_of_the_list_of_all_accounts_lead_a_customer_to_nothing(
    door: Door, leaks: dict[str, Leaks]
) -> None:
    query = "query Q%s { accounts(%s) { edges { cursor } nodes { id name } pageInfo { hasNextPage hasPreviousPage } } }"
    staff = await door.ask("admin", query % ("", "first: 50"))
    cursors = [edge["cursor"] for edge in staff.data["accounts"]["edges"]]

    for mark in (cursors[0], cursors[25], cursors[-1]):
        for arguments, variables in (
            ("first: 5, after: $after", {"after": mark}),
            ("last: 5, before: $before", {"before": mark}),
        ):
            mine = await door.ask(
                "owner-harbour", query % (f"(${next(iter(variables))}: String)", arguments), variables
            )
            assert leaks["harbour"].in_(mine) == []
            assert len(mine.data["accounts"]["nodes"]) <= 1


async def test_a_made_up_cursor_of_a_list_of_ids_opens_nothing(door: Door, leaks: dict[str, Leaks]) -> None:
    person = door.world.contacts_by_account[1][0]
    made = cursor("contacts:added:asc", Key(person.hubspot_id.zfill(19), person.hubspot_id))

    answer = await door.ask(
        "owner-harbour",
        "query Q($id: ID!, $c: String) { account(id: $id) { contacts(last: 50, before: $c) { nodes { email } } } }",
        {"id": door.account_id(0), "c": made},
    )

    assert answer.errors == []
    assert leaks["harbour"].in_(answer) == []


async def test_filters_find_nothing_of_another_customer(door: Door) -> None:
    other, person = door.world.accounts[1], door.world.contacts_by_account[1][0]
    document = door.world.documents_by_account[1][0]
    in_account = "query Q($id: ID!, $text: String!) { account(id: $id) { page: %s(filter: {text: $text}) { nodes { id } } } }"
    for name, words in {
        "contacts": [person.email, person.email.partition("@")[0]],
        "tickets": [other.crm_name, INTERNAL_MARK],
        "documents": [other.account_number, document.key],
    }.items():
        for word in words:
            answer = await door.ask(
                "owner-harbour", in_account % name, {"id": door.account_id(0), "text": word}
            )
            assert answer.data == {"account": {"page": {"nodes": []}}}
    for word in (other.crm_name, other.domain, other.phone):
        answer = await door.ask(
            "owner-harbour",
            "query Q($text: String!) { accounts(filter: {text: $text}) { nodes { id } } "
            "viewer { accounts(filter: {text: $text}) { nodes { id } } } }",
            {"text": word},
        )
        assert answer.data == {"accounts": {"nodes": []}, "viewer": {"accounts": {"nodes": []}}}


async def test_own_fields_filter_only_within_the_caller(door: Door, leaks: dict[str, Leaks]) -> None:
    answer = await door.ask(
        "owner-harbour",
        "{ accounts(first: 50, filter: {tier: [GOLD, SILVER, BRONZE, UNKNOWN]}) { nodes { name tier renewalDate } } }",
    )

    assert [node["name"] for node in answer.data["accounts"]["nodes"]] == [door.world.accounts[0].crm_name]
    assert leaks["harbour"].in_(answer) == []


# -- many at once ------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module")
async def patient(postgres: str, world: World) -> AsyncIterator[Door]:
    """A gateway of one's own, which lets many large requests at once take as long as they need."""
    async with fresh_database(postgres) as url, open_door(world, url, deadline=60) as door:
        yield door


async def test_requests_of_both_customers_at_once_do_not_mix(patient: Door, leaks: dict[str, Leaks]) -> None:
    door = patient
    schema = door.office.schema.graphql
    asked = [
        (organisation, query, ids_of(door.world, account).get(type_))
        for type_, query in walk.walks(schema, "invoice")
        for organisation, account in CUSTOMERS.items()
    ]
    alone = {
        (organisation, query, id_): _lasting(
            (await door.ask(f"owner-{organisation}", query, {"id": id_, "ids": [id_]})).body
        )
        for organisation, query, id_ in asked
    }

    together = await asyncio.gather(
        *(
            door.ask(f"owner-{organisation}", query, {"id": id_, "ids": [id_]})
            for organisation, query, id_ in asked
        )
    )

    for (organisation, query, id_), answer in zip(asked, together, strict=True):
        assert leaks[organisation].in_(answer) == []
        if "auditLog" not in query:  # which grows with every request
            assert _lasting(answer.body) == alone[organisation, query, id_]


def _lasting(answer: Any) -> Any:
    """Without what differs from minute to minute: links to files."""
    if isinstance(answer, Mapping):
        return {key: _lasting(value) for key, value in answer.items() if key not in ("url", "expiresAt")}
    return [_lasting(one) for one in answer] if isinstance(answer, list) else answer


async def test_aliases_of_mine_and_theirs_in_one_request_stay_apart(
    door: Door, leaks: dict[str, Leaks]
) -> None:
    fields = "{ id name invoices(first: 2) { nodes { number account { name } } } tickets(first: 2) { nodes { subject } } }"
    answer = await door.ask(
        "owner-harbour",
        f"query Q($mine: ID!, $theirs: ID!) {{ a: account(id: $mine) {fields} b: account(id: $theirs) {fields} "
        f"c: node(id: $theirs) {{ id }} d: account(id: $mine) {fields} e: nodes(ids: [$mine, $theirs, $mine]) {{ id }} }}",
        {"mine": door.account_id(0), "theirs": door.account_id(1)},
    )

    assert answer.data["a"] == answer.data["d"]
    assert answer.data["a"]["name"] == door.world.accounts[0].crm_name
    assert (answer.data["b"], answer.data["c"]) == (None, None)
    assert [one and one["id"] for one in answer.data["e"]] == [door.account_id(0), None, door.account_id(0)]
    assert sorted(answer.codes()) == [("b", "NOT_FOUND"), ("c", "NOT_FOUND"), ("e.1", "NOT_FOUND")]
    assert leaks["harbour"].in_(answer) == []


# -- internal notes and drafts -------------------------------------------------------------------------------------------

COMMENTS = """query Q($id: ID!, $first: Int, $last: Int, $after: String, $before: String) { ticket(id: $id) {
  comments(first: $first, last: $last, after: $after, before: $before) {
    edges { cursor node { body authorName internal attachments { id fileName } } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  } } }"""


async def test_customers_page_through_comments_as_if_there_were_no_internal_notes(door: Door) -> None:
    tickets = [t for t in door.world.tickets_by_account[0] if any(not c.public for c in t.comments)]
    assert len(tickets) >= 8
    for ticket in tickets[:8]:
        public = [c for c in ticket.comments if c.public]
        id_ = node_id("Ticket", Ref("zendesk", str(ticket.id)))
        for turn, mark, more, end in (
            ("first", "after", "hasNextPage", "endCursor"),
            ("last", "before", "hasPreviousPage", "startCursor"),
        ):
            read: list[dict[str, Any]] = []
            at: str | None = None
            while True:
                answer = await door.ask("owner-harbour", COMMENTS, {"id": id_, turn: 1, mark: at})
                assert INTERNAL_MARK not in json.dumps(answer.body)
                page = answer.data["ticket"]["comments"]
                read += [edge["node"] for edge in page["edges"]]
                assert page["pageInfo"][more] is (len(read) < len(public))
                at = page["pageInfo"][end]
                if not page["pageInfo"][more]:
                    break
            expected = public if turn == "first" else public[::-1]
            assert [node["body"] for node in read] == [c.body for c in expected]
            assert [[a["id"] for a in node["attachments"]] for node in read] == [
                [str(a.id) for a in c.attachments] for c in expected
            ]


async def test_a_cursor_of_an_internal_note_shows_a_customer_nothing_more(door: Door) -> None:
    ticket = next(
        t for t in door.world.tickets_by_account[0] if not t.comments[0].public and len(t.comments) > 1
    )
    id_ = node_id("Ticket", Ref("zendesk", str(ticket.id)))
    staff = await door.ask("support", COMMENTS, {"id": id_, "first": 100})
    edges = staff.data["ticket"]["comments"]["edges"]
    assert edges[0]["node"]["internal"] is True

    mine = await door.ask("owner-harbour", COMMENTS, {"id": id_, "first": 100, "after": edges[0]["cursor"]})

    assert [e["node"]["body"] for e in mine.data["ticket"]["comments"]["edges"]] == [
        c.body for c in ticket.comments if c.public
    ]


async def test_staff_with_the_right_read_internal_notes(door: Door) -> None:
    ticket = next(t for t in door.world.tickets_by_account[0] if any(not c.public for c in t.comments))

    answer = await door.ask(
        "support", COMMENTS, {"id": node_id("Ticket", Ref("zendesk", str(ticket.id))), "first": 100}
    )

    assert [e["node"]["internal"] for e in answer.data["ticket"]["comments"]["edges"]] == [
        not c.public for c in ticket.comments
    ]


@pytest.mark.parametrize("person", PEOPLE)
async def test_drafts_never_reach_customers(door: Door, person: str) -> None:
    account = CUSTOMERS[person.rpartition("-")[2]]
    drafts = {i.number for i in door.world.invoices_by_account[account] if i.status in ("DRAFT", "SUBMITTED")}
    assert drafts
    fields = "nodes { number status sourceStatus }"
    answer = await door.ask(
        person,
        f"""query Q($id: ID!) {{ account(id: $id) {{
            all: invoices(first: 100) {{ {fields} }}
            last: invoices(last: 100) {{ {fields} }}
            drafts: invoices(filter: {{status: [DRAFT]}}) {{ {fields} pageInfo {{ hasNextPage hasPreviousPage }} }}
            unknown: invoices(filter: {{status: [UNKNOWN, DRAFT]}}) {{ {fields} }}
            mixed: invoices(first: 100, filter: {{status: [DRAFT, OPEN]}}) {{ {fields} }}
        }} }}""",
        {"id": door.account_id(account)},
    )

    pages = {name: page for name, page in answer.data["account"].items() if page}
    if person.startswith("standard"):
        assert pages == {}
        return
    assert answer.errors == []
    numbers = {node["number"] for page in pages.values() for node in page["nodes"]}
    assert numbers
    assert not numbers & drafts
    assert {node["status"] for node in pages["mixed"]["nodes"]} == {"OPEN"}
    assert pages["drafts"] == {"nodes": [], "pageInfo": {"hasNextPage": False, "hasPreviousPage": False}}
    assert pages["unknown"]["nodes"] == []


async def test_asking_customers_for_drafts_alone_makes_no_call(door: Door) -> None:
    await door.ask(
        "owner-harbour", "{ viewer { account { invoices(filter: {status: [DRAFT]}) { nodes { id } } } } }"
    )

    assert door.calls()["xero"] == 0


async def test_the_administrator_sees_drafts_and_support_does_not(door: Door) -> None:
    query = "query Q($id: ID!) { account(id: $id) { invoices(first: 100, filter: {status: [DRAFT]}) { nodes { number } } } node(id: $d) { id } }".replace(
        "$id: ID!", "$id: ID!, $d: ID!"
    )
    variables = {"id": door.account_id(0), "d": node_id("Invoice", Ref("xero", _draft(door.world, 0)))}

    admin, support = await door.ask("admin", query, variables), await door.ask("support", query, variables)

    drafts = {i.number for i in door.world.invoices_by_account[0] if i.status in ("DRAFT", "SUBMITTED")}
    assert {n["number"] for n in admin.data["account"]["invoices"]["nodes"]} == drafts
    assert admin.data["node"] is not None
    assert (support.data["account"]["invoices"]["nodes"], support.data["node"]) == ([], None)


# -- staff ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("person", ["support", "admin"])
async def test_staff_acting_for_an_organisation_see_it_alone(
    door: Door, leaks: dict[str, Leaks], person: str
) -> None:
    acting = {"X-Organisation": "harbour"}
    ids = ids_of(door.world, 0)
    for type_, query in walk.walks(door.office.schema.graphql, "invoice"):
        variables = {"id": ids.get(type_), "ids": [ids.get(type_)]}
        answer = await door.ask(person, query, variables, headers=acting)
        assert answer.status == 200
        assert [text for text in leaks["harbour"].in_(answer) if text != INTERNAL_MARK] == []
    answer = await door.ask(
        person,
        "query Q($theirs: ID!, $mine: ID!) { viewer { organisation { id } account { name } } accounts(first: 50) { nodes { name } } "
        "theirs: account(id: $theirs) { id } mine: account(id: $mine) { name } }",
        {"theirs": door.account_id(1), "mine": door.account_id(0)},
        headers=acting,
    )
    name = door.world.accounts[0].crm_name
    assert answer.data == {
        "viewer": {"organisation": {"id": "harbour"}, "account": {"name": name}},
        "accounts": {"nodes": [{"name": name}]},
        "theirs": None,
        "mine": {"name": name},
    }


async def test_staff_acting_for_an_organisation_that_does_not_exist_are_told_so(door: Door) -> None:
    answer = await door.ask(
        "admin",
        "query Q($id: ID!) { viewer { organisation { id } } accounts { nodes { id } } account(id: $id) { id } }",
        {"id": door.account_id(0)},
        headers={"X-Organisation": "nobody"},
    )

    assert (answer.status, answer.codes()) == (400, [("", "BAD_USER_INPUT")])
    assert "data" not in answer.body


async def test_a_caller_without_organisation_and_without_staff_role_sees_nothing(door: Door) -> None:
    token = door.issuer.token("owner-harbour", organisations=[])
    answer = await door.ask(
        None,
        "query Q($id: ID!, $i: ID!) { viewer { account { id } accounts { nodes { id } } } account(id: $id) { id } invoice(id: $i) { id } }",
        {"id": door.account_id(0), "i": ids_of(door.world, 0)["Invoice"]},
        token=token,
    )

    assert answer.data == {
        "viewer": {"account": None, "accounts": {"nodes": []}},
        "account": None,
        "invoice": None,
    }


# -- sources that make mistakes, and records that are shared or merged ---------------------------------------------------


class Careless:
    """A port that slips rows of account 1 among those of account 0."""

    def __init__(self, port: Any, foreign: Mapping[str, Any]) -> None:
        self._port, self._foreign = port, foreign

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)
        if name not in self._foreign:
            return real

        async def careless(*arguments: Any) -> Any:
            return [self._slipped(answer, self._foreign[name]) for answer in await real(*arguments)]

        return careless

    def _slipped(self, answer: Any, row: Any) -> Any:
        if isinstance(answer, Page):
            key = Key("", "slipped")
            return msgspec.structs.replace(answer, rows=[row, *answer.rows], keys=[key, *answer.keys])
        return [row, *answer] if isinstance(answer, list | tuple) else row


@pytest_asyncio.fixture(scope="module")
async def small(postgres: str) -> AsyncIterator[Door]:
    """A gateway of one's own over ten accounts; a contact of account 0 is also one of account 1."""
    import sources.vendors.hubspot.sandbox as hubspot

    world = World.build(0.05)
    shared = {world.contacts_by_account[0][0].hubspot_id: [world.accounts[1].hubspot_id]}
    with pytest.MonkeyPatch.context() as patch:
        whole = hubspot.sandbox
        patch.setattr(hubspot, "sandbox", lambda world: whole(world, also=shared))
        async with fresh_database(postgres) as url, open_door(world, url) as door:
            yield door


HOME = """{ viewer { account {
  name
  contacts(first: 5) { nodes { email } pageInfo { hasNextPage } }
  invoices(first: 5) { nodes { number } pageInfo { hasNextPage } }
  tickets(first: 5) { nodes { number comments { nodes { body } } } pageInfo { hasNextPage } }
  documents(first: 5) { nodes { title versions { id } } pageInfo { hasNextPage } }
} accounts { nodes { name } pageInfo { hasNextPage } } } }"""


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("crm", "contacts_of"),
        ("erp", "invoices_of"),
        ("helpdesk", "tickets_of"),
        ("helpdesk", "comments_of"),
        ("documents", "documents_of"),
        ("documents", "versions_of"),
    ],
)
async def test_a_row_of_another_customer_is_dropped_and_counted_and_the_page_stays_whole(
    small: Door, kind: str, method: str
) -> None:
    office, world = small.office, small.world
    before = await small.ask("owner-harbour", HOME)
    assert before.errors == []
    rows = {
        "contacts_of": (
            await office.backoffice.crm.contacts([Ref("hubspot", world.contacts_by_account[1][1].hubspot_id)])
        )[0],
        "invoices_of": (
            await office.ports[_kind("erp")].invoices([Ref("xero", world.invoices_by_account[1][0].id)])
        )[0],
        "tickets_of": (
            await office.ports[_kind("helpdesk")].tickets(
                [Ref("zendesk", str(world.tickets_by_account[1][0].id))]
            )
        )[0],
        "comments_of": await _comment(office.ports[_kind("helpdesk")], world),
        "documents_of": (
            await office.ports[_kind("documents")].documents(
                [Ref("s3", world.documents_by_account[1][0].key)]
            )
        )[0],
        "versions_of": (
            await office.ports[_kind("documents")].versions_of(
                [Ref("s3", world.documents_by_account[1][0].key)]
            )
        )[0][0],
    }
    careful, counted = office.backoffice, office.violations.total
    assert rows[method] is not None
    office.backoffice = msgspec.structs.replace(
        careful, **{kind: Careless(getattr(careful, kind), {method: rows[method]})}
    )
    try:
        after = await small.ask("owner-harbour", HOME)
    finally:
        office.backoffice = careful

    assert after.body == before.body
    assert office.violations.total > counted


def _kind(name: str) -> Any:
    from sources.registry import Kind

    return Kind(name)


async def _comment(helpdesk: Any, world: World) -> Any:
    from sources.ports.common import Window
    from sources.ports.helpdesk import CommentQuery

    ref = Ref("zendesk", str(world.tickets_by_account[1][0].id))
    (page,) = await helpdesk.comments_of([ref], CommentQuery(Window(first=1), internal=True))
    return page.rows[0]


async def test_an_account_that_the_crm_gives_for_another_is_not_shown(small: Door) -> None:
    office = small.office
    careful, counted = office.backoffice, office.violations.total
    (other,) = await careful.crm.accounts([Ref("hubspot", small.world.accounts[1].hubspot_id)])
    office.backoffice = msgspec.structs.replace(careful, crm=Careless(careful.crm, {"accounts": other}))
    try:
        answer = await small.ask(
            "owner-harbour",
            "query Q($id: ID!) { account(id: $id) { name } viewer { account { name } } }",
            {"id": small.account_id(0)},
        )
    finally:
        office.backoffice = careful

    assert answer.data == {"account": None, "viewer": {"account": None}}
    assert office.violations.total > counted


@pytest.mark.parametrize("person", ["owner-harbour", "owner-moeller"])
async def test_a_contact_of_two_accounts_is_seen_by_both_and_shows_neither_the_other(
    small: Door, person: str
) -> None:
    shared = small.world.contacts_by_account[0][0]
    account = CUSTOMERS[person.rpartition("-")[2]]
    answer = await small.ask(
        person,
        "query Q($id: ID!, $account: ID!) { node(id: $id) { ... on Contact { email } } "
        "account(id: $account) { contacts(first: 100) { nodes { email } } } }",
        {"id": node_id("Contact", Ref("hubspot", shared.hubspot_id)), "account": small.account_id(account)},
    )

    assert answer.data["node"] == {"email": shared.email}
    own = {c.email for c in small.world.contacts_by_account[account] if not c.archived}
    assert {node["email"] for node in answer.data["account"]["contacts"]["nodes"]} == own | {shared.email}


MERGED = """query Q($old: ID!, $new: ID!, $invoice: ID!, $ticket: ID!, $contact: ID!) {
  viewer { account { id name } accounts { nodes { id } } }
  old: account(id: $old) { id invoices(first: 1) { nodes { number } } }
  new: account(id: $new) { id contacts { nodes { email } } }
  invoice(id: $invoice) { number account { id } }
  ticket(id: $ticket) { number account { id } }
  node(id: $contact) { ... on Contact { email } }
}"""


async def test_an_organisation_whose_account_was_merged_has_all_of_the_survivor(small: Door) -> None:
    world, account = small.world, small.world.accounts[6]
    (old,) = account.merged_hubspot_ids
    await small.office.ledger.organisations.save(
        OrganisationRecord("merged", "Merged", (Ref("hubspot", old),))
    )
    token = small.issuer.token("owner-harbour", organisations=["merged"], sub="owner-merged")
    invoice = next(i for i in world.invoices_by_account[6] if i.status in ("AUTHORISED", "PAID"))
    ticket, person = world.tickets_by_account[6][0], world.contacts_by_account[6][0]
    variables = {
        "old": node_id("Account", Ref("hubspot", old)),
        "new": small.account_id(6),
        "invoice": node_id("Invoice", Ref("xero", invoice.id)),
        "ticket": node_id("Ticket", Ref("zendesk", str(ticket.id))),
        "contact": node_id("Contact", Ref("hubspot", person.hubspot_id)),
    }
    id_ = small.account_id(6)

    # Each alone and all together: what one field learns must not be what another depends on.
    for wanted in (["viewer"], ["old"], ["new"], ["invoice"], ["ticket"], ["node"], list("*")):
        lines = MERGED.splitlines()
        query = "\n".join(
            line
            for line in lines
            if wanted == ["*"] or not line.startswith("  ") or line.split()[0].startswith(tuple(wanted))
        )
        used = {name: value for name, value in variables.items() if f"(id: ${name})" in query}
        query = query.replace(
            lines[0], f"query Q({', '.join(f'${name}: ID!' for name in used)}) {{" if used else "{"
        )
        answer = await small.ask(None, query, used, token=token)
        assert answer.errors == [], wanted
        data = answer.data
        assert data.get("viewer", {"account": {"id": id_}})["account"]["id"] == id_
        assert data.get("old", {"id": id_})["id"] == id_
        assert data.get("new", {"id": id_})["id"] == id_
        assert data.get("invoice", {"account": {"id": id_}})["account"] == {"id": id_}
        assert data.get("ticket", {"account": {"id": id_}})["account"] == {"id": id_}
        assert data.get("node", {"email": person.email}) == {"email": person.email}


async def test_a_merge_into_the_account_of_another_organisation_gives_nobody_its_records(small: Door) -> None:
    world, account = small.world, small.world.accounts[6]
    (old,) = account.merged_hubspot_ids
    organisations = small.office.ledger.organisations
    await organisations.save(
        OrganisationRecord("survivor", "Survivor", (Ref("hubspot", account.hubspot_id),))
    )
    await organisations.save(OrganisationRecord("merged", "Merged", (Ref("hubspot", old),)))
    token = small.issuer.token("owner-harbour", organisations=["merged"], sub="owner-merged")
    leaks = walk.facts(world, 6)
    id_ = node_id("Account", Ref("hubspot", old))
    try:
        for query, type_ in (
            ("query Q($id: ID!) { node(id: $id) { id } }", "Account"),
            ("query Q($id: ID!) { account(id: $id) { name invoices { nodes { number } } } }", "Account"),
            ("{ viewer { account { name } accounts { nodes { name } } } accounts { nodes { name } } }", None),
        ):
            for one in (id_, small.account_id(6)) if type_ else (None,):
                answer = await small.ask(None, query, {"id": one} if one else None, token=token)
                assert not set(walk.texts(answer.data)) & leaks
        by_id = await small.ask(
            None,
            "query Q($i: ID!, $t: ID!, $c: ID!, $d: ID!) { a: node(id: $i) { id } b: node(id: $t) { id } c: node(id: $c) { id } d: node(id: $d) { id } }",
            {
                "i": node_id("Invoice", Ref("xero", world.invoices_by_account[6][0].id)),
                "t": node_id("Ticket", Ref("zendesk", str(world.tickets_by_account[6][0].id))),
                "c": node_id("Contact", Ref("hubspot", world.contacts_by_account[6][0].hubspot_id)),
                "d": node_id("Document", Ref("s3", f"{account.s3_prefix}contract/x.pdf")),
            },
            token=token,
        )
        assert by_id.data == {"a": None, "b": None, "c": None, "d": None}
    finally:
        await organisations.save(OrganisationRecord("survivor", "Survivor", ()))


async def test_an_account_that_is_taken_from_an_organisation_is_not_shown_to_its_people_any_more(
    small: Door,
) -> None:
    world, organisations = small.world, small.office.ledger.organisations
    before, after = len(world.accounts) - 1, len(world.accounts) - 2
    token = small.issuer.token("owner-harbour", organisations=["moving"], sub="owner-moving")
    query = "query Q($id: ID!) { viewer { organisation { name } account { id } } account(id: $id) { id } }"
    seen = []
    try:
        for name, own in (("One", (before,)), ("Two", (after,)), ("None", ())):
            accounts = tuple(Ref("hubspot", world.accounts[index].hubspot_id) for index in own)
            await organisations.save(OrganisationRecord("moving", name, accounts))
            # Twice, as what is known of a caller is kept.
            for _ in range(2):
                answer = await small.ask(None, query, {"id": small.account_id(before)}, token=token)
                seen.append((answer.data["viewer"], answer.data["account"]))
    finally:
        await organisations.save(OrganisationRecord("moving", "Moving", ()))

    first, second = {"id": small.account_id(before)}, {"id": small.account_id(after)}
    assert seen == [
        *[({"organisation": {"name": "One"}, "account": first}, first)] * 2,
        *[({"organisation": {"name": "Two"}, "account": second}, None)] * 2,
        *[({"organisation": {"name": "None"}, "account": None}, None)] * 2,
    ]


async def test_the_violations_of_all_these_requests_are_none(door: Door) -> None:
    assert door.office.violations.total == 0
