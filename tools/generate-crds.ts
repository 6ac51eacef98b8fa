/**
 * Writes manifests/crds/, one YAML file a definition, from src/model/kinds/crds.ts, and manifests/warnings.yaml from src/model/kinds/warnings.ts:
 * `bun tools/generate-crds.ts`. With --check it only compares and ends with 1 when they differ.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dump } from "js-yaml";
import { CRDS } from "../src/model/kinds/crds.ts";
import { WARNING_POLICIES } from "../src/model/kinds/warnings.ts";

const folder = new URL("../manifests/crds/", import.meta.url).pathname;
const yaml = (object: object): string => dump(JSON.parse(JSON.stringify(object)), { lineWidth: 160 });
const warnings = `# Warns of settings that are accepted and have no effect. Optional; Kubernetes 1.30 or later.\n${WARNING_POLICIES.map(yaml).join("---\n")}`;
const files: readonly (readonly [string, string])[] = [
  ...CRDS.map(
    (definition) =>
      [`${folder}${definition.spec.group}_${definition.spec.names.plural}.yaml`, yaml(definition)] as const,
  ),
  [new URL("../manifests/warnings.yaml", import.meta.url).pathname, warnings],
];
const check = process.argv.includes("--check");
mkdirSync(folder, { recursive: true });
for (const [path, text] of files) {
  if (!check) writeFileSync(path, text);
  else if (readFileSync(path, "utf8") !== text) {
    console.error(`${path} is not what src/model/kinds says: run bun tools/generate-crds.ts`);
    process.exitCode = 1;
  }
}
