/** Table: objects as rows of cells, the form in which kubectl prints them (meta.k8s.io Table). */
import type { JsonObject, JsonValue } from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import type { Column, ServedVersion } from "../resource-type.ts";

/** What each row carries of its object. */
export type IncludedObject = "None" | "Metadata" | "Object";

export interface TableRequest {
  /** Version of meta.k8s.io: `v1` or `v1beta1`. */
  readonly version: string;
  readonly include: IncludedObject;
  readonly nowMs: number;
}

/** A Table of the objects; `withColumns` false leaves the definitions out, as later events of a watch do. */
export function tableOf(
  served: ServedVersion,
  objects: readonly ApiObject[],
  metadata: JsonObject,
  request: TableRequest,
  withColumns: boolean,
): JsonObject {
  return {
    kind: "Table",
    apiVersion: `meta.k8s.io/${request.version}`,
    metadata,
    columnDefinitions: withColumns ? served.columns.map(definitionOf) : null,
    rows: objects.map((object) => ({
      cells: served.columns.map((column) => column.cell(object, request.nowMs) ?? null),
      object: includedObject(object, request),
    })),
  };
}

function definitionOf(column: Column): JsonObject {
  const { name, type, format, description, priority } = column;
  return { name, type, format: format ?? "", description, priority };
}

function includedObject(object: ApiObject, request: TableRequest): JsonValue {
  if (request.include === "None") return null;
  return request.include === "Object" ? object : metadataOnly(object, request.version);
}

/** The object as PartialObjectMetadata. */
export function metadataOnly(object: ApiObject, version: string): JsonObject {
  return { kind: "PartialObjectMetadata", apiVersion: `meta.k8s.io/${version}`, metadata: object.metadata };
}
