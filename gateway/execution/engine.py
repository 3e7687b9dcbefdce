"""Chooses how an operation runs, and keeps the plans of operations that came before."""

import gc
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Mapping
from inspect import isawaitable
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    OperationDefinitionNode,
    VariableNode,
    Visitor,
    create_source_event_stream,
    visit,
)

from gateway.execution.columns import ColumnRun
from gateway.execution.mentions import mentioned
from gateway.execution.plan import NotPlannable, Plan
from gateway.execution.policy import Refusals
from gateway.execution.replay import Row
from gateway.execution.request import Request
from resolvers.context import Context
from sources.ports.trace import here, span

SEEN_DOCUMENTS = 10_000
"""Of which is known that they came once."""
KEPT_DOCUMENTS = 1000
"""With plans. Only what comes again gets here, so that a flood of unique documents drives none out."""
KEPT_LENGTH = 8_000
"""Of the longest document that is planned."""
KEPT_VARIANTS = 16
"""Plans of one document: by operation, by the scopes that callers hold of those it mentions, by @skip and @include."""
KEPT_BYTES = 64 << 20
"""Of all plans together, with the parsed documents that they stand on; as estimated."""
TEXT_BYTES = 210
"""Of a parsed document, per character."""
GARBAGE_BYTES = 32 << 20
"""Of plans that were forgotten, after which they are collected: classes are circles, which otherwise wait for the collector's
rarest round."""


class _Kept:
    """What is known of a document that was seen again."""

    __slots__ = ("decides", "operations", "plans", "refusal", "size", "steering", "text")

    def __init__(self, text: str, document: DocumentNode, decides: frozenset[str]) -> None:
        self.text = text
        visitor = _Steering()
        visit(document, visitor)
        self.steering = sorted(visitor.names)
        self.refusal = "incremental delivery" if visitor.incremental else None
        self.operations = _operations(document)
        self.decides = decides
        """Of what callers hold, what decides which of its fields they are denied."""
        self.plans: OrderedDict[Any, Plan | str] = OrderedDict()
        """Each choice's plan, or the reason why there is none."""
        self.size = TEXT_BYTES * len(text)
        """Bytes as the engine counted them last."""


class Engine:
    """Executes operations of one schema. ``counts`` says how many ran which way: ``columns``, ``replayed``, ``first seen``,
    or the reason for which graphql-core ran it alone."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = self._forgotten = 0
        # No Counter, to which an addition takes ten times as long.
        self.counts: defaultdict[str, int] = defaultdict(int)

    @property
    def documents(self) -> int:
        """Those whose plans are kept."""
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Of all plans that are kept, as estimated."""
        return self._bytes

    async def execute(
        self,
        text: str,
        document: DocumentNode,
        context: Context,
        variables: Mapping[str, Any] | None = None,
        operation_name: str | None = None,
    ) -> ExecutionResult:
        """``document`` is ``text`` parsed and valid. A plan is made when a document comes a second time: a flood of
        unique ones costs no more than graphql-core's own first time."""
        request = Request(self._schema, document, context, variables, operation_name)
        if here() is None:
            chosen = self._chosen(text, request)
        else:
            with span("plan", "plan"):
                chosen = self._chosen(text, request)
        if isinstance(chosen, list):
            return ExecutionResult(None, chosen)
        try:
            if chosen is None:
                return await request.execute()
            return await self._run(*chosen, request)
        finally:
            request.release()

    def _chosen(self, text: str, request: Request) -> tuple[_Kept, Plan] | list[GraphQLError] | None:
        """The plan by which it runs; what is wrong with its variables or its operation's name; None: by graphql-core."""
        kept = self._kept.get(text)
        operation = kept.operations.get(request.name) if kept else None
        if errors := request.build() if operation is None else request.coerce(operation):
            return errors
        if kept is None:
            kept = self._seen_again(text, request)
        else:
            self._kept.move_to_end(text)
        plan = self._plan(kept, request) if kept else None
        return None if kept is None or plan is None else (kept, plan)

    async def _run(self, kept: _Kept, plan: Plan, request: Request) -> ExecutionResult:
        run = ColumnRun(plan, request)
        size = plan.size
        try:
            data = await run.run()
            if plan.size != size:
                self._bound(kept)
            if not run.failed:
                self._went("columns")
                return ExecutionResult(data, run.errors() or None)
            self._went("replayed")
            assert run.root is not None
            request.executor.root = Row(run.root, 0)
            return await request.execute()
        finally:
            run.release()

    async def subscribe(
        self,
        document: DocumentNode,
        context: Context,
        variables: Mapping[str, Any] | None = None,
        operation_name: str | None = None,
    ) -> AsyncGenerator[Any, None] | ExecutionResult:
        """The events of a subscription, or why there are none. Of what the caller is denied nothing is subscribed."""
        request = Request(self._schema, document, context, variables, operation_name)
        if errors := request.build() or request.executor.root_denials():
            return ExecutionResult(None, errors)
        events: Any = create_source_event_stream(request.executor)
        return await events if isawaitable(events) else events  # type: ignore[no-any-return]

    async def event(
        self,
        document: DocumentNode,
        context: Context,
        payload: Any,
        variables: Mapping[str, Any] | None = None,
        operation_name: str | None = None,
    ) -> ExecutionResult:
        """What one event of a subscription is for this context, which is the event's own. Always by graphql-core: events
        are few and small."""
        request = Request(self._schema, document, context, variables, operation_name)
        if errors := request.build(payload):
            return ExecutionResult(None, errors)
        try:
            return await request.execute()
        finally:
            request.release()

    def _went(self, way: str) -> None:
        self.counts[way] += 1
        if (at := here()) is not None:
            at.trace.said["way"] = way

    def _seen_again(self, text: str, request: Request) -> _Kept | None:
        if len(text) > KEPT_LENGTH:
            self._went("too long to plan")
            return None
        name = hash(text)  # two texts of one hash: the second is planned one request early
        if name not in self._seen:
            self._seen[name] = None
            if len(self._seen) > SEEN_DOCUMENTS:
                self._seen.popitem(last=False)
            self._went("first seen")
            return None
        del self._seen[name]
        kept = self._kept[text] = _Kept(
            text, request.document, self._decides(request.document, request.context)
        )
        self._bytes += kept.size
        if len(self._kept) > KEPT_DOCUMENTS:
            self._forget()
        return kept

    def _decides(self, document: DocumentNode, context: Context) -> frozenset[str]:
        places = set[tuple[str, str]]()
        for definition in document.definitions:
            if isinstance(definition, OperationDefinitionNode):
                places |= mentioned(self._schema.graphql, document, definition)
        return context.policy.mentions(places).held

    def _plan(self, kept: _Kept, request: Request) -> Plan | None:
        plan = kept.refusal or self._variant(kept, request)
        if isinstance(plan, Plan) and plan.refusal is None:
            return plan
        self._went(plan if isinstance(plan, str) else str(plan.refusal))
        return None

    def _variant(self, kept: _Kept, request: Request) -> Plan | str:
        chosen = tuple(map(request.variables.coerced.get, kept.steering))
        key = (request.name, chosen, request.context.principal.held & kept.decides)
        plan = kept.plans.get(key)
        if (at := here()) is not None:
            at.trace.said["known"] = plan is not None
        if plan is not None:
            kept.plans.move_to_end(key)
            return plan
        refusals = Refusals(request.context)
        try:
            plan = Plan(request.executor, refusals.denied, refusals.guards)
        except NotPlannable as reason:
            # Its words only: an exception's traceback would keep the request.
            plan = str(reason)
        except (GraphQLError, RecursionError):
            plan = "cannot be collected"  # graphql-core says it in its own words
        kept.plans[key] = plan
        if len(kept.plans) > KEPT_VARIANTS:
            _, old = kept.plans.popitem(last=False)
            self._forgotten += old.bytes if isinstance(old, Plan) else 0
        self._bound(kept)
        return plan

    def _bound(self, kept: _Kept) -> None:
        """Plans grow as they reach what they did not reach before."""
        if self._kept.get(kept.text) is not kept:
            return
        plans = [plan for plan in kept.plans.values() if isinstance(plan, Plan)]
        size = TEXT_BYTES * len(kept.text) + sum(plan.bytes for plan in plans)
        self._bytes += size - kept.size
        kept.size = size
        while self._bytes > KEPT_BYTES:
            self._forget()
        if self._forgotten > GARBAGE_BYTES:
            self._forgotten = 0
            gc.collect()

    def _forget(self) -> None:
        _, kept = self._kept.popitem(last=False)
        self._bytes -= kept.size
        self._forgotten += kept.size


def _operations(document: DocumentNode) -> dict[str | None, OperationDefinitionNode]:
    """By the names under which a request may ask for them; without one, where there is no other."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    named: dict[str | None, OperationDefinitionNode] = {
        node.name.value: node for node in operations if node.name
    }
    return named if len(operations) > 1 else named | {None: operations[0]}


class _Steering(Visitor):
    """Collects the variables that say what is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.incremental = False

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        if node.name.value in ("skip", "include"):
            for argument in node.arguments or ():
                if isinstance(argument.value, VariableNode):
                    self.names.add(argument.value.name.value)
        elif node.name.value in ("defer", "stream"):
            self.incremental = True
