/** What the browser remembers for this page: tabs, panes, theme, history, the persona's id, X-ray; never a token. */

const PREFIX = "backoffice-gateway:";

/** Local storage under our own prefix: another GraphiQL on the same address must not hide the sample queries. */
export const pageStorage = {
  getItem: (key: string) => attempt(() => localStorage.getItem(PREFIX + key)),
  setItem: (key: string, value: string) => localStorage.setItem(PREFIX + key, value),
  removeItem: (key: string) => void attempt(() => localStorage.removeItem(PREFIX + key)),
  clear: () => ownKeys().forEach((key) => localStorage.removeItem(key)),
  get length() {
    return ownKeys().length;
  },
};

export const personaChoice = {
  read: () => pageStorage.getItem("persona") ?? "",
  write: (id: string) =>
    void attempt(() => (id ? pageStorage.setItem("persona", id) : pageStorage.removeItem("persona"))),
};

/** Ids of the tabs whose queries ask for an X-ray. */
export const xrayTabs = {
  read: () => (pageStorage.getItem("xray:tabs") ?? "").split(" ").filter(Boolean),
  write: (ids: string[]) => void attempt(() => pageStorage.setItem("xray:tabs", ids.join(" "))),
};

/** Of the response's column, in percent. */
export const xrayHeight = {
  read: () => Number(pageStorage.getItem("xray:height")) || 65,
  write: (percent: number) => void attempt(() => pageStorage.setItem("xray:height", `${percent}`)),
};

function ownKeys(): string[] {
  return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
}

/** Null where the browser forbids storage (private windows, policies). */
function attempt<Value>(act: () => Value): Value | null {
  try {
    return act();
  } catch {
    return null;
  }
}
