/**
 * Keys: under which etcd keys the objects of a kind are, which object a key names, and where a new object goes; upstream's scheme.
 *
 * Resources: `/calico/resources/v3/projectcalico.org/PLURAL/[NAMESPACE/]NAME`. IPAM: `/calico/ipam/v2/…`, by block, node and handle.
 * Kubernetes' kinds, which upstream does not keep in etcd, are beside the resources under their own group (`core` for v1): on a cluster
 * without Kubernetes there are none.
 * Upstream: libcalico-go/lib/backend/model/{resource,block,block_affinity,ipam_handle,ipam_config}.go.
 */
import { affinityName, cidrName, isCutName } from "../../model/affinity.ts";
import type { Key } from "../../model/key.ts";
import { KINDS, type Kind } from "../../model/kind.ts";
import { keyOf, type Resource } from "../../model/resource.ts";
import { parsePrefix, type Prefix, prefixFamily } from "../../net/prefix.ts";

const RESOURCES = "/calico/resources/v3";
const IPAM = "/calico/ipam/v2";
const BLOCKS = `${IPAM}/assignment/`;
const HANDLES = `${IPAM}/handle/`;
/** Upstream's IPAM reads its settings here, and its calicoctl those of the resource IPAMConfiguration. */
export const IPAM_CONFIG = `${IPAM}/config`;
const AFFINITY_TYPES = ["host", "virtual"] as const;

/** A range of keys: from `from` up to, without it, `end`. */
export interface Span {
  readonly from: string;
  readonly end: Uint8Array;
}

/** What all keys of the kind (in the namespace) are in; there may be others. */
export function spanOf(kind: Kind, namespace?: string): Span {
  switch (kind) {
    case "IPAMBlock":
      return below(BLOCKS);
    case "IPAMHandle":
      return below(HANDLES);
    case "BlockAffinity":
      return { from: `${IPAM}/host/`, end: prefixEnd(`${IPAM}/virtual/`) };
    default:
      return below(resourcePrefix(kind, namespace));
  }
}

function below(prefix: string): Span {
  return { from: prefix, end: prefixEnd(prefix) };
}

function resourcePrefix(kind: Kind, namespace?: string): string {
  const { apiVersion, plural, namespaced } = KINDS[kind];
  const version = kind === "Node" ? "projectcalico.org/v3" : apiVersion;
  const group = version.includes("/") ? version.slice(0, version.indexOf("/")) : "core";
  return `${RESOURCES}/${group}/${plural}/${namespaced && namespace !== undefined ? `${namespace}/` : ""}`;
}

/** Kinds whose objects of the tier `default` older releases keep as `default.NAME`. */
export const TIERED: ReadonlySet<Kind> = new Set<Kind>([
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
]);
export const DEFAULT_TIER = "default.";

/**
 * The keys under which the object may be, by its name; the first that exists is its own. undefined: the name does not say, so all objects of
 * the kind have to be looked at.
 */
export function pathsOf(key: Key): readonly string[] | undefined {
  const { kind, namespace, name } = key;
  if (name.includes("/") || namespace?.includes("/") === true) return [];
  switch (kind) {
    case "IPAMBlock": {
      const prefix = prefixOfName(name);
      return prefix === undefined ? [] : [blockPath(prefix)];
    }
    case "IPAMHandle":
      return [HANDLES + name];
    case "BlockAffinity":
      return isCutName(name) ? undefined : affinityPaths(name);
    case "IPAMConfiguration":
      return name === "default" ? [resourcePrefix(kind) + name, IPAM_CONFIG] : [resourcePrefix(kind) + name];
    default: {
      const prefix = resourcePrefix(kind, namespace);
      return TIERED.has(kind) ? [prefix + name, `${prefix}${DEFAULT_TIER}${name}`] : [prefix + name];
    }
  }
}

/** Where a new object goes; undefined when it cannot be kept: a part of the key is missing or contains a slash. */
export function placeOfObject(kind: Kind, object: Resource): string | undefined {
  const spec = (object as { readonly spec?: Readonly<Record<string, unknown>> }).spec ?? {};
  switch (kind) {
    case "IPAMBlock": {
      const prefix = prefixIn(spec["cidr"]);
      return prefix === undefined ? undefined : blockPath(prefix);
    }
    case "IPAMHandle":
      return isPart(spec["handleID"]) ? HANDLES + spec["handleID"] : undefined;
    case "BlockAffinity": {
      const prefix = prefixIn(spec["cidr"]);
      const { node, type = "host" } = spec;
      const isKnown = AFFINITY_TYPES.some((each) => each === type);
      return prefix === undefined || !isPart(node) || !isKnown ? undefined : affinityPath(String(type), node, prefix);
    }
    default: {
      const { name, namespace } = keyOf(kind, object);
      if (!isPart(name) || (namespace !== undefined && !isPart(namespace))) return undefined;
      return resourcePrefix(kind, namespace) + name;
    }
  }
}

/** What a key says; of a policy the name may be another, which its value says. undefined when it is not one of the kind. */
export interface PathParts<K extends Kind> {
  readonly key: Key<K>;
  /** Of a handle its text, of a block and an affinity what only the key says. */
  readonly spec: Readonly<Record<string, string>>;
}

export function parsePath<K extends Kind>(kind: K, path: string): PathParts<K> | undefined {
  switch (kind) {
    case "IPAMBlock": {
      const [, text] = /^\/calico\/ipam\/v2\/assignment\/ipv[46]\/block\/([^/]+)$/.exec(path) ?? [];
      const prefix = prefixOfPart(text);
      return prefix === undefined ? undefined : parts(kind, undefined, cidrName(prefix), {});
    }
    case "IPAMHandle": {
      const handle = handleOfPath(path);
      return handle === undefined ? undefined : parts(kind, undefined, handle.name, { handleID: handle.id });
    }
    case "BlockAffinity": {
      const [, type = "", node = "", text] =
        /^\/calico\/ipam\/v2\/(host|virtual)\/([^/]+)\/ipv[46]\/block\/([^/]+)$/.exec(path) ?? [];
      const prefix = prefixOfPart(text);
      if (prefix === undefined) return undefined;
      return parts(kind, undefined, affinityName(node, prefix), { type, node, cidr: prefix });
    }
    case "IPAMConfiguration":
      if (path === IPAM_CONFIG) return parts(kind, undefined, "default", {});
  }
  const prefix = resourcePrefix(kind);
  if (!path.startsWith(prefix)) return undefined;
  const [first = "", second, ...more] = path.slice(prefix.length).split("/");
  if (first === "" || second === "" || more.length > 0 || (second !== undefined) !== KINDS[kind].namespaced)
    return undefined;
  return second === undefined ? parts(kind, undefined, first, {}) : parts(kind, first, second, {});
}

function parts<K extends Kind>(
  kind: K,
  namespace: string | undefined,
  name: string,
  spec: Readonly<Record<string, string>>,
): PathParts<K> {
  return { key: { kind, namespace, name }, spec };
}

/** A handle, and its name as an object: lower case, and dashes for what a name may not contain. */
export function handleOfPath(path: string): { readonly id: string; readonly name: string } | undefined {
  const id = path.startsWith(HANDLES) ? path.slice(HANDLES.length) : "";
  return isPart(id) ? { id, name: id.toLowerCase().replace(/[^a-z0-9.-]/g, "-") } : undefined;
}

/** Whether the text is one part of a key. */
function isPart(text: unknown): text is string {
  return typeof text === "string" && text !== "" && !text.includes("/");
}

function prefixIn(value: unknown): Prefix | undefined {
  const parsed = typeof value === "string" ? parsePrefix(value) : undefined;
  return parsed?.ok === true ? parsed.value : undefined;
}

/** `10.0.0.0-26`, `fd00::-122`: how a key spells it. */
function prefixOfPart(text: string | undefined): Prefix | undefined {
  return prefixIn(text?.replace("-", "/"));
}

/** `10-0-0-0-26`, `fd00---122`: how a name spells it. */
function prefixOfName(name: string): Prefix | undefined {
  const at = name.lastIndexOf("-");
  const [addr, length] = [name.slice(0, at), name.slice(at + 1)];
  const prefix = prefixIn(
    `${addr.replaceAll("-", addr.split("-").length === 4 && /^[\d-]+$/.test(addr) ? "." : ":")}/${length}`,
  );
  return prefix ?? prefixIn(`${addr.replaceAll("-", ":")}/${length}`);
}

function blockPath(prefix: Prefix): string {
  return `${BLOCKS}ipv${prefixFamily(prefix)}/block/${prefix.replace("/", "-")}`;
}

function affinityPath(type: string, node: string, prefix: Prefix): string {
  return `${IPAM}/${type}/${node}/ipv${prefixFamily(prefix)}/block/${prefix.replace("/", "-")}`;
}

/** A name is the node's, a dash, and the block's: where both contain dashes, more than one reading is possible. */
function affinityPaths(name: string): readonly string[] {
  const paths: string[] = [];
  for (let at = name.indexOf("-"); at > 0; at = name.indexOf("-", at + 1)) {
    const [node, cidr] = [name.slice(0, at), name.slice(at + 1)];
    const prefix = prefixOfName(cidr);
    if (prefix === undefined || cidrName(prefix) !== cidr) continue;
    for (const type of AFFINITY_TYPES) paths.push(affinityPath(type, node, prefix));
  }
  return paths;
}

/** The end of the range of keys that begin with the prefix: the prefix with its last byte one higher. */
export function prefixEnd(prefix: string): Uint8Array {
  const bytes = new TextEncoder().encode(prefix);
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) + 1;
  return bytes;
}
