/** Who asks: a demo persona or a typed bearer token. Tokens live in this module's memory and nowhere else. */

import type { Persona } from "./config";

export interface Session {
  /** A token good for the next request. One that was just refused is replaced, where the session can. */
  token(refused?: string): Promise<string>;
}

interface Grant {
  token: string;
  /** Milliseconds since the epoch after which a new token is asked for. */
  renewAt: number;
}

export function personaSession(persona: Persona, tokenUrl: string): Session {
  let grant: Promise<Grant> | null = null;
  const renew = () => {
    const asked = requestGrant(persona.id, tokenUrl);
    grant = asked;
    asked.catch(() => {
      if (grant === asked) grant = null;
    });
    return asked;
  };
  return {
    async token(refused) {
      const held = await (grant ?? renew());
      const usable = held.token !== refused && Date.now() < held.renewAt;
      return usable ? held.token : (await renew()).token;
    },
  };
}

export function tokenSession(token: string): Session {
  return { token: async () => token };
}

/**
 * `fetch` that sends the session's token, and once more with a new one after a 401.
 * An Authorization header from GraphiQL's own headers tab goes first. Without a session nothing is sent: the answer is
 * the hint, as a GraphQL error. `report` hears null when the token was accepted, and the sentence to show when not.
 */
export function sessionFetch(
  session: Session | null,
  hint: string,
  report: (problem: string | null) => void,
): typeof fetch {
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    if (headers.has("Authorization")) {
      return fetch(input, init);
    }
    if (session === null) {
      return Response.json({ errors: [{ message: hint }] });
    }
    const send = (token: string) => {
      headers.set("Authorization", `Bearer ${token}`);
      return fetch(input, { ...init, headers });
    };
    try {
      const token = await session.token();
      let response = await send(token);
      if (response.status === 401) {
        const other = await session.token(token);
        if (other !== token) response = await send(other);
      }
      report(response.status === 401 ? "The gateway refused this token (401)." : null);
      return response;
    } catch (error) {
      report(error instanceof Error ? error.message : String(error));
      throw error;
    }
  };
}

/** What a socket's first message says of the session. Without one nothing is sent: the error is the hint. */
export async function socketParams(session: Session | null, hint: string): Promise<Record<string, string>> {
  if (session === null) {
    throw new Error(hint);
  }
  return { authorization: `Bearer ${await session.token()}` };
}

async function requestGrant(persona: string, tokenUrl: string): Promise<Grant> {
  const response = await fetch(tokenUrl, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ persona }),
  });
  if (!response.ok) {
    throw new Error(`No token for this persona: the gateway answered ${response.status}.`);
  }
  const { accessToken, expiresIn } = (await response.json()) as { accessToken: string; expiresIn: number };
  // Renewed at nine tenths of its life, so that no request leaves with a token about to expire.
  return { token: accessToken, renewAt: Date.now() + expiresIn * 900 };
}
