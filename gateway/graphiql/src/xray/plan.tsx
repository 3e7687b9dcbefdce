/** The operation's plan, what it cost each vendor, and what the cache knew. */

import { useMemo, type ReactNode } from "react";
import type { Xray } from "./shape";
import { plural, VERDICTS } from "./wording";

export function Plan({ xray }: { xray: Xray }) {
  const { way, known, fields, denied, cost } = xray;
  const verdicts = useMemo(() => cacheTotals(xray), [xray]);
  const plan = [
    way,
    known === null ? null : known ? "known before" : "not known before",
    fields === null ? null : plural(fields, "field"),
  ];
  return (
    <dl className="xray-plan">
      <Fact name="Plan">{plan.filter((one) => one !== null).join(", ") || "not told"}</Fact>
      {denied.length > 0 && (
        <Fact name="Denied">
          <details>
            <summary>{plural(denied.length, "field")}</summary>
            <ul>
              {denied.map((coordinate) => (
                <li key={coordinate}>
                  <code>{coordinate}</code>
                </li>
              ))}
            </ul>
          </details>
        </Fact>
      )}
      <Fact name="Vendor cost">{cost.length > 0 ? <Counts of={cost} /> : "none"}</Fact>
      {verdicts.length > 0 && (
        <Fact name="Cache">
          <Counts of={verdicts} />
        </Fact>
      )}
    </dl>
  );
}

const Fact = ({ name, children }: { name: string; children: ReactNode }) => (
  <div>
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
);

/** xero 2, hubspot 3 */
const Counts = ({ of }: { of: [name: string, count: number][] }) =>
  of.map(([name, count], index) => (
    <span key={name}>
      {index > 0 && ", "}
      {name} <strong>{count}</strong>
    </span>
  ));

function cacheTotals(xray: Xray): [verdict: string, count: number][] {
  const caches = xray.spans.filter((span) => span.kind === "cache");
  return VERDICTS.flatMap((verdict) => {
    const counts = caches.map(({ facts }) => facts[verdict]).filter((count) => typeof count === "number");
    const total = counts.reduce((sum, count) => sum + count, 0);
    return total > 0 ? [[verdict, total] as [string, number]] : [];
  });
}
