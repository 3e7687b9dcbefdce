/** The toolbar's menu of sample queries: there when the tabs of an earlier visit no longer show them. */

import { pick, StarIcon, ToolbarMenu, UnStyledButton, useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import type { SampleQuery } from "./config";
import { sampleTab } from "./tabs";

export function SamplesMenu({ samples }: { samples: SampleQuery[] }) {
  const { addTab, changeTab } = useGraphiQLActions();
  const { tabs, queryEditor, variableEditor } = useGraphiQL(pick("tabs", "queryEditor", "variableEditor"));

  function open(sample: SampleQuery) {
    const { query, variables } = sampleTab(sample);
    const already = tabs.findIndex((tab) => tab.query === query && (tab.variables ?? "") === variables);
    if (already >= 0) {
      changeTab(already);
      return;
    }
    addTab();
    queryEditor?.setValue(query);
    variableEditor?.setValue(variables);
  }

  return (
    <ToolbarMenu
      button={
        <UnStyledButton className="graphiql-toolbar-button" aria-label="Sample queries" title="Sample queries">
          <StarIcon className="graphiql-toolbar-icon" aria-hidden="true" />
        </UnStyledButton>
      }
    >
      {samples.map((sample) => (
        <ToolbarMenu.Item key={sample.name} onSelect={() => open(sample)}>
          {sample.name}
        </ToolbarMenu.Item>
      ))}
    </ToolbarMenu>
  );
}
