/** Which tabs ask for an X-ray: chosen with the toolbar's button, remembered by the browser, read when a tab's query is sent. */

import { pick, useGraphiQL } from "@graphiql/react";
import type { Fetcher } from "@graphiql/toolkit";
import { getOperationAST } from "graphql";
import { useEffect, useSyncExternalStore } from "react";
import { xrayTabs } from "../storage";

interface Choice {
  /** Ids of tabs that ask. */
  on: ReadonlySet<string>;
  openTab: string;
  /** How the last answer of a tab was asked for, since the page was loaded. */
  asked: ReadonlyMap<string, Asked>;
}

export type Asked = "with" | "without" | "subscription";

let choice: Choice = { on: new Set(xrayTabs.read()), openTab: "", asked: new Map() };
const listeners = new Set<() => void>();

function change(changes: Partial<Choice>): void {
  choice = { ...choice, ...changes };
  if (changes.on) xrayTabs.write([...changes.on]);
  listeners.forEach((listener) => listener());
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** Follows the tabs: a new one starts as the one it was opened from, and those that were closed are forgotten. */
export function useXrayTabs(): void {
  const { tabs, activeTabIndex } = useGraphiQL(pick("tabs", "activeTabIndex"));
  const ids = tabs.map((tab) => tab.id).join(" ");
  const openTab = tabs[activeTabIndex]?.id ?? "";
  useEffect(() => {
    const there = new Set(ids.split(" "));
    const kept = [...choice.on].filter((id) => there.has(id));
    const isNew = choice.openTab !== "" && openTab !== choice.openTab && !known.has(openTab);
    if (isNew && choice.on.has(choice.openTab)) kept.push(openTab);
    there.forEach((id) => known.add(id));
    change({ openTab, ...(same(kept, choice.on) ? {} : { on: new Set(kept) }) });
  }, [ids, openTab]);
}

const known = new Set<string>();
const same = (ids: string[], set: ReadonlySet<string>) => ids.length === set.size && ids.every((id) => set.has(id));

export interface OpenTab {
  id: string;
  on: boolean;
  asked: Asked | undefined;
}

export function useXrayChoice(): OpenTab {
  const { on, openTab, asked } = useSyncExternalStore(subscribe, () => choice);
  return { id: openTab, on: on.has(openTab), asked: asked.get(openTab) };
}

export function toggleXray(): void {
  const { on, openTab } = choice;
  change({ on: new Set(on.has(openTab) ? [...on].filter((id) => id !== openTab) : [...on, openTab]) });
}

/** Adds the wish to queries and mutations of tabs that have it; the page's own question for the schema goes as it is. */
export function askingForXray(fetcher: Fetcher): Fetcher {
  return (params, options) => {
    if (params.operationName === "IntrospectionQuery") return fetcher(params, options);
    const asked = wayToAsk(options?.documentAST, params.operationName);
    change({ asked: new Map(choice.asked).set(choice.openTab, asked) });
    return fetcher(asked === "with" ? { ...params, ...WISH } : params, options);
  };
}

const WISH = { extensions: { xray: true } };

function wayToAsk(document: Parameters<typeof getOperationAST>[0] | undefined, name: string | null | undefined): Asked {
  if (!choice.on.has(choice.openTab)) return "without";
  return document && getOperationAST(document, name)?.operation === "subscription" ? "subscription" : "with";
}
