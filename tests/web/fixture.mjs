/* fixture.mjs FOLDER MODEL: the corpora as one JSONL file per owner, federation.yaml and example.txt beside them.
 * Reads from standard input a text that the demo model writes; it becomes one more document of
 * scripture, so that a generation has something to be found. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { corpora, DEMO } from "./corpora.mjs";

const [folder, model] = process.argv.slice(2);
const echo = readFileSync(0, "utf8");
mkdirSync(folder, { recursive: true });
const owners = Object.entries(corpora).map(([name, docs], expert) => {
  if (name === "scripture") docs = [...docs, { id: "scripture/echo", source: "echo", text: `Before it. ${echo} After it.` }];
  const rows = docs.map(({ id, source, metadata, text }) => JSON.stringify({ ...metadata, id, source, text }));
  writeFileSync(join(folder, `${name}.jsonl`), rows.join("\n") + "\n");
  return `  - name: ${name}\n    expert: ${expert}\n    index: [${join(folder, name)}]\n    description: the ${name} corpus\n`;
});
writeFileSync(join(folder, "federation.yaml"), `name: test\nlisten: 127.0.0.1:0\nmodel: ${model}\nstore: ${join(folder, "store")}\nowners:\n${owners.join("")}`);
writeFileSync(join(folder, "example.txt"), `prompt: ${DEMO.prompt}\n${DEMO.text}\n`);
