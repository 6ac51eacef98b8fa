/** ApiObject: an object as the API serves it. What is stored is shared by readers and never changed in place: copy first. */
import { arrayAt, isJsonObject, type JsonObject, type JsonValue, stringAt } from "../../src/model/schema/json.ts";

export interface Metadata {
  name: string;
  namespace?: string;
  generateName?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: { [name: string]: string };
  annotations?: { [name: string]: string };
  finalizers?: string[];
  ownerReferences?: JsonObject[];
  [field: string]: JsonValue;
}

export interface ApiObject {
  apiVersion: string;
  kind: string;
  metadata: Metadata;
  [field: string]: JsonValue;
}

/** Whether the value has the outline of an object: a `metadata` object with string fields where code reads strings. */
export function isApiObject(value: JsonValue): value is ApiObject {
  return (
    isJsonObject(value) &&
    typeof value["apiVersion"] === "string" &&
    typeof value["kind"] === "string" &&
    isJsonObject(value["metadata"])
  );
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly blocking: boolean;
}

export function ownersOf(object: ApiObject): OwnerReference[] {
  return arrayAt(object.metadata.ownerReferences).flatMap((entry) =>
    isJsonObject(entry)
      ? [
          {
            apiVersion: stringAt(entry["apiVersion"]),
            kind: stringAt(entry["kind"]),
            name: stringAt(entry["name"]),
            uid: stringAt(entry["uid"]),
            blocking: entry["blockOwnerDeletion"] === true,
          },
        ]
      : [],
  );
}
