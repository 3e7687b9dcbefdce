/** One line on the whole operation: how long, for what, and how the run before it went. */

import { useMemo } from "react";
import type { Xray } from "./shape";
import { sharesOf } from "./timeline";
import { duration, percent, plural } from "./wording";

export function Summary({ xray, before }: { xray: Xray; before: Xray | null }) {
  const deadline = xray.deadlineMs;
  return (
    <p className="xray-summary" aria-live="polite">
      <strong>{duration(xray.durationMs)}</strong>
      {deadline !== null && (
        <span>
          {percent(xray.durationMs, deadline)} of the {duration(deadline)} deadline
        </span>
      )}
      <span>{plural(callsOf(xray), "vendor call")}</span>
      {before && (
        <span>
          run before: {duration(before.durationMs)}, {plural(callsOf(before), "call")}
        </span>
      )}
    </p>
  );
}

/** What the time went into, as a bar and in words. */
export function Shares({ xray }: { xray: Xray }) {
  const shares = useMemo(() => sharesOf(xray).filter((share) => share.ms > 0), [xray]);
  return (
    <div className="xray-shares">
      <div className="xray-shares-bar" aria-hidden="true">
        {shares.map(({ kind, ms }) => (
          <span key={kind} className="xray-swatch" data-kind={kind} style={{ flexGrow: ms }} />
        ))}
      </div>
      <ul aria-label="What the time went into">
        {shares.map(({ label, meaning, kind, ms }) => (
          <li key={kind} title={meaning}>
            <span className="xray-swatch" data-kind={kind} aria-hidden="true" /> {label} {duration(ms)}{" "}
            <span className="xray-quiet">{percent(ms, xray.durationMs)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

const callsOf = (xray: Xray) => xray.spans.filter((span) => span.kind === "call").length;
