/** An X-ray that the gateway gave: plan and cost, the legend that filters, the waterfall and the span under the pointer. */

import { useCallback, useDeferredValue, useMemo, useState } from "react";
import { Details } from "./details";
import { kindsOf } from "./kinds";
import { Plan } from "./plan";
import type { Xray } from "./shape";
import { Shares } from "./summary";
import { around, axisOf, rowsOf, type Range, type Row } from "./timeline";
import { Waterfall } from "./waterfall";
import { duration } from "./wording";

export function Drawing({ xray, run }: { xray: Xray; run: number }) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [wanted, setWanted] = useState("");
  const kinds = useMemo(() => kindsOf(xray.spans), [xray]);
  return (
    <>
      <div className="xray-facts">
        <Shares xray={xray} />
        <Plan xray={xray} />
      </div>
      <div className="xray-filter">
        <div role="group" aria-label="Kinds of span shown" className="xray-legend">
          {kinds.map(({ kind, count, meaning }) => (
            <button
              key={kind}
              type="button"
              aria-pressed={!hidden.has(kind)}
              title={meaning}
              onClick={() => setHidden(without(hidden, kind) ?? new Set([...hidden, kind]))}
            >
              <span className="xray-swatch" data-kind={kind} aria-hidden="true" />
              {kind} <span className="xray-quiet">{count}</span>
            </button>
          ))}
        </div>
        <input
          type="search"
          aria-label="Filter spans"
          placeholder="xero, invoices, 429 …"
          spellCheck={false}
          value={wanted}
          onChange={(event) => setWanted(event.target.value)}
        />
      </div>
      <Spans key={run} xray={xray} hidden={hidden} wanted={useDeferredValue(wanted)} />
      {xray.dropped > 0 && (
        <p className="xray-dropped">
          {xray.dropped} more spans were left out: an X-ray holds the first {xray.spans.length}.
        </p>
      )}
    </>
  );
}

/** What is open, chosen and zoomed to is of one answer; filters stay for the next. */
function Spans({ xray, hidden, wanted }: { xray: Xray; hidden: ReadonlySet<string>; wanted: string }) {
  const rows = useMemo(() => rowsOf(xray.spans), [xray]);
  const whole = useMemo(() => axisOf(xray), [xray]);
  const [range, setRange] = useState<Range>(whole);
  const [closed, setClosed] = useState<ReadonlySet<number>>(new Set());
  const [chosen, setChosen] = useState(rows[0]?.span.id);
  const [pointed, setPointed] = useState<number | null>(null);

  const visible = useMemo(() => {
    const found = matching(rows, wanted);
    return rows.filter(
      (row) =>
        !hidden.has(row.span.kind) && found.has(row.span.id) && (wanted !== "" || !row.above.some((id) => closed.has(id))),
    );
  }, [rows, hidden, wanted, closed]);
  const byId = useMemo(() => new Map(rows.map((row) => [row.span.id, row])), [rows]);

  const zoom = useCallback(
    (to: Range | null) => setRange(to === null || to.to <= to.from ? whole : clipped(to, whole)),
    [whole],
  );
  const toggle = useCallback(
    (id: number) => setClosed((before) => without(before, id) ?? new Set([...before, id])),
    [],
  );
  const detailed = byId.get(pointed ?? chosen ?? NaN);

  if (rows.length === 0) return <p className="xray-note">This X-ray has no spans.</p>;
  return (
    <div className="xray-body">
      <Waterfall
        rows={visible}
        range={range}
        zoomed={range !== whole}
        deadlineMs={xray.deadlineMs}
        closed={closed}
        chosen={chosen}
        onChoose={setChosen}
        onPoint={setPointed}
        onToggle={toggle}
        onZoom={zoom}
      />
      {detailed && (
        <Details
          row={detailed}
          path={detailed.above.map((id) => byId.get(id)!.span.name)}
          xray={xray}
          onZoom={({ span }) => zoom(around(span))}
        />
      )}
      <p className="xray-hidden" aria-live="polite">
        {range === whole ? "" : `Shown: ${duration(range.from)} to ${duration(range.to)}`}
        {visible.length === rows.length ? "" : ` ${visible.length} of ${rows.length} spans`}
      </p>
    </div>
  );
}

/** Ids of the rows that hold the words, and of all above them. */
function matching(rows: Row[], wanted: string): ReadonlySet<number> {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const found = new Set<number>();
  for (const { span, above } of rows) {
    const said = [span.kind, span.name, span.error, ...Object.values(span.facts)].join(" ").toLowerCase();
    if (words.every((word) => said.includes(word))) [...above, span.id].forEach((id) => found.add(id));
  }
  return found;
}

const clipped = (range: Range, whole: Range): Range => ({
  from: Math.max(range.from, whole.from),
  to: Math.min(range.to, whole.to),
});

/** The set without the member; null where it is none. */
const without = <Member,>(set: ReadonlySet<Member>, member: Member) =>
  set.has(member) ? new Set([...set].filter((one) => one !== member)) : null;
