"""Operations whose answers are streamed: those of a subscription as they come, one of any other."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from time import perf_counter
from typing import Any

from graphql import ExecutionResult, GraphQLError, OperationType, get_named_type

from gateway import xray
from gateway.audit import FAILED, LEFT, Done, done_of
from gateway.caller import Caller, news
from gateway.errors import log_sources, of_source
from gateway.limits import Prepared, prepare
from gateway.office import Office
from gateway.operations import Answer, Operation, Operations, answered, demanded
from permissions.principal import Principal
from resolvers.context import Context
from resolvers.errors import Forbidden
from sources.layers.touched import Touched
from sources.ports.errors import SourceError
from sources.ports.trace import here, span
from sources.transport.deadline import deadline


class Subscriptions:
    """Runs operations for callers who stay connected."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._operations = Operations(office)

    def subscribes(self, operation: Operation) -> bool:
        """Will it have more than one answer?"""
        try:
            prepared = prepare(self._office.schema.graphql, operation.query)
        except GraphQLError:
            return False
        return prepared.kind(operation.operation_name) is OperationType.SUBSCRIPTION

    async def stream(
        self, operation: Operation, caller: Caller, request_id: str, *, only_query: bool
    ) -> AsyncGenerator[Answer, None]:
        """Its answers; the last one says why there are no more where there is a reason."""
        if not self.subscribes(operation):
            with self._office.tracing.apart():
                answer = await self._operations.run(
                    operation, caller.principal, request_id, only_query=only_query
                )
            yield answer
            return
        prepared = prepare(self._office.schema.graphql, operation.query)
        running = _Running(self._office, self._operations, operation, prepared, caller, request_id)
        async with aclosing(running), aclosing(running.answers()) as answers:
            async for answer in answers:
                yield answer


class _Running:
    """One subscription. Every answer is worked out for the caller as they are at that moment, and recorded."""

    def __init__(
        self,
        office: Office,
        operations: Operations,
        operation: Operation,
        prepared: Prepared,
        caller: Caller,
        request_id: str,
    ) -> None:
        self._office, self._operations = office, operations
        self._operation, self._prepared = operation, prepared
        self._caller, self._request_id = caller, request_id
        self._source: AsyncGenerator[Any, None] | None = None
        self._next: asyncio.Task[Any] | None = None

    async def aclose(self) -> None:
        """Nothing of it is left running."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
            self._next = None
        if self._source is not None:
            await self._source.aclose()
            self._source = None

    async def answers(self) -> AsyncGenerator[Answer, None]:
        """Ends with the source, or when the caller may no longer see what is asked."""
        change, principal = self._caller.change, self._caller.principal
        if refused := await self._recorded(self._subscribe):
            yield refused
            return
        changed = asyncio.create_task(change.wait(), name="subscription-change")
        try:
            while True:
                assert self._source is not None
                self._next = self._next or asyncio.create_task(_taken(self._source), name="subscription")
                await asyncio.wait([changed, self._next], return_when=asyncio.FIRST_COMPLETED)
                if changed.done():
                    change, before, principal = self._caller.change, principal, self._caller.principal
                    changed = asyncio.create_task(change.wait(), name="subscription-change")
                    if refused := self._lost(before, principal):
                        yield refused
                        return
                    if principal.organisation != before.organisation:
                        await self.aclose()
                        if refused := await self._recorded(self._subscribe):
                            yield refused
                            return
                    continue
                try:
                    event = self._next.result()
                except Exception as error:
                    # It is over, and the connection's other operations go on.
                    told = GraphQLError(str(error), original_error=error)
                    yield answered(ExecutionResult(None, [told]), self._request_id)
                    return
                if event is None:
                    return
                self._next = None
                yield await self._event(event[0])
        finally:
            changed.cancel()
            await asyncio.gather(changed, return_exceptions=True)

    async def _subscribe(self, context: Context) -> Answer | None:
        """None: the source runs."""
        operation = self._operation
        name, variables = operation.operation_name, operation.variables or {}
        if refusals := self._prepared.refusals(name, variables, only_query=True, streaming=True):
            return answered(ExecutionResult(None, refusals), self._request_id)
        if refused := demanded(self._office, self._caller.principal, OperationType.SUBSCRIPTION):
            return refused
        context.live = _Live(self._caller, self._office)
        source = await self._office.engine.subscribe(self._prepared.document, context, variables, name)
        if isinstance(source, ExecutionResult):
            return answered(source, self._request_id)
        self._source = source
        return None

    async def _event(self, payload: Any) -> Answer:
        async def execute(context: Context) -> Answer:
            operation = self._operation
            result = await self._office.engine.event(
                self._prepared.document, context, payload, operation.variables, operation.operation_name
            )
            return answered(result, self._request_id)

        answer = await self._recorded(execute)
        assert answer is not None
        # One answer that failed is not the end of the others.
        return answer if answer.ran else Answer({**answer.body, "data": None}, ran=True)

    async def _recorded(self, work: Callable[[Context], Awaitable[Answer | None]]) -> Answer | None:
        with self._office.tracing.apart(), span("operation", "event") as seen:
            seen.note(operationType="subscription", requestId=self._request_id)
            answer = await self._within(work)
            if answer is not None:
                xray.tell_outcome(seen, answer.body)
            return answer

    async def _within(self, work: Callable[[Context], Awaitable[Answer | None]]) -> Answer | None:
        """Within the deadline, with a context of its own, and in the audit trail."""
        principal, touched = self._caller.principal, Touched()
        began, done = perf_counter(), LEFT
        answer: Answer | None = None
        record = self._operations.record(self._operation, self._prepared, principal)
        if (at := here()) is not None:
            at.note(operationName=record.name)
        with deadline(self._office.settings.door.deadline):
            try:
                with self._office.audit.reading(record, touched) as reading:
                    context = await self._office.context(principal, touched)
                    try:
                        answer = await work(context)
                    finally:
                        context.release()
                    done = reading.done = done_of(answer.body, answer.ran) if answer is not None else Done()
            except SourceError as error:
                log_sources([error])
                answer, done = Answer({"errors": [of_source(error)]}, ran=False, available=False), FAILED
            finally:
                self._office.requests.operation(
                    record.kind.value, done, None if answer is None else answer.body, began
                )
        return answer

    def _lost(self, before: Principal, now: Principal) -> Answer | None:
        """The refusal where the caller might see before what the operation asks for, and may not now."""
        denied = self._office.schema.policy.denied(now.held)
        lost = [
            (type_, field)
            for type_, _, field in (one.partition(".") for one in self._asked(before) - self._asked(now))
            if (type_, field) in denied
        ]
        if not lost:
            return None
        types = self._office.schema.graphql.type_map
        below = {get_named_type(types[type_].fields[field].type).name for type_, field in lost}
        # What is below a lost field is lost with it, and not told of.
        told = [place for place in lost if place[0] not in below] or lost
        errors = [Forbidden(".".join(place), denied[place], now.held) for place in sorted(told)]
        result = ExecutionResult(None, [GraphQLError(str(error), original_error=error) for error in errors])
        return answered(result, self._request_id)

    def _asked(self, principal: Principal) -> frozenset[str]:
        operation, policy = self._operation, self._office.schema.policy
        asked = self._prepared.asked(
            operation.operation_name, policy, principal.held, operation.variables or {}
        )
        return frozenset(asked.coordinates if asked else ())


class _Live:
    """Fills Live for one caller."""

    def __init__(self, caller: Caller, office: Office) -> None:
        self._caller, self._office = caller, office

    def standings(self) -> AsyncGenerator[Principal, None]:
        return self._caller.standings()

    def news(self, *books: str) -> AsyncGenerator[None, None]:
        return news(self._office.ledger.changes, *books)


async def _taken(source: AsyncGenerator[Any, None]) -> tuple[Any] | None:
    """The next event; None at the end."""
    try:
        return (await anext(source),)
    except StopAsyncIteration:
        return None
