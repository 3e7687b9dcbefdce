import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const source = (name: string) => fileURLToPath(new URL(`./src/${name}`, import.meta.url));

/** GraphiQL titles its icons, for those who hear the page, by the names of functions, which a minifier shortens. */
const keepIconNames: Plugin = {
  name: "keep-icon-names",
  transform: {
    filter: { id: /@graphiql\/react\/dist\/icons\/[\w-]+\.js$/ },
    handler(code) {
      const icon = /export \{ (Svg\w+) as default \}/.exec(code)?.[1];
      return icon && { code: `${code}\nObject.defineProperty(${icon}, "name", { value: "${icon}" });`, map: null };
    },
  },
};

export default defineConfig({
  base: "./",
  plugins: [keepIconNames],
  resolve: {
    alias: [
      // The editor's parts that a query needs, instead of every part there is.
      { find: /^(\.|monaco-graphql\/esm)\/monaco-editor(\.js)?$/, replacement: source("editor.ts") },
      // GraphiQL looks at any address in an answer that ends like a picture: this page calls no other host.
      { find: /^\.\/image-preview\.js$/, replacement: source("image-preview.ts") },
      { find: "prettier/parser-graphql", replacement: "prettier/plugins/graphql" }, // one and the same, under two names
      // Variables are JSON: half a megabyte of JavaScript parser and printer is not needed to indent them.
      { find: /^prettier\/(plugins\/estree|parser-babel)$/, replacement: source("json-format.ts") },
    ],
  },
  worker: { format: "es" },
  build: {
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"], // the first to know light-dark()
    assetsInlineLimit: 0, // data: fonts would need a wider Content-Security-Policy
    chunkSizeWarningLimit: 4000,
    modulePreload: { polyfill: false },
    license: { fileName: "LICENSES.md" }, // of everything bundled: their texts must travel with it
    rolldownOptions: {
      // "use client" means nothing in a bundle that only ever runs in a browser.
      onLog: (level, log, next) => (log.code === "MODULE_LEVEL_DIRECTIVE" ? undefined : next(level, log)),
    },
  },
});
