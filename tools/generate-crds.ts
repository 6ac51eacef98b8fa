/** Writes manifests/crds/, one YAML file a definition, from src/model/kinds/crds.ts: `bun tools/generate-crds.ts`. With --check it only compares and ends with 1 when they differ. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dump } from "js-yaml";
import { CRDS } from "../src/model/kinds/crds.ts";

const folder = new URL("../manifests/crds/", import.meta.url).pathname;
const check = process.argv.includes("--check");
mkdirSync(folder, { recursive: true });
for (const definition of CRDS) {
  const path = `${folder}${definition.spec.group}_${definition.spec.names.plural}.yaml`;
  const text = dump(JSON.parse(JSON.stringify(definition)), { lineWidth: 160 });
  if (!check) writeFileSync(path, text);
  else if (readFileSync(path, "utf8") !== text) {
    console.error(`${path} is not what src/model/kinds/crds.ts says: run bun tools/generate-crds.ts`);
    process.exitCode = 1;
  }
}
