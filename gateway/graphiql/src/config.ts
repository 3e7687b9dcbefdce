/** What the gateway tells its page: fetched, never templated, so that no inline script is needed. */

export interface Persona {
  id: string;
  label: string;
  description: string;
}

export interface SampleQuery {
  name: string;
  query: string;
  variables: string;
}

export interface Config {
  endpoint: string;
  title: string;
  /** Empty outside the demo: then the page asks for a bearer token. */
  personas: Persona[];
  tokenUrl: string;
  queries: SampleQuery[];
}

export async function loadConfig(): Promise<Config> {
  const response = await fetch("./config.json");
  if (!response.ok) {
    throw new Error(`config.json: the gateway answered ${response.status}`);
  }
  return (await response.json()) as Config;
}
