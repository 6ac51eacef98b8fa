/**
 * Classic: Calico's kinds as `crd.projectcalico.org/v1`, which most clusters hold. What its users wrote as metadata is JSON in the annotation
 * `projectcalico.org/metadata`; only labels and annotations of Calico's own are where Kubernetes has them. A uid is another one, made from
 * the server's, so that no two objects have the same.
 * Upstream: libcalico-go/lib/backend/k8s/resources/{resources,ipam_affinity_v1,ipam_config_v3}.go, conversion/conversion.go.
 */
import { TIERED_KINDS } from "../../model/kinds/validation/tier-removal.ts";
import type { Key } from "../../model/key.ts";
import { KINDS, type Kind } from "../../model/kind.ts";
import { arrayAt, isJsonObject, type JsonObject, type JsonValue, objectAt, stringAt } from "../../model/schema/json.ts";
import type { Codec } from "./codec.ts";
import { resourceOf } from "./decode.ts";

const CLASSIC_VERSION = "crd.projectcalico.org/v1";
const NATIVE_VERSION = "projectcalico.org/v3";
const METADATA = "projectcalico.org/metadata";
/** Older releases keep policies of the tier `default` as `default.NAME`. */
const DEFAULT_TIER = "default.";

export const CLASSIC: Codec = {
  place: (kind) => ({
    apiVersion: CLASSIC_VERSION,
    plural: kind === "IPAMConfiguration" ? "ipamconfigs" : KINDS[kind].plural,
  }),
  names: ({ kind, name }: Key) => (isTiered(kind) ? [name, `${DEFAULT_TIER}${name}`] : [name]),
  encode: (kind, object, name) => encoded(kind, object as unknown as JsonObject, name),
  decode: (kind, value, operation) => {
    const object = resourceOf(kind, value, operation);
    return decoded(kind, object as unknown as JsonObject) as unknown as typeof object;
  },
  uid: reversed,
  hasLabel: isOurs,
  hasAnnotations: false,
  hasStatus: false,
};

function isTiered(kind: Kind): boolean {
  return TIERED_KINDS.some((tiered) => tiered === kind);
}

/** What upstream leaves where Kubernetes has it. */
function isOurs(name: string): boolean {
  return name.includes("projectcalico.org/") || name.includes("operator.tigera.io/");
}

function encoded(kind: Kind, object: JsonObject, name: string): JsonObject {
  const metadata = objectAt(object["metadata"]);
  const { namespace, resourceVersion, uid, labels, annotations } = metadata;
  const ours = (fields: JsonValue | undefined): JsonObject =>
    Object.fromEntries(Object.entries(objectAt(fields)).filter(([field]) => isOurs(field)));
  const ownLabels = ours(labels);
  return {
    ...object,
    apiVersion: CLASSIC_VERSION,
    kind: kind === "IPAMConfiguration" ? "IPAMConfig" : KINDS[kind].apiKind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(uid === undefined ? {} : { uid: reversed(stringAt(uid)) }),
      ...(Object.keys(ownLabels).length === 0 ? {} : { labels: ownLabels }),
      annotations: { ...ours(annotations), [METADATA]: JSON.stringify(writtenMetadata(kind, metadata)) },
    },
    ...(object["spec"] === undefined ? {} : { spec: encodedSpec(kind, objectAt(object["spec"])) }),
  };
}

/** In upstream's order. Where Kubernetes has the value, it is not here too. */
function writtenMetadata(kind: Kind, metadata: JsonObject): JsonObject {
  const {
    name,
    namespace: _,
    resourceVersion: __,
    uid: ___,
    generation: ____,
    managedFields: _____,
    creationTimestamp = null,
    labels,
    annotations,
    ownerReferences,
    ...rest
  } = metadata;
  const owners = arrayAt(ownerReferences).map((owner) => ownedBy(objectAt(owner), [NATIVE_VERSION], CLASSIC_VERSION));
  return {
    ...(isTiered(kind) && name !== undefined ? { name } : {}),
    creationTimestamp,
    ...(isEmpty(labels) ? {} : { labels: objectAt(labels) }),
    ...(isEmpty(annotations) ? {} : { annotations: objectAt(annotations) }),
    ...(owners.length === 0 ? {} : { ownerReferences: owners }),
    ...rest,
  };
}

/** An owner in the other group. */
function ownedBy(owner: JsonObject, from: readonly string[], to: string): JsonObject {
  if (!from.includes(stringAt(owner["apiVersion"]))) return owner;
  return { ...owner, apiVersion: to, uid: reversed(stringAt(owner["uid"])) };
}

/** Fields that the older group has in another form, or demands. */
function encodedSpec(kind: Kind, spec: JsonObject): JsonObject {
  switch (kind) {
    case "BlockAffinity":
      return { ...spec, deleted: String(spec["deleted"] ?? false) };
    case "IPAMBlock":
      return { ...spec, deleted: spec["deleted"] ?? false, strictAffinity: spec["strictAffinity"] ?? false };
    case "IPAMHandle":
      return { ...spec, deleted: spec["deleted"] ?? false };
    default:
      return spec;
  }
}

function decoded(kind: Kind, object: JsonObject): JsonObject {
  const spec = object["spec"];
  const isAffinity = kind === "BlockAffinity" && isJsonObject(spec);
  return {
    ...object,
    metadata: decodedMetadata(kind, object),
    ...(isAffinity ? { spec: { ...spec, deleted: String(spec["deleted"]).toLowerCase() === "true" } } : {}),
  };
}

function decodedMetadata(kind: Kind, object: JsonObject): JsonObject {
  const { managedFields: _, ...metadata } = objectAt(object["metadata"]);
  const uid = metadata["uid"] === undefined ? {} : { uid: reversed(stringAt(metadata["uid"])) };
  const { [METADATA]: text, ...ours } = objectAt(metadata["annotations"]);
  const written = parsed(stringAt(text));
  // Somebody made it without upstream's client.
  if (written === undefined) return { ...metadata, ...uid };
  const { name, namespace: __, resourceVersion: ___, uid: ____, ...rest } = written;
  const owners = arrayAt(written["ownerReferences"]).map((owner) =>
    ownedBy(objectAt(owner), [CLASSIC_VERSION, NATIVE_VERSION], NATIVE_VERSION),
  );
  const labels = { ...objectAt(metadata["labels"]), ...objectAt(written["labels"]) };
  const annotations = { ...ours, ...objectAt(written["annotations"]) };
  const { labels: _____, annotations: ______, ...server } = metadata;
  return {
    ...server,
    ...rest,
    name: stringAt(name) === "" ? nameOf(kind, object) : stringAt(name),
    ...uid,
    creationTimestamp: rest["creationTimestamp"] ?? metadata["creationTimestamp"] ?? null,
    ...(isEmpty(labels) ? {} : { labels }),
    ...(isEmpty(annotations) ? {} : { annotations }),
    ...(owners.length === 0 ? {} : { ownerReferences: owners }),
  };
}

function nameOf(kind: Kind, object: JsonObject): string {
  const name = stringAt(objectAt(object["metadata"])["name"]);
  const tier = stringAt(objectAt(object["spec"])["tier"]);
  const isShort = isTiered(kind) && (tier === "" || tier === "default") && name.startsWith(DEFAULT_TIER);
  return isShort ? name.slice(DEFAULT_TIER.length) : name;
}

/** undefined: there is none, or nobody can read it. Go writes an absent time as null. */
function parsed(text: string): JsonObject | undefined {
  if (text === "") return undefined;
  try {
    const value = JSON.parse(text) as JsonValue;
    if (!isJsonObject(value)) return undefined;
    return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));
  } catch {
    return undefined;
  }
}

function isEmpty(value: JsonValue | undefined): boolean {
  return Object.keys(objectAt(value)).length === 0;
}

/** The bits of each byte reversed, but of those with a UUID's version and variant; the same twice is the first. Any other text stays. */
function reversed(uid: string): string {
  const hex = uid.replaceAll("-", "");
  if (!/^[0-9a-f]{32}$/i.test(hex)) return uid;
  let text = "";
  for (let i = 0; i < hex.length; i += 2) {
    const byte = Number.parseInt(hex.slice(i, i + 2), 16);
    const bits = byte.toString(2).padStart(8, "0");
    const other = i === 12 || i === 16 ? byte : Number.parseInt([...bits].reverse().join(""), 2);
    text += other.toString(16).padStart(2, "0");
  }
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
