/** The toolbar's switch: whether the open tab's queries ask for an X-ray. */

import { ToolbarButton } from "@graphiql/react";
import { toggleXray, useXrayChoice } from "./choice";

export function XrayButton() {
  const { on } = useXrayChoice();
  return (
    <ToolbarButton className="xray-switch" label="X-ray" aria-pressed={on} onClick={toggleXray}>
      <svg className="graphiql-toolbar-icon" viewBox="0 0 20 20" fill="currentColor" aria-hidden="true">
        <rect x="1" y="2.5" width="12" height="3" rx="1" />
        <rect x="4" y="8.5" width="6" height="3" rx="1" />
        <rect x="9" y="14.5" width="10" height="3" rx="1" />
      </svg>
    </ToolbarButton>
  );
}
