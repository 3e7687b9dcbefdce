"""Chooses how an operation runs, and keeps the plans of operations that came before."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

from graphql import DirectiveNode, DocumentNode, ExecutionResult, GraphQLError, VariableNode, Visitor, visit

from gateway.execution.columns import ColumnRun
from gateway.execution.plan import NotPlannable, Plan
from gateway.execution.replay import ReplayExecutor, Row
from resolvers.context import Context

KEPT_DOCUMENTS = 1000
KEPT_LENGTH = 8_000
"""Of the longest document that is planned: with KEPT_DOCUMENTS this bounds the cache's bytes."""
KEPT_VARIANTS = 16
"""Plans of one document: by operation, by what the callers are denied, by @skip and @include."""


class _Kept:
    """What is known of a document that was seen."""

    __slots__ = ("plans", "steering")

    def __init__(self) -> None:
        self.steering: frozenset[str] | None = None
        self.plans: OrderedDict[Any, Plan | NotPlannable] = OrderedDict()


class Engine:
    """Executes operations of one schema. ``counts`` says how many ran which way: ``columns``, ``replayed``, ``first seen``,
    or the reason for which graphql-core ran it alone."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._documents: OrderedDict[str, _Kept] = OrderedDict()
        self.counts: Counter[str] = Counter()

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
        executor: Any = ReplayExecutor.build(
            self._schema.graphql,
            document,
            context_value=context,
            raw_variable_values=dict(variables or {}),
            operation_name=operation_name,
        )
        if isinstance(executor, list):
            return ExecutionResult(None, executor)
        plan = self._plan(text, document, executor, operation_name)
        if plan is None:
            result = executor.execute_operation()
            return await result if executor.is_awaitable(result) else result  # type: ignore[no-any-return]
        executor.strawberry = self._schema
        run = ColumnRun(plan, executor)
        try:
            data = await run.run()
        except NotPlannable as reason:
            # Found below an interface, after the plan was made: what was read so far is completed by graphql-core.
            self.counts[str(reason)] += 1
            run.failed = True
        if not run.failed:
            self.counts["columns"] += 1
            return ExecutionResult(data, run.errors() or None)
        self.counts["replayed"] += 1
        return await self._replay(run, executor)

    async def _replay(self, run: ColumnRun, executor: Any) -> ExecutionResult:
        assert run.root is not None
        executor.root_value = Row(run.root, 0)
        executor.forget_denials()
        result = executor.execute_operation()
        return await result if executor.is_awaitable(result) else result  # type: ignore[no-any-return]

    def _plan(
        self, text: str, document: DocumentNode, executor: Any, operation_name: str | None
    ) -> Plan | None:
        if len(text) > KEPT_LENGTH:
            self.counts["too long to plan"] += 1
            return None
        kept = self._documents.get(text)
        if kept is None:
            self._documents[text] = _Kept()
            if len(self._documents) > KEPT_DOCUMENTS:
                self._documents.popitem(last=False)
            self.counts["first seen"] += 1
            return None
        self._documents.move_to_end(text)
        if kept.steering is None:
            kept.steering = _steering(document)
        coerced = executor.variable_values.coerced
        chosen = tuple((name, coerced.get(name)) for name in sorted(kept.steering))
        key = (operation_name, chosen, frozenset(executor.denied))
        plan = kept.plans.get(key)
        if plan is None:
            try:
                plan = Plan(executor, executor.denied)
            except NotPlannable as reason:
                plan = reason
            except GraphQLError:
                # collecting the fields failed: graphql-core says it in its own words
                plan = NotPlannable("cannot be collected")
            kept.plans[key] = plan
            if len(kept.plans) > KEPT_VARIANTS:
                kept.plans.popitem(last=False)
        if isinstance(plan, NotPlannable):
            self.counts[str(plan)] += 1
            return None
        return plan


def _steering(document: DocumentNode) -> frozenset[str]:
    """The variables that say what is left out."""
    visitor = _Steering()
    visit(document, visitor)
    return frozenset(visitor.names)


class _Steering(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        if node.name.value in ("skip", "include"):
            for argument in node.arguments or ():
                if isinstance(argument.value, VariableNode):
                    self.names.add(argument.value.name.value)
