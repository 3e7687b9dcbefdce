/** Numbers and facts as a person reads them. */

import type { Span } from "./shape";

/** Three figures, no more: 0.042 ms, 4.12 ms, 41.2 ms, 412 ms, 4.12 s. */
export function duration(ms: number): string {
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${trimmed(ms.toFixed(3))} ms`;
  if (ms < 1000) return `${trimmed(ms.toPrecision(3))} ms`;
  return `${trimmed((ms / 1000).toFixed(ms < 10_000 ? 2 : 1))} s`;
}

export function age(seconds: number): string {
  if (seconds < 10) return `${trimmed(seconds.toFixed(1))} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${trimmed((bytes / 1000).toPrecision(3))} kB`;
  return `${trimmed((bytes / 1_000_000).toPrecision(3))} MB`;
}

export const percent = (part: number, whole: number) => {
  const share = whole > 0 ? (100 * part) / whole : 0;
  return share > 0 && share < 1 ? "<1 %" : `${Math.round(share)} %`;
};

export const plural = (count: number, one: string, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** What stands beside a span's name in its row: what one looks for first, by kind. */
export function briefly(span: Span): string[] {
  const { facts } = span;
  const said: string[] = [];
  if (span.kind === "cache") {
    said.push(...verdicts(span));
    const read = typeof facts.live === "number" && facts.live > 0 && !facts.cached && !facts.stale;
    if (typeof facts.ageSeconds === "number" && !read) said.push(`${age(facts.ageSeconds)} old`);
  }
  if (typeof facts.keys === "number") said.push(plural(facts.keys, "key"));
  if (typeof facts.attempt === "number" && facts.attempt > 1) said.push(`attempt ${facts.attempt}`);
  if (typeof facts.status === "number") said.push(`${facts.status}`);
  if (typeof facts.bytes === "number") said.push(size(facts.bytes));
  if (span.kind === "wait" && typeof facts.class === "string") said.push(facts.class);
  if (facts.unfinished === true) said.push("unfinished");
  return said;
}

/** A cache's verdict, in records: "48 live", "2 cached", "1 stale", "1 failed". */
export function verdicts({ facts }: Span): string[] {
  const said = VERDICTS.flatMap((verdict) => {
    const count = facts[verdict];
    return typeof count === "number" && count > 0 ? [`${count} ${verdict}`] : [];
  });
  return facts.shared === true ? [...said, "shared"] : said;
}

export const VERDICTS = ["live", "cached", "stale", "failed"] as const;

/** Every fact of a span, named and worded; what the page does not know is shown as it came. */
export function inFull({ facts }: Span): [name: string, value: string][] {
  return Object.entries(facts).flatMap(([name, value]) => {
    if (value === null || value === undefined) return [];
    return [[LABELS[name] ?? name, worded(name, value)]];
  });
}

const LABELS: Record<string, string> = {
  ageSeconds: "age",
  bytes: "answer",
  class: "budget class",
  cost: "vendor cost",
  limit: "budget",
  shared: "shared with another request",
  type: "records of",
  unfinished: "still under way",
};

function worded(name: string, value: unknown): string {
  if (typeof value === "number") {
    if (name === "ageSeconds") return age(value);
    if (name === "bytes") return size(value);
    if (name.endsWith("Ms")) return duration(value);
    return `${value}`;
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : JSON.stringify(value);
}

const trimmed = (figures: string) => (figures.includes(".") ? figures.replace(/\.?0+$/, "") : figures);
