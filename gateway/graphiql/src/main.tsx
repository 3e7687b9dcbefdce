/** Starts the page: the configuration first, then everything else. */

import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";
import "./page.css";
import "./xray/xray.css";
import "./workers";
import { createRoot } from "react-dom/client";
import { loadConfig, type Config } from "./config";
import { Page } from "./page";

const root = createRoot(document.getElementById("root")!);

loadConfig().then(start, (error: unknown) => {
  root.render(
    <p className="notice" role="alert">
      The page could not read its configuration. {String(error)}
    </p>,
  );
});

function start(config: Config): void {
  document.title = `${config.title} · GraphiQL`;
  root.render(<Page config={config} />);
}
