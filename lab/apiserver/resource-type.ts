/** ResourceType: one kind that the API serves: names, versions, schema, columns, and the rules that its schema cannot say. */
import type { FieldError } from "../../src/model/schema/field-error.ts";
import type { JsonValue } from "../../src/model/schema/json.ts";
import type { Schema } from "../../src/model/schema/schema.ts";
import type { ApiObject } from "./object.ts";

/** One column of `kubectl get`. Columns with priority 1 are shown by `-o wide`. */
export interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "number" | "boolean" | "date";
  readonly format?: string;
  readonly description: string;
  readonly priority: 0 | 1;
  /** The cell's value; null and undefined print as nothing. `nowMs` is the time for ages. */
  readonly cell: (object: ApiObject, nowMs: number) => JsonValue | undefined;
}

export interface ServedVersion {
  readonly name: string;
  /** The whole object, `apiVersion`, `kind` and `metadata` included. */
  readonly schema: Schema;
  readonly columns: readonly Column[];
  readonly hasStatus: boolean;
  /** Sent as a Warning header on every use. */
  readonly deprecation?: string;
}

/** What a rule of a kind may look at besides the object: other objects, and names for new ones. */
export interface RuleContext {
  /** Whether an object of that resource exists; `resource` is `plural` or `plural.group`. */
  readonly exists: (resource: string, namespace: string | undefined, name: string) => boolean;
  readonly list: (resource: string, namespace: string | undefined) => readonly ApiObject[];
  /** A fresh service address that no Service has. */
  readonly allocateServiceAddress: () => string;
  /** Why a Service cannot have the address; undefined: it can. */
  readonly serviceAddressProblem: (address: string) => string | undefined;
  /** Of the service addresses: `IPv4` or `IPv6`. */
  readonly serviceFamily: "IPv4" | "IPv6";
  readonly nowMs: number;
}

export interface ResourceType {
  readonly group: string;
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly listKind: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  /** Served versions, the preferred first. Objects are stored once; versions differ in `apiVersion` only. */
  readonly versions: readonly ServedVersion[];
  readonly storageVersion: string;
  /** Built-in kinds take strategic merge patches and Go's leniency with nulls; custom ones do not. */
  readonly builtIn: boolean;
  readonly nameRule: "subdomain" | "label" | "service";
  /** Whether `metadata.generation` counts changes of what is neither metadata nor status. */
  readonly hasGeneration: boolean;
  /** Whether a PUT may leave out `metadata.resourceVersion`. */
  readonly unconditionalUpdate: boolean;
  /** Fields that field selectors may name, besides `metadata.name` and `metadata.namespace`. */
  readonly selectableFields: Readonly<Record<string, (object: ApiObject) => string>>;
  /** Further subresources in discovery, with their kind: `binding`. */
  readonly subresources: Readonly<Record<string, { readonly kind: string; readonly verbs: readonly string[] }>>;
  /** Whether an object may be created with a status: kubelets register their Node with one. */
  readonly createsWithStatus: boolean;
  /** Whether DELETE answers the object that was deleted instead of a Status. */
  readonly answersDeleted: boolean;
  /** True: DELETE on the collection is not served. */
  readonly lastsInCollections?: true;
  /** Completes a new object: defaults that depend on other fields, initial status. Changes the object in place. */
  readonly prepareCreate?: (object: ApiObject, context: RuleContext) => void;
  /** Completes the next state of an object, for instance fields that clients may leave out. Changes `next` in place. */
  readonly prepareUpdate?: (next: ApiObject, current: ApiObject, context: RuleContext) => void;
  /** Fields of the status that a write to it keeps where it leaves them out. */
  readonly lastingStatus?: readonly string[];
  /** Rules beyond the schema; `current` is undefined at creation. */
  readonly validate?: (
    object: ApiObject,
    current: ApiObject | undefined,
    subresource: string,
    context: RuleContext,
  ) => readonly FieldError[];
  /** Words for the client about an object that is accepted all the same. */
  readonly warn?: (object: ApiObject) => readonly string[];
  /** A refusal that is not about the object's fields: message of a 403. */
  readonly forbid?: (object: ApiObject, context: RuleContext) => string | undefined;
}

/** `pods`, `ippools.projectcalico.org`: the key of a resource in the storage and the registry. */
export function resourceId(type: { readonly group: string; readonly plural: string }): string {
  return type.group === "" ? type.plural : `${type.plural}.${type.group}`;
}

/** `v1`, `projectcalico.org/v3`. */
export function apiVersionOf(group: string, version: string): string {
  return group === "" ? version : `${group}/${version}`;
}
