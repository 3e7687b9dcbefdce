/** The bar on top: whose eyes the graph is read with. */

import { useState } from "react";
import type { Config } from "./config";

interface SignInProps {
  config: Config;
  personaId: string;
  onPersona(id: string): void;
  onToken(token: string): void;
  status: string;
  problem: string | null;
}

export function SignIn({ config, personaId, onPersona, onToken, status, problem }: SignInProps) {
  return (
    <header className="bar">
      <h1>{config.title}</h1>
      {config.personas.length > 0 ? (
        <div className="field">
          <label htmlFor="persona">Persona</label>
          <select
            id="persona"
            value={personaId}
            aria-describedby="sign-in-status"
            onChange={(event) => onPersona(event.target.value)}
          >
            <option value="">Signed out</option>
            {config.personas.map(({ id, label }) => (
              <option key={id} value={id}>
                {label}
              </option>
            ))}
          </select>
        </div>
      ) : (
        <TokenForm onToken={onToken} />
      )}
      <p id="sign-in-status" role="status" className={problem ? "status problem" : "status"}>
        {problem ?? status}
      </p>
    </header>
  );
}

function TokenForm({ onToken }: Pick<SignInProps, "onToken">) {
  const [typed, setTyped] = useState("");
  return (
    <form
      className="field"
      onSubmit={(event) => {
        event.preventDefault();
        onToken(typed.trim());
      }}
    >
      <label htmlFor="token">Bearer token</label>
      <input
        id="token"
        type="password"
        autoComplete="off"
        spellCheck={false}
        aria-describedby="sign-in-status"
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
      />
      <button type="submit">Use token</button>
    </form>
  );
}
