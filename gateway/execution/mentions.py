"""The fields that an operation mentions, by coordinate, whether or not its variables leave them out."""

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    OperationDefinitionNode,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    get_named_type,
    is_abstract_type,
    visit,
)

Place = tuple[str, str]
"""A type's name and a field's."""


def mentioned(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
) -> frozenset[Place]:
    """For a valid document. A field of an interface counts for all its types."""
    fragments = {
        found.name.value: found for found in document.definitions if isinstance(found, FragmentDefinitionNode)
    }
    places: set[Place] = set()
    visited: set[str] = set()
    todo: list[OperationDefinitionNode | FragmentDefinitionNode] = [operation]
    while todo:
        types = TypeInfo(schema)
        found = _Mentions(schema, types)
        visit(todo.pop(), TypeInfoVisitor(types, found))
        places |= found.places
        todo += [fragments[name] for name in found.spread - visited]
        visited |= found.spread
    return frozenset(places)


class _Mentions(Visitor):
    """Collects what one definition mentions itself."""

    def __init__(self, schema: GraphQLSchema, types: TypeInfo) -> None:
        super().__init__()
        self._schema, self._types = schema, types
        self.places: set[Place] = set()
        self.spread: set[str] = set()

    def enter_field(self, node: FieldNode, *_: object) -> None:
        parent = get_named_type(self._types.get_parent_type())
        if parent is None:
            return
        name = node.name.value
        self.places.add((parent.name, name))
        if is_abstract_type(parent):
            self.places |= {(possible.name, name) for possible in self._schema.get_possible_types(parent)}

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_: object) -> None:
        self.spread.add(node.name.value)
