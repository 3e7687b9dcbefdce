// What schema.graphql is held to: graphql-eslint's schema-all and schema-relay rule sets. Every exception stands here.
import graphql from "@graphql-eslint/eslint-plugin";

const SCHEMA = "schema.graphql"; // from the top of the checkout, where `npm run lint` goes

export default [
  {
    files: ["**/*.graphql"],
    languageOptions: { parser: graphql.parser, parserOptions: { graphQLConfig: { schema: SCHEMA } } },
    plugins: { "@graphql-eslint": graphql },
    rules: {
      ...graphql.configs["flat/schema-all"].rules,
      ...graphql.configs["flat/schema-relay"].rules,

      // Stricter than the rule sets, which ask for descriptions of types, directives and root fields only. But for a
      // directive's arguments: the library that prints the schema leaves theirs out, so the directive's own says it.
      "@graphql-eslint/require-description": [
        "error",
        {
          types: true,
          DirectiveDefinition: true,
          rootField: true,
          FieldDefinition: true,
          InputValueDefinition: true,
          EnumValueDefinition: true,
          ignoredSelectors: ["[type=InputValueDefinition][parent.kind=DirectiveDefinition]"],
        },
      ],

      // Off: fields stand in the order in which they are read, what matters most first, and GraphiQL shows them so.
      // Types are sorted by the printer.
      "@graphql-eslint/alphabetize": "off",

      // Holds, but for types that are no things of their own: values, which two records may share, and parts, which
      // have no id in the system that owns them. Connections and edges are Relay's, and so is PageInfo.
      "@graphql-eslint/strict-id-in-types": [
        "error",
        {
          exceptions: {
            suffixes: ["Connection", "Edge", "Payload"],
            types: [
              "AccountLink",
              "AccountSync",
              "Address",
              "AssignableRole",
              "AuditDenial",
              "AuditPrincipal",
              "Balance",
              "FileLink",
              "InvoiceLine",
              "MemberChange",
              "Money",
              "PageInfo",
              "SignInDirections",
              "SignInIssuer",
              "SourceStatus",
              "UserError",
            ],
          },
        },
      ],

      // Off: all three roots are used.
      "@graphql-eslint/no-root-type": "off",

      // Off: a change may be of what the caller is (joining, leaving), so what they may read afterwards is for the next
      // request to find out.
      "@graphql-eslint/require-field-of-type-query-in-mutation-result": "off",

      // Holds, but for two parts. Lists that are small and always whole (an invoice's lines, a document's versions)
      // are plain lists: a connection would promise pages that the source does not have. And a node of a connection
      // need not be a Node: a comment can only be read through its ticket, so there is no looking it up by its id.
      "@graphql-eslint/relay-edge-types": [
        "error",
        { listTypeCanWrapOnlyEdgeType: false, shouldImplementNode: false, withEdgeSuffix: true },
      ],

      // Relay's own wording: forward arguments, backward arguments, or both. A search that the source ranks is read
      // forwards only (searchArticles); every other connection has both.
      "@graphql-eslint/relay-arguments": ["error", { includeBoth: false }],
    },
  },
];
