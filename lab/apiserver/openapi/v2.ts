/** OpenApiV2: the one document of all kinds (Swagger). Read by older kubectl, and by newer ones for `apply` and `diff`. */
import type { JsonObject } from "../../../src/model/schema/json.ts";
import type { Registry } from "../objects/context.ts";
import { collect, pathsOf } from "./emit.ts";

const DIALECT = { prefix: "#/definitions/", version: 2 } as const;
const PARAMETERS: readonly JsonObject[] = ["dryRun", "fieldManager", "fieldValidation"].map((name) => ({
  name,
  in: "query",
  type: "string",
  uniqueItems: true,
}));

export function openApiV2Document(registry: Registry): JsonObject {
  const definitions = new Map<string, JsonObject>();
  const paths: JsonObject = {};
  for (const type of registry.types()) {
    for (const version of type.versions) {
      collect(definitions, type, version, DIALECT);
      Object.assign(paths, pathsOf(type, version, PARAMETERS, { "200": { description: "OK" } }));
    }
  }
  return {
    swagger: "2.0",
    info: { title: "Kubernetes", version: "v1" },
    paths,
    definitions: Object.fromEntries(definitions),
  };
}
