/** The X-ray below an answer: how the gateway came to it, or a sentence that says why there is nothing to draw. */

import { CloseIcon, CopyIcon, pick, useGraphiQL } from "@graphiql/react";
import { useMemo, useRef, useState, type ReactNode } from "react";
import { xrayHeight } from "../storage";
import { toggleXray, useXrayChoice, useXrayTabs, type Asked } from "./choice";
import { Drawing } from "./drawing";
import { missingScope, readAnswer, type Reading, type Xray } from "./shape";
import { Splitter } from "./splitter";
import { Summary } from "./summary";

export function XrayPanel() {
  useXrayTabs();
  const { id, on, asked } = useXrayChoice();
  return on ? <Panel key={id} asked={asked} /> : null;
}

interface Shown {
  reading: Reading;
  /** Of the run before, to compare with. */
  before: Xray | null;
  run: number;
}

function Panel({ asked }: { asked: Asked | undefined }) {
  const { tabs, activeTabIndex, isFetching } = useGraphiQL(pick("tabs", "activeTabIndex", "isFetching"));
  const answer = tabs[activeTabIndex]?.response ?? "";
  const reading = useMemo(() => readAnswer(answer), [answer]);
  // What was drawn stays, dimmed, until the next answer is there: nothing jumps when a query is run again.
  const [shown, setShown] = useState<Shown>({ reading, before: null, run: 0 });
  if (!isFetching && shown.reading !== reading) {
    const before = shown.reading.state === "drawn" ? shown.reading.xray : shown.before;
    setShown({ reading, before, run: shown.run + 1 });
  }
  const panel = useRef<HTMLElement>(null);
  const [height, setHeight] = useState(xrayHeight.read);
  const [full, setFull] = useState(false);

  const drawn = shown.reading.state === "drawn" ? shown.reading.xray : null;
  return (
    <section
      ref={panel}
      aria-label="X-ray"
      aria-busy={isFetching}
      className={["xray", drawn ? "drawn" : "", full && drawn ? "full" : ""].join(" ")}
      style={{ "--xray-height": `${height}%` } as React.CSSProperties}
      onKeyDown={(event) => {
        if (event.key === "Escape" && full && !event.defaultPrevented) setFull(false);
      }}
    >
      {drawn && !full && (
        <Splitter
          percent={height}
          measured={() => panel.current?.closest(".graphiql-response")}
          onChange={(percent) => {
            setHeight(percent);
            xrayHeight.write(percent);
          }}
        />
      )}
      <header className="xray-head">
        <h2>X-ray</h2>
        {drawn ? <Summary xray={drawn} before={shown.before} /> : <span className="xray-gap" />}
        <div className="xray-tools">
          {drawn && <CopyButton key={answer} answer={answer} />}
          {drawn && (
            <button type="button" aria-label="Larger" title="Larger" aria-pressed={full} onClick={() => setFull(!full)}>
              <svg viewBox="0 0 14 14" fill="none" stroke="currentColor" strokeWidth="1.5" aria-hidden="true">
                <path d={full ? "M6 1v5H1M8 13V8h5" : "M8 1h5v5M6 13H1V8"} />
              </svg>
            </button>
          )}
          <button type="button" aria-label="Close X-ray" title="Close" onClick={toggleXray}>
            <CloseIcon aria-hidden="true" />
          </button>
        </div>
      </header>
      {drawn && <Drawing xray={drawn} run={shown.run} />}
      {shown.reading.state === "refused" && <Refused reason={shown.reading.reason} />}
      {shown.reading.state === "absent" && (
        <Absent answered={answer !== ""} asked={isFetching ? undefined : asked} />
      )}
    </section>
  );
}

/** For a report of a slow operation: there is nothing in an X-ray that others must not see. */
function CopyButton({ answer }: { answer: string }) {
  const [done, setDone] = useState(false);
  if (!navigator.clipboard) return null; // browsers have none on pages of plain HTTP
  const copy = async () => {
    const { extensions } = JSON.parse(answer) as { extensions: { xray: unknown } };
    await navigator.clipboard.writeText(JSON.stringify(extensions.xray, null, 2));
    setDone(true);
  };
  return (
    <button type="button" title="Copy as JSON" aria-label={done ? "Copied" : "Copy X-ray"} onClick={() => void copy()}>
      {done ? "✓" : <CopyIcon aria-hidden="true" />}
    </button>
  );
}

function Refused({ reason }: { reason: string }) {
  const scope = missingScope(reason);
  return (
    <Note>
      <p>
        {scope ? (
          <>
            No X-ray: it needs the scope <code>{scope}</code>, which whoever asked does not hold.
          </>
        ) : (
          <>No X-ray: {reason}.</>
        )}{" "}
        The operation itself ran as always.
      </p>
      <p>Of the roles that come with the gateway, Admin and Support hold the scope; gateway.toml can give it to others.</p>
    </Note>
  );
}

function Absent({ answered, asked }: { answered: boolean; asked: Asked | undefined }) {
  if (!answered || !asked) {
    return (
      <Note>
        <p>Run a query to see how it is answered: its plan, batches, vendor calls, cache verdicts and waits.</p>
      </Note>
    );
  }
  if (asked === "subscription") {
    return (
      <Note>
        <p>The events of a subscription carry no X-ray. Queries and mutations do.</p>
      </Note>
    );
  }
  if (asked === "without") {
    return (
      <Note>
        <p>This answer was asked for without X-ray. Run the query again to see how it is answered.</p>
      </Note>
    );
  }
  return (
    <Note>
      <p>
        This answer carries no X-ray. Only an operation that ran has one: what is refused before (syntax, an unknown
        field, a limit, signing in) has none.
      </p>
      <p>
        Outside this page, ask with <code>{'{"query": "…", "extensions": {"xray": true}}'}</code> and the scope{" "}
        <code>xray:read</code>.
      </p>
    </Note>
  );
}

const Note = ({ children }: { children: ReactNode }) => <div className="xray-note">{children}</div>;
