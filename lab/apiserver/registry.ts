/** Registry: the kinds served now: the built-in ones, and those of the established CustomResourceDefinitions, kept up to date. */
import { jsonEquals } from "../../src/model/schema/json.ts";
import { customType } from "./crd/custom-type.ts";
import { CUSTOM_RESOURCE_DEFINITION, definitionStatus, isEstablished } from "./crd/definition.ts";
import { CONFIG_MAP, SECRET, SERVICE_ACCOUNT } from "./kinds/configuration.ts";
import { EVENT } from "./kinds/event.ts";
import { LEASE } from "./kinds/lease.ts";
import { NAMESPACE } from "./kinds/namespace.ts";
import { ENDPOINT_SLICE, NETWORK_POLICY } from "./kinds/network.ts";
import { NODE } from "./kinds/node.ts";
import { POD } from "./kinds/pod.ts";
import { SERVICE } from "./kinds/service.ts";
import type { Registry } from "./objects/context.ts";
import type { Storage } from "./objects/storage.ts";
import { resourceId, type ResourceType, type ServedVersion } from "./resource-type.ts";

const BUILT_IN: readonly ResourceType[] = [
  NAMESPACE,
  NODE,
  POD,
  SERVICE,
  SERVICE_ACCOUNT,
  CONFIG_MAP,
  SECRET,
  EVENT,
  ENDPOINT_SLICE,
  NETWORK_POLICY,
  LEASE,
  CUSTOM_RESOURCE_DEFINITION,
];
const DEFINITIONS = resourceId(CUSTOM_RESOURCE_DEFINITION);

export class ServedKinds implements Registry {
  readonly #types = new Map<string, ResourceType>(BUILT_IN.map((type) => [resourceId(type), type]));
  readonly #storage: Storage;
  readonly #nowMs: () => number;
  #edition = 1;

  /** Serves what the stored definitions describe, and follows them from then on. */
  constructor(storage: Storage, nowMs: () => number) {
    this.#storage = storage;
    this.#nowMs = nowMs;
    for (const stored of storage.list(DEFINITIONS))
      if (isEstablished(stored.object)) this.#types.set(stored.object.metadata.name, customType(stored.object));
    storage.subscribe((change) => {
      if (change.resource !== DEFINITIONS) return;
      if (change.type === "DELETED" || !isEstablished(change.state.object)) this.#types.delete(change.name);
      else this.#types.set(change.name, customType(change.state.object));
      this.#edition++;
      queueMicrotask(() => this.#settleNames());
    });
  }

  /** Writes the status of definitions where names became free or taken, or versions changed. */
  #settleNames(): void {
    for (const stored of this.#storage.list(DEFINITIONS)) {
      const others = this.#storage.list(DEFINITIONS).map((entry) => entry.object);
      const status = definitionStatus(stored.object, others, this.#nowMs());
      if (!jsonEquals(stored.object["status"], status))
        this.#storage.write(DEFINITIONS, { ...structuredClone(stored.object), status });
    }
  }

  /** Grows with every change of what is served. */
  get edition(): number {
    return this.#edition;
  }

  find(
    group: string,
    version: string,
    plural: string,
  ): { readonly type: ResourceType; readonly version: ServedVersion } | undefined {
    const type = this.#types.get(resourceId({ group, plural }));
    const served = type?.versions.find((entry) => entry.name === version);
    return type === undefined || served === undefined ? undefined : { type, version: served };
  }

  byId(resource: string): ResourceType | undefined {
    return this.#types.get(resource);
  }

  byKind(group: string, kind: string): ResourceType | undefined {
    for (const type of this.#types.values()) if (type.group === group && type.kind === kind) return type;
    return undefined;
  }

  types(): readonly ResourceType[] {
    return [...this.#types.values()];
  }
}
