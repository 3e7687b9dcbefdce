/** GraphiQL over the gateway, asked as whoever signed in. */

import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { useEffect, useMemo, useState } from "react";
import type { Config } from "./config";
import { SamplesMenu } from "./samples";
import { personaSession, sessionFetch, socketParams, tokenSession, type Session } from "./session";
import { SignIn } from "./sign-in";
import { pageStorage, personaChoice } from "./storage";
import { openingTab, sampleTab } from "./tabs";
import { XrayButton } from "./xray/button";
import { askingForXray } from "./xray/choice";
import { XrayPanel } from "./xray/panel";

export function Page({ config }: { config: Config }) {
  const personaOf = (id: string) => config.personas.find((persona) => persona.id === id);
  const sessionOf = (id: string) => {
    const persona = personaOf(id);
    return persona ? personaSession(persona, config.tokenUrl) : null;
  };
  const [personaId, setPersonaId] = useState(() => personaOf(personaChoice.read())?.id ?? "");
  const [session, setSession] = useState<Session | null>(() => sessionOf(personaId));
  const [problem, setProblem] = useState<{ of: Session | null; text: string | null }>();

  const hint =
    config.personas.length > 0
      ? "Signed out: choose a persona to load the schema and run queries."
      : "Signed out: enter a bearer token to load the schema and run queries.";
  const persona = personaOf(personaId);
  const signedIn = persona ? persona.description || `Signed in as ${persona.label}.` : "Queries carry your token.";

  // Subscriptions have a socket of their own; it opens with the first of them and closes after the last.
  const socket = useMemo(
    () => createClient({ url: socketUrl(config.endpoint), connectionParams: () => socketParams(session, hint) }),
    [config.endpoint, session, hint],
  );
  useEffect(() => () => void socket.dispose(), [socket]);
  // A new fetcher makes GraphiQL ask for the schema again, as the new caller sees it.
  const fetcher = useMemo(
    () =>
      askingForXray(
        createGraphiQLFetcher({
          url: config.endpoint,
          fetch: sessionFetch(session, hint, (text) => setProblem({ of: session, text })),
          wsClient: socket,
        }),
      ),
    [config.endpoint, session, hint, socket],
  );
  const samples = useMemo(() => config.queries.map(sampleTab), [config.queries]);
  const opening = useMemo(() => openingTab(samples), [samples]);

  return (
    <>
      <SignIn
        config={config}
        personaId={personaId}
        onPersona={(id) => {
          personaChoice.write(id);
          setPersonaId(id);
          setSession(sessionOf(id));
        }}
        onToken={(token) => setSession(token ? tokenSession(token) : null)}
        status={session ? signedIn : hint}
        problem={problem?.of === session ? problem.text : null}
      />
      <main>
        <GraphiQL
          fetcher={fetcher}
          // null: no introspection while there is nobody to ask as
          schema={session ? undefined : null}
          storage={pageStorage}
          shouldPersistHeaders={false}
          defaultTabs={samples.length > 0 ? samples : undefined}
          initialQuery={opening.query}
          initialVariables={opening.variables}
          defaultEditorToolsVisibility="variables"
          inputValueDeprecation
          schemaDescription
        >
          <GraphiQL.Logo>
            <span className="graphiql-logo-link">
              Graph<em>i</em>QL
            </span>
          </GraphiQL.Logo>
          <GraphiQL.Toolbar>
            {({ prettify, merge, copy }) => (
              <>
                {config.queries.length > 0 && <SamplesMenu samples={config.queries} />}
                {prettify}
                {merge}
                {copy}
                <XrayButton />
              </>
            )}
          </GraphiQL.Toolbar>
          <GraphiQL.Footer>
            <XrayPanel />
          </GraphiQL.Footer>
        </GraphiQL>
      </main>
    </>
  );
}

function socketUrl(endpoint: string): string {
  const url = new URL(endpoint, window.location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}
