"""One operation's way, the same over HTTP, event streams and sockets: limits, sources as the caller may see them, run."""

from collections.abc import Awaitable
from functools import partial
from typing import Any

import msgspec
from graphql import ExecutionResult, GraphQLError, OperationType

from gateway import freshness, xray
from gateway.audit import FAILED, LEFT, done_of
from gateway.coordinates import Asked
from gateway.errors import formatted, log_sources, of_source
from gateway.limits import Prepared, prepare
from gateway.office import Office
from gateway.presence import Presence
from gateway.signin.refused import SignInRefused
from gateway.terms import Wishes, terms
from permissions.principal import ANONYMOUS, Principal
from resolvers.errors import ViewingOnly
from sources.layers.cache.freshness import ANY, LIVE, Demand, Reading, reading_as
from sources.layers.touched import Touched
from sources.ports.audit import AuditKind, AuditRecord
from sources.ports.errors import SourceError
from sources.ports.trace import here, span
from sources.transport.caller import call_as_before, call_for
from sources.transport.deadline import deadline

encoded = msgspec.json.Encoder(decimal_format="string").encode
"""Of an answer, or of a message with one in it."""


MAX_PUBLIC_LENGTH = 2_000
"""Of the document of who has not signed in."""


class Operation(msgspec.Struct, frozen=True, rename="camel"):
    """What a client sends, whichever way."""

    query: str
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None


_MUTATION = AuditKind.MUTATION
"""Once: an enum looks its members up in Python (CPython 3.11)."""


class Answer(msgspec.Struct, frozen=True):
    """What the client gets: ``data`` and ``errors``."""

    body: dict[str, Any]
    ran: bool
    """A document that never ran has no data, and by the newer media type no status 200 either."""
    available: bool = True
    """Could it be told what the caller may see?"""
    kept: dict[str, str] | None = None
    """By which headers the caller's own cache may keep it; None: it may not."""
    refused: SignInRefused | None = None
    """What such an operation demands of the sign-in, where this one falls short."""


class Operations:
    """Runs operations for callers who have signed in."""

    def __init__(self, office: Office) -> None:
        self._office, self._schema, self._policy = office, office.schema.graphql, office.schema.policy

    def run(
        self,
        operation: Operation,
        principal: Principal,
        request_id: str,
        only_query: bool,
        wished: Wishes | None = None,
        presence: Presence | None = None,
    ) -> Awaitable[Answer]:
        """A query or mutation, within the deadline, and how it ran where that is to be told. ``only_query``: nothing that
        changes something. Whatever it comes to is recorded; what cannot be is not run. A query ends when the client is not
        present any more."""
        if operation.extensions is None and here() is None:
            return self._run(operation, principal, request_id, only_query, wished, presence)
        running = partial(self._run, operation, principal, request_id, only_query, wished, presence)
        asked = xray.asked_for(operation.extensions)
        return xray.watched(running, encoded, principal, request_id, asked=asked)

    async def _run(
        self,
        operation: Operation,
        principal: Principal,
        request_id: str,
        only_query: bool,
        wished: Wishes | None,
        presence: Presence | None,
    ) -> Answer:
        office, touched, at = self._office, Touched(), here()
        if at is None:
            prepared, refusals, record = self._known(operation, principal, only_query)
        else:
            with span("parse", "document"):
                prepared, refusals, record = self._known(operation, principal, only_query)
        in_time, for_whom = terms(office.settings.door, principal, record.name, wished)
        in_time.begin()
        before = call_for(for_whom)
        try:
            refused = None
            if prepared is not None and office.signin.demands.of_operations:
                refused = demanded(office, principal, prepared.kind(operation.operation_name))
            if at is not None:
                xray.tell_of(at, self._asked(operation, prepared, principal) if prepared else None)
            answer: Answer | None = None
            done = LEFT
            try:
                if refusals or refused:
                    answer = refused or answered(ExecutionResult(None, refusals), request_id)
                    done = done_of(answer.body, answer.ran)
                    office.audit.read(record, None, done)
                    return answer
                assert prepared is not None
                if record.kind is _MUTATION:
                    async with office.audit.writing(record, touched) as writing:
                        answer = await self._answer(operation, prepared, principal, touched, request_id, LIVE)
                        done = writing.done = done_of(answer.body, answer.ran, touched)
                else:
                    demand = wished.freshness if wished is not None else ANY
                    if prepared.directed:
                        own = prepared.demand(operation.operation_name, operation.variables or {})
                        demand = own or demand
                    with office.audit.reading(record, touched) as reading:
                        if presence is not None:
                            presence.begin()
                        try:
                            answer = await self._answer(
                                operation, prepared, principal, touched, request_id, demand
                            )
                        finally:
                            if presence is not None:
                                presence.end()
                        done = reading.done = done_of(answer.body, answer.ran)
            except SourceError as error:
                log_sources([error])
                answer, done = Answer({"errors": [of_source(error)]}, ran=False, available=False), FAILED
            finally:
                office.requests.operation(record.kind._value_, done, None if answer is None else answer.body)
        finally:
            call_as_before(before)
            in_time.end()
        return answer

    async def run_public(self, operation: Operation, request_id: str, *, only_query: bool) -> Answer | None:
        """For who has shown no credentials at all; None: that takes some. Nothing that is anybody's is read, so nothing is
        recorded: strangers write nothing into the trail."""
        if len(operation.query) > MAX_PUBLIC_LENGTH:
            return None
        try:
            # Kept nowhere: what strangers send drives nobody's documents out.
            prepared = Prepared(self._schema, operation.query)
        except GraphQLError:
            return None
        name = operation.operation_name
        if not prepared.is_public(name, self._policy):
            return None
        if refusals := prepared.refusals(name, operation.variables or {}, only_query):
            return answered(ExecutionResult(None, refusals), request_id)
        with deadline(self._office.settings.door.deadline):
            with span("operation", name or "anonymous", operationType="query", requestId=request_id):
                answer = await self._answer(operation, prepared, ANONYMOUS, Touched(), request_id, ANY)
            if xray.asked_for(operation.extensions):
                answer = xray.refused(answer)
            done = done_of(answer.body, answer.ran)
            self._office.requests.operation(AuditKind.QUERY.value, done, answer.body)
            return answer

    def _known(
        self, operation: Operation, principal: Principal, only_query: bool
    ) -> tuple[Prepared | None, list[GraphQLError], AuditRecord]:
        """The document, why it must not run, and what is recorded of it."""
        try:
            prepared = prepare(self._schema, operation.query)
        except GraphQLError as error:
            return None, [error], self._office.audit.record(AuditKind.QUERY, principal)
        name = operation.operation_name
        refusals = prepared.refusals(name, operation.variables or {}, only_query)
        if principal.viewing and not refusals and prepared.kind(name) is OperationType.MUTATION:
            viewing = ViewingOnly()
            refusals = [GraphQLError(str(viewing), original_error=viewing)]
        return prepared, refusals, self.record(operation, prepared, principal)

    def record(self, operation: Operation, prepared: Prepared, principal: Principal) -> AuditRecord:
        """What is known of it before it runs."""
        asked = self._asked(operation, prepared, principal)
        if asked is None:
            return self._office.audit.record(AuditKind.QUERY, principal)
        return self._office.audit.record_of(asked, principal)

    def _asked(self, operation: Operation, prepared: Prepared, principal: Principal) -> Asked | None:
        return prepared.asked(
            operation.operation_name, self._policy, principal.held, operation.variables or {}
        )

    async def _answer(
        self,
        operation: Operation,
        prepared: Prepared,
        principal: Principal,
        touched: Touched,
        request_id: str,
        demand: Demand,
    ) -> Answer:
        viewing = self._office.context(principal, touched)
        if here() is None:
            context = await viewing
        else:
            with span("context", "caller's view"):
                context = await viewing
        cache = self._office.cache
        reading = Reading(cache.demand(demand), cache.clock()) if cache is not None else None
        try:
            executing = self._office.engine.execute(
                operation.query,
                prepared.document,
                context,
                operation.variables or {},
                operation.operation_name,
            )
            if reading is None:
                result = await executing
            else:
                with reading_as(reading):
                    result = await executing
        finally:
            context.release()
        answer = answered(result, request_id)
        if reading is None or cache is None or not reading.notes:
            return answer
        paths = prepared.paths(operation.operation_name, self._policy)
        if entries := freshness.shown(reading, paths):
            answer.body["extensions"] = {"freshness": entries}
        if result.errors or principal.viewing:
            return answer
        return msgspec.structs.replace(answer, kept=freshness.headers(reading, paths, cache.clock()))


def demanded(office: Office, principal: Principal, kind: OperationType | None) -> Answer | None:
    """None: the sign-in is strong and recent enough for such an operation."""
    try:
        if kind is not None:
            office.signin.demands.check_operation(principal, kind._value_)
    except SignInRefused as refused:
        error = {"message": str(refused), "extensions": refused.extensions}
        return Answer({"errors": [error]}, ran=False, refused=refused)
    return None


def answered(result: ExecutionResult, request_id: str) -> Answer:
    """Shown, with what is not meant for clients masked and logged."""
    body: dict[str, Any] = {}
    if result.errors:
        body["errors"] = formatted(result.errors, request_id)
    ran = result.data is not None or any(error.path for error in result.errors or ())
    if ran:
        body["data"] = result.data
    return Answer(body, ran)
