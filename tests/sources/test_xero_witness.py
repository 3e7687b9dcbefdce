"""Two witnesses from outside: Xero's own Python client against the sandbox, and Xero's specification against both sides."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
from jsonschema import FormatChecker
from openapi_schema_validator import OAS30ReadValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4
from xero_python.accounting import AccountingApi
from xero_python.api_client import ApiClient
from xero_python.api_client.configuration import Configuration
from xero_python.api_client.oauth2 import OAuth2Token, TokenApi
from xero_python.exceptions import (
    AccountingBadRequestException,
    HTTPStatusException,
    NotFoundException,
)
from xero_python.identity import IdentityApi

from sources.ports.common import Criterion, Direction, Ref, Window
from sources.ports.erp import InvoiceOrder, InvoiceQuery, InvoiceStatus
from sources.sandbox.recording import Call
from sources.sandbox.server import Running, ServerThread, serve
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.xero.erp import connect
from sources.vendors.xero.sandbox import (
    API,
    FIRST_REFRESH_TOKEN,
    TENANT,
    WEB_APP,
    XeroSandbox,
    sandbox,
    settings_for,
)

UNDOCUMENTED_PATHS = {
    "/connect/token": "the identity specification describes the connections only; RFC 6749 describes this",
}

UNDOCUMENTED_MEMBERS = {
    "Id": "on every envelope of the specification's own examples",
    "Status": "on every envelope of the specification's own examples",
    "ProviderName": "on every envelope of the specification's own examples",
    "DateTimeUTC": "on every envelope of the specification's own examples",
    "DateString": "beside Date in the specification's own examples",
    "DueDateString": "beside DueDate in the specification's own examples",
    "ID": "on credit notes in the specification's own examples",
}
"""What the specification's schemas leave out, and why the sandbox sends it all the same."""


class Client:
    """xero-python, which knows nothing of this house."""

    def __init__(self, running: Running) -> None:
        self.saved: list[dict[str, Any]] = []
        stale = {
            "access_token": "stale",
            "refresh_token": FIRST_REFRESH_TOKEN,
            "scope": ["offline_access", "accounting.transactions.read"],
            "expires_in": 1800,
            "expires_at": time.time() - 1,
            "token_type": "Bearer",
        }
        configuration = Configuration(oauth2_token=OAuth2Token(*WEB_APP))
        # Configuration is a singleton that hands out copies; one per test is wanted here.
        configuration.oauth2_token = OAuth2Token(*WEB_APP)
        api = ApiClient(
            configuration,
            oauth2_token_getter=lambda: self.saved[-1] if self.saved else stale,
            oauth2_token_saver=self.saved.append,
        )
        self.accounting = AccountingApi(api, base_url=running.url + API)
        self.identity = IdentityApi(api, base_url=running.url)


@pytest.fixture(scope="module")
def xero(world) -> Iterator[tuple[XeroSandbox, Running]]:
    emulator = sandbox(world, per_minute=None, per_day=None, record_bodies=True)
    with ServerThread(emulator) as running:
        yield emulator, running


@pytest.fixture(scope="module")
def client(xero) -> Iterator[Client]:
    """Signs in by refreshing, at its first call: its token address is the one thing that has no setting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenApi, "refresh_token_url", f"{xero[1].url}/connect/token")
        yield Client(xero[1])


def test_the_client_refreshes_its_token_once_and_lists_the_connections(client):
    [connection] = client.identity.get_connections()

    assert (connection.tenant_id, connection.tenant_type) == (TENANT, "ORGANISATION")
    assert client.saved[0]["refresh_token"] != FIRST_REFRESH_TOKEN
    assert "offline_access" in client.saved[0]["scope"]


def test_the_client_reads_invoices_as_the_world_has_them(client, world):
    contact = str(world.accounts[1].xero_contact_id)

    answer = client.accounting.get_invoices(
        TENANT,
        contact_i_ds=[contact],
        statuses=["AUTHORISED", "PAID"],
        where='Type=="ACCREC" AND Date>=DateTime(2026,01,01)',
        order="Date DESC",
        page=1,
        page_size=1000,
        unitdp=4,
    )

    expected = {
        invoice.id: invoice
        for invoice in world.invoices_by_account[1]
        if invoice.status in ("AUTHORISED", "PAID") and invoice.issue_date >= date(2026, 1, 1)
    }
    assert {invoice.invoice_id for invoice in answer.invoices} == set(expected)
    assert [invoice.date for invoice in answer.invoices] == sorted(
        (invoice.issue_date for invoice in expected.values()), reverse=True
    )
    assert (answer.pagination.page_count, answer.pagination.item_count) == (1, len(expected))
    for invoice in answer.invoices:
        truth = expected[invoice.invoice_id]
        assert (invoice.due_date, invoice.status, invoice.total) == (
            truth.due_date,
            truth.status,
            truth.total,
        )
        assert (invoice.amount_due, invoice.currency_code.value) == (truth.amount_due, truth.currency)
        assert invoice.updated_date_utc == truth.updated_at
        assert invoice.contact.contact_id == contact
        assert [line.line_amount for line in invoice.line_items] == [line.line_amount for line in truth.lines]
        assert [paid.amount for paid in invoice.payments] == [paid.amount for paid in truth.payments]
        assert [note.applied_amount for note in invoice.credit_notes] == [
            n.amount for n in truth.credit_notes
        ]


def test_the_client_turns_pages_without_gap_or_overlap(client, world):
    seen: list[str] = []
    page = pages = 1
    while page <= pages:
        answer = client.accounting.get_invoices(TENANT, order="Total ASC", page=page, page_size=900)
        pages = answer.pagination.page_count
        seen += [invoice.invoice_id for invoice in answer.invoices]
        page += 1

    assert len(seen) == len(set(seen)) == len(world.invoices) + len(world.bills)


def test_the_client_reads_one_invoice_by_id_and_by_number_and_prints_it(client, world):
    truth = world.invoices[3]

    by_id = client.accounting.get_invoice(TENANT, truth.id).invoices[0]
    by_number = client.accounting.get_invoice(TENANT, truth.number).invoices[0]
    pdf = Path(client.accounting.get_invoice_as_pdf(TENANT, truth.id))

    assert by_id.invoice_id == by_number.invoice_id == truth.id
    assert pdf.read_bytes().startswith(b"%PDF-")
    pdf.unlink()


def test_the_client_reads_contacts_archived_ones_only_when_asked(client, world):
    merged = next(account for account in world.accounts if account.merged_xero_contacts)
    old = merged.merged_xero_contacts[0].xero_contact_id
    where = 'EmailAddress!=null&&EmailAddress.EndsWith("@' + merged.domain + '")'

    active = client.accounting.get_contacts(TENANT, where=where, page=1)
    everyone = client.accounting.get_contacts(TENANT, where=where, page=1, include_archived=True)
    single = client.accounting.get_contact(TENANT, merged.xero_contact_id).contacts[0]

    assert [contact.contact_id for contact in active.contacts] == [merged.xero_contact_id]
    assert {contact.contact_id: contact.merged_to_contact_id for contact in everyone.contacts} == {
        merged.xero_contact_id: None,
        old: merged.xero_contact_id,
    }
    assert (single.name, single.email_address) == (merged.erp_name, merged.xero_email)


def test_the_client_reads_payments_and_credit_notes_by_where(client, world):
    contact = world.accounts[0].xero_contact_id

    notes = client.accounting.get_credit_notes(TENANT, where=f'Contact.ContactID=guid("{contact}")', page=1)
    payments = client.accounting.get_payments(
        TENANT, where=f'Invoice.Contact.ContactID=guid("{contact}") AND PaymentType=="ACCRECPAYMENT"', page=1
    )

    assert {note.credit_note_id: note.remaining_credit for note in notes.credit_notes} == {
        note.id: note.remaining for note in world.credit_notes_by_account[0]
    }
    assert {payment.payment_id for payment in payments.payments} == {
        paid.id for invoice in world.invoices_by_account[0] for paid in invoice.payments
    }


def test_the_client_reads_the_organisation_and_its_currencies(client):
    assert client.accounting.get_organisations(TENANT).organisations[0].organisation_id == TENANT
    assert {c.code.value for c in client.accounting.get_currencies(TENANT).currencies} >= {
        "GBP",
        "JPY",
        "KWD",
    }


def test_the_client_gets_only_what_changed_since(client, world):
    since = datetime.combine(world.today - timedelta(days=1), datetime.min.time())

    answer = client.accounting.get_invoices(
        TENANT, if_modified_since=since.isoformat(), page=1, page_size=1000
    )

    assert {invoice.invoice_id for invoice in answer.invoices} == {
        invoice.id
        for invoice in (*world.invoices, *world.bills)
        if invoice.updated_at >= since.replace(tzinfo=UTC)
    }


def test_the_client_understands_the_sandboxs_refusals(client):
    with pytest.raises(AccountingBadRequestException) as fault:
        client.accounting.get_invoices(TENANT, where='Colour=="red"', page=1)
    assert (fault.value.error_data["Type"], fault.value.error_data["ErrorNumber"]) == (
        "QueryParseException",
        16,
    )
    with pytest.raises(NotFoundException):
        client.accounting.get_invoice(TENANT, "00000000-0000-4000-8000-000000000000")
    with pytest.raises(HTTPStatusException) as refused:
        client.accounting.get_invoices("00000000-0000-4000-8000-000000000000", page=1)
    assert refused.value.status == 403


def test_the_client_waits_as_long_as_a_rate_limit_tells_it_to(client, xero):
    xero[0].log.clear()
    xero[0].faults.add("rate_limit", API, times=1, retry_after=1.0)

    client.accounting.get_currencies(TENANT)

    assert [call.status for call in xero[0].log.calls()] == [429, 200]


class Specification:
    """Xero's descriptions of its Accounting API and of its connections."""

    def __init__(self, folder: Path) -> None:
        self._accounting = json.loads((folder / "xero-accounting.json").read_text())
        self._identity = json.loads((folder / "xero-identity.json").read_text())
        self._registry = Registry().with_resources(
            (name, Resource(contents=document, specification=DRAFT4))
            for name, document in (("accounting", self._accounting), ("identity", self._identity))
        )
        self._formats = FormatChecker(formats=())
        self._formats.checks("uuid", raises=ValueError)(
            lambda text: bool(UUID(text)) or not isinstance(text, str)
        )

    def faults(self, call: Call) -> list[str]:
        """What in this call and its answer the specification does not allow, one line each."""
        if call.path in UNDOCUMENTED_PATHS:
            return []
        name, document = (
            ("accounting", self._accounting) if call.path.startswith(API) else ("identity", self._identity)
        )
        path = call.path.removeprefix(API)
        shown = f"{call.method} {path} {call.status}"
        if name == "identity":
            path = path.replace("/connections", "/Connections")
        template = self._template(document["paths"], path)
        if template is None:
            return [f"{shown}: no such path"]
        item = document["paths"][template]
        parameters = [
            self._resolved(document, parameter)
            for parameter in (*item.get("parameters", ()), *item[call.method.lower()].get("parameters", ()))
        ]
        faults = [f"{shown}: {fault}" for fault in self._request_faults(parameters, call, name)]
        return faults + [f"{shown}: {fault}" for fault in self._response_faults(item, call, name)]

    def _request_faults(self, parameters: list[dict[str, Any]], call: Call, name: str) -> Iterator[str]:
        known = {(parameter["in"], parameter["name"].lower()): parameter for parameter in parameters}
        headers = dict(call.request_headers)
        for (place, header), parameter in known.items():
            if place == "header" and parameter.get("required") and header not in headers:
                yield f"header {header} is missing"
        for key, value in call.query:
            parameter = known.get(("query", key.lower()))
            if parameter is None or parameter["name"] != key:
                yield f"parameter {key} is not described"
                continue
            schema = parameter["schema"]
            yield from self._schema_faults(_typed(value, schema["type"]), schema, name, f"parameter {key}")

    def _response_faults(self, item: dict[str, Any], call: Call, name: str) -> Iterator[str]:
        assert not call.truncated
        media_type = dict(call.response_headers).get("content-type", "").partition(";")[0]
        if call.status == 400:
            yield from self._schema_faults(
                json.loads(call.response_body), {"$ref": "#/components/schemas/Error"}, name, "error"
            )
        elif call.status == 200:
            described = item["get"]["responses"]["200"]["content"]
            if (
                media_type == "application/pdf"
            ):  # described under /Invoices/{InvoiceID}/pdf, with this path beside it
                described = self._accounting["paths"]["/Invoices/{InvoiceID}/pdf"]["get"]["responses"]["200"][
                    "content"
                ]
            if media_type not in described:
                yield f"an answer of {media_type}"
            elif media_type == "application/json":
                schema, body = (
                    described[media_type]["schema"],
                    json.loads(call.response_body, parse_float=Decimal),
                )
                yield from self._schema_faults(body, schema, name, "answer")
                yield from self._undescribed(body, schema, name)

    def _schema_faults(self, value: Any, schema: dict[str, Any], name: str, where: str) -> Iterator[str]:
        validator = OAS30ReadValidator(
            self._absolute(schema, name), registry=self._registry, format_checker=self._formats
        )
        for error in validator.iter_errors(value):
            yield f"{where}{error.json_path[1:]}: {error.message[:200]}"

    def _undescribed(self, value: Any, schema: dict[str, Any], name: str) -> Iterator[str]:
        document = {"accounting": self._accounting, "identity": self._identity}[name]
        schema = self._resolved(document, schema)
        if isinstance(value, list):
            for member in value:
                yield from self._undescribed(member, schema.get("items", {}), name)
        elif isinstance(value, dict):
            for key, member in value.items():
                if key in schema.get("properties", {}):
                    yield from self._undescribed(member, schema["properties"][key], name)
                elif key not in UNDOCUMENTED_MEMBERS:
                    yield f"{key} is not described"

    def _absolute(self, schema: dict[str, Any], name: str) -> dict[str, Any]:
        if "$ref" in schema:
            return {"$ref": f"{name}{schema['$ref']}"}
        if "items" in schema:
            return {**schema, "items": self._absolute(schema["items"], name)}
        return schema

    @staticmethod
    def _resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in node:
            return node
        for part in node["$ref"].removeprefix("#/").split("/"):
            document = document[part]
        return document

    @staticmethod
    def _template(paths: dict[str, Any], path: str) -> str | None:
        if path in paths:
            return path
        asked = unquote(path).split("/")
        for template in paths:
            parts = template.split("/")
            if len(parts) == len(asked) and all(
                a == b or b.startswith("{") for a, b in zip(asked, parts, strict=True)
            ):
                return template
        return None


def _typed(text: str, kind: str) -> Any:
    """What a query parameter's text stands for; the text itself where it does not fit."""
    match kind:
        case "integer" if text.isdigit():
            return int(text)
        case "boolean" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "array":
            return text.split(",")
    return text


@pytest.fixture(scope="module")
def specification(specs) -> Specification:
    return Specification(specs)


def test_what_the_client_asked_and_got_is_as_specified(client, xero, world, specification):
    xero[0].log.clear()
    contact = str(world.accounts[0].xero_contact_id)
    api = client.accounting
    api.get_invoices(TENANT, contact_i_ds=[contact], page=1)
    api.get_invoices(TENANT, contact_i_ds=[contact], page=1, summary_only=True)
    api.get_invoices(TENANT, invoice_numbers=[world.invoices[0].number])
    api.get_invoice(TENANT, world.invoices[0].id)
    api.get_contacts(TENANT, i_ds=[contact], include_archived=True)
    api.get_contacts(TENANT, page=1)
    api.get_credit_notes(TENANT, page=1)
    api.get_payments(TENANT, page=1)
    api.get_organisations(TENANT)
    api.get_currencies(TENANT)
    client.identity.get_connections()
    with pytest.raises(AccountingBadRequestException):
        api.get_invoices(TENANT, where="Total>", page=1)

    calls = xero[0].log.calls()
    assert [fault for call in calls for fault in specification.faults(call)] == []
    assert len([call for call in calls if call.response_body]) >= 12


async def test_what_the_connector_asks_and_gets_is_as_specified(world, specification):
    emulator = sandbox(world, per_minute=None, per_day=None, record_bodies=True)
    customers = [
        Ref("xero", account.xero_contact_id) for account in world.accounts if account.xero_contact_id
    ][:8]
    invoices = [Ref("xero", invoice.id) for invoice in world.invoices[:50]]
    every = (InvoiceStatus.DRAFT, InvoiceStatus.OPEN, InvoiceStatus.PAID, InvoiceStatus.VOID)
    async with serve(emulator) as running:
        erp = connect(settings_for(running.url), Wiring(tokens=None, network=Network(guarded=False)))
        await erp.probe()
        await erp.customers(customers)
        for criterion in Criterion:
            await erp.customers_by(criterion, ["C-10001", "harbourvale.example"])
        await erp.invoices(invoices)
        for order in InvoiceOrder:
            for direction in Direction:
                query = InvoiceQuery(
                    Window(last=10),
                    every,
                    total_min=Decimal(1),
                    due_from=date(2025, 1, 1),
                    order=order,
                    direction=direction,
                )
                await erp.invoices_of(customers, query)
        await erp.balances_of(customers, world.today)
        await erp.invoice_pdf(invoices[0])
        await erp.close()

    calls = emulator.log.calls()
    assert [fault for call in calls for fault in specification.faults(call)] == []
    assert {call.status for call in calls} == {200}
    assert len(calls) > 10


def test_the_specification_is_really_asked(specification):
    wrong = Call(
        1,
        "GET",
        f"{API}/Invoices",
        (("pagesize", "5"),),
        200,
        response_headers=(("content-type", "application/json"),),
        response_body=b'{"Invoices":[{"Type":"SALE","InvoiceID":"x","Total":"1","Colour":"red"}]}',
    )

    faults = specification.faults(wrong)

    for words in ("xero-tenant-id is missing", "pagesize is not described", "'SALE'", "'x'", "'1'", "Colour"):
        assert any(words in fault for fault in faults), words
