/** Writes dist/SOURCES.sha256: what this build was made of, in the form that `sha256sum -c` reads. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

const FILES = ["index.html", "package-lock.json", "package.json", "sources-hash.mjs", "tsconfig.json", "vite.config.ts"];
const FOLDERS = ["public", "src"];

const inFolder = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`);

const line = (path) => `${createHash("sha256").update(readFileSync(path)).digest("hex")}  ${path}\n`;

writeFileSync("dist/SOURCES.sha256", [...FILES, ...FOLDERS.flatMap(inFolder)].sort().map(line).join(""));
