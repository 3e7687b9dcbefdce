/** What the page opens with: the sample queries on a first visit, later the tabs as they were left. */

import type { SampleQuery } from "./config";
import { pageStorage } from "./storage";

export interface TabContent {
  query: string;
  variables: string;
}

export function sampleTab(sample: SampleQuery): TabContent {
  const named = sample.query.trimStart().startsWith("#") ? sample.query : `# ${sample.name}\n${sample.query}`;
  return { query: named, variables: sample.variables };
}

/**
 * GraphiQL fills its editors from what was last typed, not from the open tab: on a first visit that leaves the first
 * sample without its variables. So the open tab's contents are handed to it.
 */
export function openingTab(samples: TabContent[]): Partial<TabContent> {
  const stored = pageStorage.getItem("graphiql:tabState");
  if (stored === null) {
    return samples[0] ?? {};
  }
  try {
    const { tabs, activeTabIndex } = JSON.parse(stored) as { tabs: TabContent[]; activeTabIndex: number };
    const open = tabs[activeTabIndex];
    return open ? { query: open.query ?? "", variables: open.variables ?? "" } : {};
  } catch {
    return samples[0] ?? {}; // GraphiQL drops tabs it can't read, and opens the samples again
  }
}
