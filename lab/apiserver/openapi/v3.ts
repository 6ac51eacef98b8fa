/** OpenApiV3: one document per group version, and the index of them. Read by kubectl 1.27 and later, for validation and `explain`. */
import { createHash } from "node:crypto";
import type { JsonObject } from "../../../src/model/schema/json.ts";
import type { ServedKinds } from "../registry.ts";
import { apiVersionOf } from "../resource-type.ts";
import { collect, pathsOf } from "./emit.ts";

const DIALECT = { prefix: "#/components/schemas/", version: 3 } as const;
const PARAMETERS: readonly JsonObject[] = ["dryRun", "fieldManager", "fieldValidation"].map((name) => ({
  name,
  in: "query",
  schema: { type: "string", uniqueItems: true },
}));

/** `GET /openapi/v3`: where the documents are; the hash changes with what is served. */
export function openApiV3Paths(registry: ServedKinds): JsonObject {
  const paths: JsonObject = {};
  for (const type of registry.types()) {
    for (const version of type.versions) {
      const path = type.group === "" ? `api/${version.name}` : `apis/${apiVersionOf(type.group, version.name)}`;
      const hash = createHash("sha1")
        .update(JSON.stringify(openApiV3Document(registry, type.group, version.name, "")))
        .digest("hex")
        .toUpperCase();
      paths[path] ??= { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` };
    }
  }
  return { paths };
}

export function openApiV3Document(registry: ServedKinds, group: string, version: string, title: string): JsonObject {
  const definitions = new Map<string, JsonObject>();
  const paths: JsonObject = {};
  for (const type of registry.types()) {
    const served = type.group === group ? type.versions.find((entry) => entry.name === version) : undefined;
    if (served === undefined) continue;
    collect(definitions, type, served, DIALECT);
    Object.assign(paths, pathsOf(type, served, PARAMETERS, { "200": { description: "OK" } }));
  }
  return {
    openapi: "3.0.0",
    info: { title: `Kubernetes ${title}`.trim(), version: "v1" },
    paths,
    components: { schemas: Object.fromEntries(definitions) },
  };
}
