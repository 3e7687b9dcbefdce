/** A Prettier plugin for JSON with comments: stands in for Prettier's own, which brings a whole JavaScript parser. */

import { applyEdits, format } from "jsonc-parser";

interface Text {
  text: string;
}

export const parsers = {
  jsonc: {
    astFormat: "json-text",
    parse: (text: string): Text => ({ text }),
    locStart: () => 0,
    locEnd: ({ text }: Text) => text.length,
  },
};

export const printers = {
  "json-text": {
    print: ({ node: { text } }: { node: Text }) =>
      applyEdits(text, format(text, undefined, { insertSpaces: true, tabSize: 2 })),
  },
};
