/** Where things stand in time: the tree of spans as rows, the axis, and what the time went into. */

import type { Span, Xray } from "./shape";

export interface Row {
  span: Span;
  /** 1 for a root, as aria-level counts. */
  level: number;
  /** Ids of those above it, the nearest last. */
  above: number[];
  children: number;
  /** Milliseconds in which none of its children ran. */
  ownMs: number;
}

export interface Range {
  from: number;
  to: number;
}

/** Parents before their children, siblings by their start. A span whose parent is unknown is a root. */
export function rowsOf(spans: Span[]): Row[] {
  const known = new Set(spans.map((span) => span.id));
  const below = new Map<number | null, Span[]>();
  for (const span of spans) {
    const parent = span.parent !== null && known.has(span.parent) ? span.parent : null;
    below.get(parent)?.push(span) ?? below.set(parent, [span]);
  }
  const rows: Row[] = [];
  const drawn = new Set<Span>();
  const draw = (span: Span, above: number[]) => {
    if (drawn.has(span)) return;
    drawn.add(span);
    const children = (below.get(span.id) ?? []).filter((child) => !drawn.has(child)).sort(byStart);
    const covered = covering(children.map(rangeOf), rangeOf(span));
    rows.push({ span, level: above.length + 1, above, children: children.length, ownMs: span.durationMs - covered });
    children.forEach((child) => draw(child, [...above, span.id]));
  };
  [...(below.get(null) ?? [])].sort(byStart).forEach((root) => draw(root, []));
  spans.forEach((span) => draw(span, [])); // what is left are parents of themselves: better drawn than lost
  return rows;
}

/** The whole operation, and the deadline too where it is near enough to be seen. */
export function axisOf(xray: Xray): Range {
  const last = xray.spans.reduce((end, span) => Math.max(end, span.startMs + span.durationMs), xray.durationMs);
  const inReach = xray.deadlineMs !== null && xray.deadlineMs <= last * 1.3;
  return { from: 0, to: Math.max(last, inReach ? xray.deadlineMs! * 1.02 : 0, 0.01) };
}

/** To zoom to: a span with a little air, more behind it, where its time is written. */
export const around = ({ startMs, durationMs }: Span): Range => ({
  from: startMs - durationMs * 0.04,
  to: startMs + durationMs * 1.2,
});

/** Round numbers across the range, at most `count`. */
export function ticksOf({ from, to }: Range, count: number): number[] {
  const rough = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, index) => (first + index) * step);
}

export interface Share {
  label: string;
  meaning: string;
  kind: string;
  ms: number;
}

/**
 * What the operation waited for, counted once per moment: vendors while any call ran, else budgets and pauses before
 * another attempt, else the gateway's own stores, else its own work.
 */
export function sharesOf(xray: Xray): Share[] {
  const whole = { from: 0, to: xray.durationMs };
  const shares: Share[] = [];
  const counted: string[] = [];
  let covered = 0;
  for (const { label, meaning, kinds } of WAITED_FOR) {
    counted.push(...kinds);
    const now = covering(xray.spans.filter((span) => counted.includes(span.kind)).map(rangeOf), whole);
    shares.push({ label, meaning, kind: kinds[0]!, ms: now - covered });
    covered = now;
  }
  const own = { label: "gateway", meaning: "Its own work", kind: "operation", ms: xray.durationMs - covered };
  return [...shares, own];
}

const WAITED_FOR = [
  { label: "vendors", meaning: "Calls under way", kinds: ["call"] },
  { label: "waits", meaning: "For budgets, and before another attempt", kinds: ["wait", "retry"] },
  { label: "stores", meaning: "The gateway's PostgreSQL and Redis", kinds: ["ledger", "redis", "audit"] },
];

/** How much of the whole the parts cover; where they overlap it counts once. */
function covering(parts: Range[], whole: Range): number {
  let covered = 0;
  let reached = whole.from;
  for (const { from, to } of [...parts].sort((one, other) => one.from - other.from)) {
    const start = Math.max(from, reached);
    const end = Math.min(to, whole.to);
    if (end > start) {
      covered += end - start;
      reached = end;
    }
  }
  return covered;
}

const byStart = (one: Span, other: Span) => one.startMs - other.startMs;
const rangeOf = ({ startMs, durationMs }: Span): Range => ({ from: startMs, to: startMs + durationMs });
