/**
 * Values: objects as etcd holds them, upstream's JSON. Resources are whole objects without resourceVersion, which is the key's modification
 * revision; those of IPAM are what upstream's IPAM writes, without metadata. Fields that are not known here pass through both ways.
 * Upstream: libcalico-go/lib/backend/etcdv3/etcdv3.go, lib/backend/model/{block,block_affinity,ipam_handle,ipam_config}.go.
 */
import { affinityLabels } from "../../model/affinity.ts";
import type { Key } from "../../model/key.ts";
import { KINDS, type Kind } from "../../model/kind.ts";
import type { ObjectMeta, Resource } from "../../model/resource.ts";
import { isJsonObject, type JsonObject, type JsonValue, objectAt, stringAt } from "../../model/schema/json.ts";
import { withoutNullFields } from "../../model/schema/normalize.ts";
import { DEFAULT_TIER, IPAM_CONFIG, parsePath, TIERED } from "./keys.ts";
import { nodeOfCalico, nodeToCalico } from "./node.ts";
import type { KeyValue } from "./protocol.ts";

export function encodeKey(path: string): Uint8Array {
  return new TextEncoder().encode(path);
}

/** Where upstream keeps the name of a policy. */
const METADATA = "projectcalico.org/metadata";

/** An object, and the key that it is under. */
export interface Entry<K extends Kind> {
  readonly path: string;
  readonly object: Resource<K>;
}

/** The value of the object. A handle's and a block's identity is in the key alone. */
export function encodeValue(kind: Kind, object: Resource): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(storedForm(kind, object as unknown as JsonObject)));
}

function storedForm(kind: Kind, object: JsonObject): JsonObject {
  const spec = objectAt(object["spec"]);
  switch (kind) {
    case "IPAMBlock": {
      const { affinityClaimTime, strictAffinity: _, affinity = null, ...rest } = spec;
      const claimed = affinityClaimTime === undefined ? {} : { affinity_claim_time: affinityClaimTime };
      return { ...rest, affinity, ...claimed, deleted: spec["deleted"] ?? false };
    }
    case "IPAMHandle": {
      const { handleID: _, ...rest } = spec;
      return { ...rest, deleted: spec["deleted"] ?? false };
    }
    case "BlockAffinity": {
      const { node: _, type: __, cidr: ___, ...rest } = spec;
      return { ...rest, state: spec["state"] ?? "confirmed", deleted: spec["deleted"] ?? false };
    }
    case "Node":
      return withoutRevision(nodeToCalico(object));
    default:
      return withoutRevision(TIERED.has(kind) ? withStoredName(object) : object);
  }
}

function withoutRevision(object: JsonObject): JsonObject {
  const { resourceVersion: _, ...metadata } = objectAt(object["metadata"]);
  return { ...object, metadata };
}

function withStoredName(object: JsonObject): JsonObject {
  const metadata = objectAt(object["metadata"]);
  const annotations = {
    ...objectAt(metadata["annotations"]),
    [METADATA]: JSON.stringify({ name: metadata["name"] ?? "" }),
  };
  return { ...object, metadata: { ...metadata, annotations } };
}

/** What upstream's IPAM reads of an IPAMConfiguration, beside the resource. */
export function encodeIpamConfig(object: Resource): Uint8Array {
  const { strictAffinity, autoAllocateBlocks = true, ...rest } = objectAt((object as unknown as JsonObject)["spec"]);
  const stored = {
    ...(strictAffinity === true ? { strict_affinity: true } : {}),
    ...(autoAllocateBlocks === true ? { auto_allocate_blocks: true } : {}),
    ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== 0)),
  };
  return new TextEncoder().encode(JSON.stringify(stored));
}

function settingsOf(value: JsonObject): JsonObject {
  const { strict_affinity: strictAffinity = false, auto_allocate_blocks: autoAllocateBlocks = false, ...rest } = value;
  return { strictAffinity, autoAllocateBlocks, ...rest };
}

/**
 * The object of a stored value. undefined when the key is not of the kind.
 * A value that is not a JSON object gives an object whose spec is that text, which its readers report as invalid.
 */
export function decodeEntry<K extends Kind>(kind: K, entry: KeyValue): Entry<K> | undefined {
  const path = new TextDecoder().decode(entry.key);
  const place = parsePath(kind, path);
  if (place === undefined) return undefined;
  const text = new TextDecoder().decode(entry.value);
  const value = parsed(text);
  const { key, spec: said } = place;
  const { resourceVersion } = { resourceVersion: entry.modRevision };
  const { apiVersion, apiKind } = KINDS[kind];
  const head = { apiVersion, kind: apiKind };
  const object = ((): JsonObject => {
    switch (kind) {
      case "IPAMBlock": {
        const { affinity_claim_time: affinityClaimTime, affinity, ...rest } = objectAt(value);
        const spec = {
          ...rest,
          ...(typeof affinity === "string" ? { affinity } : {}),
          ...(affinityClaimTime === undefined || affinityClaimTime === null ? {} : { affinityClaimTime }),
          strictAffinity: false,
        };
        return { ...head, metadata: { name: key.name, resourceVersion }, spec };
      }
      case "IPAMHandle":
        return { ...head, metadata: { name: key.name, resourceVersion }, spec: { ...objectAt(value), ...said } };
      case "BlockAffinity": {
        const labels = affinityLabels(said["node"] ?? "", said["cidr"]?.includes(":") === true ? 6 : 4, said["type"]);
        return {
          ...head,
          metadata: { name: key.name, resourceVersion, labels },
          spec: { ...objectAt(value), ...said },
        };
      }
      case "Node":
        return nodeOfCalico(key.name, value, resourceVersion);
      case "IPAMConfiguration":
        if (path === IPAM_CONFIG)
          return { ...head, metadata: { name: key.name, resourceVersion }, spec: settingsOf(objectAt(value)) };
    }
    const place = key.namespace === undefined ? { name: key.name } : { name: key.name, namespace: key.namespace };
    if (!isJsonObject(value)) return { ...head, metadata: { ...place, resourceVersion }, spec: text };
    const metadata = withoutNulls({ ...objectAt(value["metadata"]), ...place, resourceVersion });
    const whole = { ...value, ...head, metadata, spec: withoutNullFields(value["spec"] ?? {}) };
    return TIERED.has(kind) ? withOwnName(whole) : whole;
  })();
  return { path, object: object as unknown as Resource<K> };
}

/** Go writes an absent time as null. */
function withoutNulls(metadata: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(metadata).filter(([, value]) => value !== null));
}

/** The name that the annotation says, if it is the key's, or the key's after the name of the tier `default`. */
function withOwnName(object: JsonObject): JsonObject {
  const { annotations: kept, ...metadata } = objectAt(object["metadata"]);
  const { [METADATA]: stored, ...annotations } = objectAt(kept);
  const inKey = stringAt(metadata["name"]);
  const said = stringAt(objectAt(parsed(stringAt(stored)))["name"]);
  const tier = stringAt(objectAt(object["spec"])["tier"]);
  const short = inKey.startsWith(DEFAULT_TIER) ? inKey.slice(DEFAULT_TIER.length) : inKey;
  const name =
    said === inKey || (said === short && said !== "") ? said : tier === "" || tier === "default" ? short : inKey;
  const rest = Object.keys(annotations).length === 0 ? {} : { annotations };
  return { ...object, metadata: { ...metadata, ...(name === "" ? {} : { name }), ...rest } };
}

function parsed(text: string): JsonValue {
  try {
    // Affinities of old releases have no value.
    return text === "" ? {} : (JSON.parse(text) as JsonValue);
  } catch {
    return null;
  }
}

/** Whether the policy is under the key that older releases gave it. */
export function isUnderOldKey(path: string, { metadata }: { readonly metadata: ObjectMeta }): boolean {
  return path.endsWith(`/${DEFAULT_TIER}${metadata.name}`);
}

/** A deleted object whose last value is no longer kept. */
export function nameOnly<K extends Kind>(key: Key<K>, revision: string): Resource<K> {
  const { apiVersion, apiKind } = KINDS[key.kind];
  const metadata: ObjectMeta = {
    name: key.name,
    ...(key.namespace === undefined ? {} : { namespace: key.namespace }),
    resourceVersion: revision,
  };
  return { apiVersion, kind: apiKind, metadata, spec: {} } as unknown as Resource<K>;
}
