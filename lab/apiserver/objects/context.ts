/** Context: what every request works with: the storage, the served kinds, the admission rules, the clock. */
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import type { ApiObject } from "../object.ts";
import type { ResourceType, RuleContext, ServedVersion } from "../resource-type.ts";
import type { ServiceAddresses } from "./service-addresses.ts";
import type { Storage } from "./storage.ts";

/** The kinds that are served now; CustomResourceDefinitions change it. */
export interface Registry {
  find(
    group: string,
    version: string,
    plural: string,
  ): { readonly type: ResourceType; readonly version: ServedVersion } | undefined;
  /** By `plural` or `plural.group`. */
  byId(resource: string): ResourceType | undefined;
  byKind(group: string, kind: string): ResourceType | undefined;
  types(): readonly ResourceType[];
}

export interface AdmissionRequest {
  /** `pods`, `ippools.projectcalico.org`. */
  readonly resource: string;
  readonly object: ApiObject;
  /** undefined at creation. */
  readonly current: ApiObject | undefined;
  readonly list: RuleContext["list"];
}

/** A rule that the server's owner adds for creates and updates: what is wrong with the object. */
export type Admission = (request: AdmissionRequest) => readonly FieldError[];

/** A rule that the server's owner adds for deletions that a client asks for: why the object may not go. */
export type Retention = (request: {
  readonly resource: string;
  readonly name: string;
  readonly list: RuleContext["list"];
}) => string | undefined;

/** What the server's owner has to say about an object that is accepted: sent as Warning headers. */
export type Advice = (request: Omit<AdmissionRequest, "current">) => readonly string[];

export interface Context {
  readonly storage: Storage;
  readonly registry: Registry;
  readonly admission: readonly Admission[];
  readonly retention: readonly Retention[];
  readonly advice: readonly Advice[];
  readonly addresses: ServiceAddresses;
  readonly nowMs: () => number;
}

/** `2024-01-02T03:04:05Z`, the form of metadata timestamps. */
export function timestamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

export function ruleContext(context: Context): RuleContext {
  return {
    exists: (resource, namespace, name) => context.storage.get(resource, namespace, name) !== undefined,
    list: (resource, namespace) => context.storage.list(resource, namespace).map((stored) => stored.object),
    allocateServiceAddress: () => context.addresses.allocate(context.storage),
    serviceAddressProblem: (address) => context.addresses.problem(context.storage, address),
    serviceFamily: context.addresses.family,
    nowMs: context.nowMs(),
  };
}
