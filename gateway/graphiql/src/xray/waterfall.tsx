/** The spans as a tree beside a time line: one row each, read and moved through like any tree of a table. */

import { memo, useRef, type KeyboardEvent, type MouseEvent, type PointerEvent } from "react";
import { around, ticksOf, type Range, type Row } from "./timeline";
import { briefly, duration } from "./wording";

interface WaterfallProps {
  rows: Row[];
  range: Range;
  zoomed: boolean;
  deadlineMs: number | null;
  /** Ids of rows whose children are folded away. */
  closed: ReadonlySet<number>;
  chosen: number | undefined;
  onChoose(id: number): void;
  onPoint(id: number | null): void;
  onToggle(id: number): void;
  onZoom(range: Range | null): void;
}

export const Waterfall = memo(function Waterfall(props: WaterfallProps) {
  const { rows, range, zoomed, deadlineMs, closed, chosen, onChoose, onPoint, onToggle, onZoom } = props;
  const grid = useRef<HTMLDivElement>(null);
  const reachable = rows.some((row) => row.span.id === chosen) ? chosen : rows[0]?.span.id;
  const ticks = ticksOf(range, 5);
  const share = (ms: number) => (ms - range.from) / (range.to - range.from);
  const deadline = deadlineMs !== null && deadlineMs >= range.from && deadlineMs <= range.to ? share(deadlineMs) : null;

  const focusRow = (id: number | undefined) =>
    id !== undefined && grid.current?.querySelector<HTMLElement>(`[data-span="${id}"]`)?.focus();

  function press(event: KeyboardEvent) {
    const at = rows.findIndex((row) => row.span.id === idOf(event));
    const row = rows[at];
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const { span, above, children } = row;
    const open = children > 0 && !closed.has(span.id);
    switch (event.key) {
      case "ArrowDown":
      case "ArrowUp":
      case "PageDown":
      case "PageUp":
      case "Home":
      case "End": {
        const to = at + (STEPS[event.key] ?? 0);
        focusRow(rows[Math.min(Math.max(to, 0), rows.length - 1)]?.span.id);
        break;
      }
      case "ArrowRight":
        if (children > 0 && !open) onToggle(span.id);
        else if (open) focusRow(rows[at + 1]?.span.id);
        break;
      case "ArrowLeft":
        if (open) onToggle(span.id);
        else focusRow(above.at(-1));
        break;
      case "Enter":
      case " ":
        if (children > 0) onToggle(span.id);
        break;
      case "z":
        onZoom(around(span));
        break;
      case "Escape":
        if (!zoomed) return;
        onZoom(null);
        break;
      default:
        return;
    }
    event.preventDefault();
  }

  function click(event: MouseEvent) {
    const id = idOf(event);
    if (id !== null && (event.target as Element).closest(".xray-fold")) onToggle(id);
  }

  return (
    <div
      ref={grid}
      role="treegrid"
      aria-label="Waterfall"
      aria-readonly="true"
      className="xray-waterfall"
      onKeyDown={press}
      onClick={click}
      onDoubleClick={(event) => {
        const row = rows.find(({ span }) => span.id === idOf(event));
        if (row && !(event.target as Element).closest(".xray-fold")) onZoom(around(row.span));
      }}
      onFocus={(event) => {
        const id = idOf(event);
        if (id !== null) onChoose(id);
      }}
      onPointerOver={(event) => onPoint(idOf(event))}
      onPointerLeave={() => onPoint(null)}
    >
      <div role="rowgroup" className="xray-axis">
        <div role="row">
          <div role="columnheader">
            Span
            {zoomed && (
              <button type="button" onClick={() => onZoom(null)}>
                Show all
              </button>
            )}
          </div>
          <Axis range={range} ticks={ticks} deadline={deadline} onZoom={onZoom} />
        </div>
      </div>
      <div role="rowgroup" className="xray-rows">
        <div role="presentation" className="xray-lines" aria-hidden="true">
          {ticks.map((tick) => (
            <i key={tick} style={{ left: `${100 * share(tick)}%` }} />
          ))}
          {deadline !== null && <i className="xray-deadline" style={{ left: `${100 * deadline}%` }} />}
        </div>
        {rows.map((row) => (
          <SpanRow
            key={row.span.id}
            row={row}
            from={range.from}
            to={range.to}
            open={row.children > 0 ? !closed.has(row.span.id) : undefined}
            chosen={row.span.id === chosen}
            reachable={row.span.id === reachable}
          />
        ))}
      </div>
      {rows.length === 0 && <p className="xray-note">No span is like that.</p>}
    </div>
  );
});

const STEPS: Record<string, number> = {
  ArrowDown: 1,
  ArrowUp: -1,
  PageDown: 10,
  PageUp: -10,
  Home: -Infinity,
  End: Infinity,
};

function idOf(event: { target: EventTarget }): number | null {
  const row = (event.target as Element).closest<HTMLElement>("[data-span]");
  return row ? Number(row.dataset.span) : null;
}

interface AxisProps {
  range: Range;
  ticks: number[];
  deadline: number | null;
  onZoom(range: Range | null): void;
}

/** The time line's head. Dragging across it zooms to that part; rows do the same by key (z, Escape). */
function Axis({ range, ticks, deadline, onZoom }: AxisProps) {
  const mark = useRef<HTMLElement>(null);
  const start = useRef<number | null>(null);
  const at = (event: PointerEvent<HTMLElement>) => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - left) / width, 0), 1);
  };
  const draw = (from: number, to: number) => {
    const { style } = mark.current!;
    style.left = `${100 * Math.min(from, to)}%`;
    style.width = `${100 * Math.abs(to - from)}%`;
  };
  const width = range.to - range.from;
  return (
    <div
      role="columnheader"
      aria-label={`Time, ${duration(range.from)} to ${duration(range.to)}`}
      className="xray-ticks"
      title="Drag across to zoom"
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        start.current = at(event);
      }}
      onPointerMove={(event) => {
        if (start.current !== null) draw(start.current, at(event));
      }}
      onPointerUp={(event) => {
        if (start.current === null) return;
        const [from, to] = [start.current, at(event)].sort((one, other) => one - other) as [number, number];
        start.current = null;
        draw(0, 0);
        if (to - from > 0.01) onZoom({ from: range.from + from * width, to: range.from + to * width });
      }}
    >
      {ticks.map((tick) => (
        <span key={tick} aria-hidden="true" {...labelAt((tick - range.from) / width)}>
          {tick === 0 ? "0" : duration(tick)}
        </span>
      ))}
      {deadline !== null && (
        <span className="xray-deadline" style={{ left: `${100 * deadline}%` }}>
          deadline
        </span>
      )}
      <i ref={mark} className="xray-mark" aria-hidden="true" />
    </div>
  );
}

/** To the right of its line; to the left where it would leave the page. */
const labelAt = (share: number): { "data-side"?: string; style: React.CSSProperties } => ({
  "data-side": share > 0.9 ? "before" : undefined,
  style: { left: `${100 * share}%` },
});

interface SpanRowProps {
  row: Row;
  from: number;
  to: number;
  /** Undefined where there is nothing to fold. */
  open: boolean | undefined;
  chosen: boolean;
  /** By the Tab key; the arrow keys reach all. */
  reachable: boolean;
}

const SpanRow = memo(function SpanRow({ row, from, to, open, chosen, reachable }: SpanRowProps) {
  const { span, level } = row;
  const place = (ms: number) => Math.min(Math.max((ms - from) / (to - from), 0), 1);
  const start = place(span.startMs);
  const end = place(span.startMs + span.durationMs);
  const outside = span.startMs > to || span.startMs + span.durationMs < from;
  return (
    <div
      role="row"
      aria-level={level}
      aria-expanded={open}
      aria-selected={chosen}
      tabIndex={reachable ? 0 : -1}
      data-span={span.id}
      data-error={span.error ? "" : undefined}
    >
      <div role="rowheader" className="xray-name" style={{ "--level": level - 1 } as React.CSSProperties}>
        <span className="xray-fold" aria-hidden="true">
          {open === undefined ? "" : open ? "▾" : "▸"}
        </span>
        <span className="xray-kind" data-kind={span.kind}>
          {span.kind}
        </span>{" "}
        <span className="xray-label">{span.name}</span>{" "}
        {span.error && (
          <>
            <span className="xray-error">✕ {span.error}</span>{" "}
          </>
        )}
        <span className="xray-brief">{briefly(span).join(" · ")}</span>
      </div>
      <div role="gridcell" className="xray-track">
        <span className="xray-hidden">
          {duration(span.durationMs)} from {duration(span.startMs)}
        </span>
        {outside ? (
          <span className="xray-beyond" aria-hidden="true" data-side={span.startMs > to ? "after" : "before"}>
            {span.startMs > to ? "›" : "‹"}
          </span>
        ) : (
          <>
            <span
              className="xray-bar"
              data-kind={span.kind}
              data-unfinished={span.facts.unfinished === true ? "" : undefined}
              data-verdict={span.kind === "cache" ? verdictOf(row) : undefined}
              style={{ left: `${100 * start}%`, width: `${100 * (end - start)}%` }}
            />
            <span className="xray-time" aria-hidden="true" {...besides(start, end)}>
              {duration(span.durationMs)}
            </span>
          </>
        )}
      </div>
    </div>
  );
});

/** After the bar where there is room, else before it, else on it. */
function besides(start: number, end: number): { "data-side": string; style: React.CSSProperties } {
  if (end <= 0.82) return { "data-side": "after", style: { left: `${100 * end}%` } };
  if (start >= 0.18) return { "data-side": "before", style: { right: `${100 * (1 - start)}%` } };
  return { "data-side": "on", style: { right: `${100 * (1 - end)}%` } };
}

function verdictOf({ span: { facts } }: Row): string {
  const some = (verdict: string) => typeof facts[verdict] === "number" && (facts[verdict] as number) > 0;
  if (some("stale")) return "stale";
  if (some("cached")) return some("live") ? "mixed" : "cached";
  return "live";
}
