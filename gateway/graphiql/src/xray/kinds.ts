/** The kinds of span in the order of their legend, and what each is. xray.css gives each a colour and a texture. */

export const KINDS: Record<string, string> = {
  operation: "The whole operation",
  batch: "A loader's batch: one question for many keys",
  cache: "What the cache had of a batch",
  wait: "Waiting for a vendor's budget",
  call: "A call to a vendor",
  retry: "The pause before another attempt",
  breaker: "Refused by a breaker, so that no call was made",
  plan: "Finding the operation's plan, or making it",
  arrival: "Before the operation: signing in and reading the request",
  parse: "Reading and checking the document",
  context: "Finding out what the caller may see",
  oauth: "Having a vendor's access token",
  redis: "Asking what the replicas share",
  mirror: "Reading a mirror of a vendor's records",
  ledger: "Reading or writing the gateway's own book",
  audit: "Writing the audit trail",
  encode: "Writing the answer down",
};

/** Those that occur, the page's own first, then those it does not know. */
export function kindsOf(spans: { kind: string }[]): { kind: string; count: number; meaning: string }[] {
  const counts = new Map<string, number>(Object.keys(KINDS).map((kind) => [kind, 0]));
  spans.forEach(({ kind }) => counts.set(kind, (counts.get(kind) ?? 0) + 1));
  return [...counts]
    .filter(([, count]) => count > 0)
    .map(([kind, count]) => ({ kind, count, meaning: KINDS[kind] ?? `Spans of the kind ${kind}` }));
}
