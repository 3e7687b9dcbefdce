/** Everything about one span. */

import type { Xray } from "./shape";
import type { Row } from "./timeline";
import { duration, inFull, percent } from "./wording";

interface DetailsProps {
  row: Row;
  /** Names of those above it, the root first. */
  path: string[];
  xray: Xray;
  onZoom(row: Row): void;
}

export function Details({ row, path, xray, onZoom }: DetailsProps) {
  const { span } = row;
  const facts: [string, string][] = [
    ["starts", `${duration(span.startMs)} in`],
    ["takes", `${duration(span.durationMs)}, ${percent(span.durationMs, xray.durationMs)} of the operation`],
    ...(row.children > 0 ? [["of that its own", duration(row.ownMs)] as [string, string]] : []),
    ...inFull(span),
    ...(span.kind === "operation" ? namesOf(xray) : []),
  ];
  return (
    <section className="xray-details" aria-label="Span">
      <header>
        <h3>
          <span className="xray-swatch" data-kind={span.kind} aria-hidden="true" />
          <span className="xray-kind" data-kind={span.kind}>
            {span.kind}
          </span>{" "}
          {span.name} {span.error && <span className="xray-error">✕ {span.error}</span>}
        </h3>
        {span.durationMs > 0 && (
          <button type="button" onClick={() => onZoom(row)}>
            Zoom to it
          </button>
        )}
      </header>
      <dl>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
        {path.length > 0 && (
          <div>
            <dt>in</dt>
            <dd>{path.join(" › ")}</dd>
          </div>
        )}
      </dl>
    </section>
  );
}

/** By which the operation is found in logs and traces. */
function namesOf({ requestId, traceId, startedAt }: Xray): [string, string][] {
  const named: [string, string | null][] = [["request", requestId], ["trace", traceId], ["at", startedAt]];
  return named.filter((one): one is [string, string] => one[1] !== null);
}
