/** `extensions.xray` of an answer, read with care: what is missing or of another type must not keep the rest from being drawn. */

export interface Span {
  id: number;
  parent: number | null;
  /** Kinds may grow: one that the page does not know is drawn plainly. */
  kind: string;
  name: string;
  startMs: number;
  durationMs: number;
  error: string | null;
  /** Everything else that the gateway says of it, by the gateway's own names. */
  facts: Record<string, unknown>;
}

export interface Xray {
  requestId: string | null;
  traceId: string | null;
  startedAt: string | null;
  durationMs: number;
  deadlineMs: number | null;
  way: string | null;
  known: boolean | null;
  fields: number | null;
  denied: string[];
  spans: Span[];
  cost: [source: string, units: number][];
  dropped: number;
}

/** What an answer holds of an X-ray. */
export type Reading =
  | { state: "drawn"; xray: Xray }
  | { state: "refused"; reason: string }
  | { state: "absent" };

/** Of an answer as the response pane shows it. */
export function readAnswer(text: string): Reading {
  const found = record(record(record(parsed(text))?.extensions)?.xray);
  if (!found) return { state: "absent" };
  if (typeof found.refused === "string") return { state: "refused", reason: found.refused };
  return { state: "drawn", xray: readXray(found) };
}

/** "needs xray:read" -> "xray:read"; null where the reason is of another kind. */
export function missingScope(reason: string): string | null {
  return /^needs ([\w-]+(?::[\w-]+)+)$/.exec(reason)?.[1] ?? null;
}

function readXray(found: Record<string, unknown>): Xray {
  const plan = record(found.plan) ?? {};
  const spans = list(found.spans).map(readSpan);
  const ends = spans.map((span) => span.startMs + span.durationMs);
  return {
    requestId: text(found.requestId),
    traceId: text(found.traceId),
    startedAt: text(found.startedAt),
    durationMs: number(found.durationMs) ?? ends.reduce((last, end) => Math.max(last, end), 0),
    deadlineMs: number(found.deadlineMs),
    way: text(plan.way),
    known: typeof plan.known === "boolean" ? plan.known : null,
    fields: number(plan.fields),
    denied: list(plan.denied).map(String),
    spans,
    cost: Object.entries(record(found.cost) ?? {}).flatMap(([source, units]) =>
      typeof units === "number" ? [[source, units]] : [],
    ),
    dropped: number(found.dropped) ?? 0,
  };
}

function readSpan(raw: unknown, index: number): Span {
  const { id, parent, kind, name, startMs, durationMs, error, ...facts } = record(raw) ?? {};
  return {
    id: number(id) ?? -1 - index,
    parent: number(parent),
    kind: text(kind) ?? "unknown",
    name: text(name) ?? "",
    startMs: Math.max(number(startMs) ?? 0, 0),
    durationMs: Math.max(number(durationMs) ?? 0, 0),
    error: text(error),
    facts,
  };
}

function parsed(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    return null;
  }
}

const record = (value: unknown) =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : null);
const number = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : null);
