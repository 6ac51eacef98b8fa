/**
 * Node: a Calico Node, as etcd holds it where there is no Kubernetes, as the Kubernetes Node that the product reads, and back. The stored
 * object stays beside it, in `calico`, so that a change of annotations changes nothing else.
 * Upstream: libcalico-go/lib/apis/internalapi/node.go, lib/backend/k8s/resources/node.go.
 */
import { ADDRESS_ANNOTATIONS } from "../../model/convert/node.ts";
import { arrayAt, isJsonObject, type JsonObject, type JsonValue, objectAt, stringAt } from "../../model/schema/json.ts";

/** Annotations of a Kubernetes Node, and the field of `spec.bgp` that has the value in a Calico Node. */
const BGP_FIELDS: readonly (readonly [string, string])[] = [
  [ADDRESS_ANNOTATIONS[4], "ipv4Address"],
  [ADDRESS_ANNOTATIONS[6], "ipv6Address"],
  ["projectcalico.org/IPv4IPIPTunnelAddr", "ipv4IPIPTunnelAddr"],
  ["projectcalico.org/RouteReflectorClusterID", "routeReflectorClusterID"],
];

/** A Calico Node that is stored in its own right, if the Node is one. */
export function calicoNodeOf(node: object): JsonObject | undefined {
  const calico = (node as { readonly calico?: unknown }).calico;
  return isJsonObject(calico) ? calico : undefined;
}

export function nodeOfCalico(name: string, value: JsonValue, resourceVersion: string): JsonObject {
  const stored = objectAt(value);
  const spec = objectAt(stored["spec"]);
  const bgp = objectAt(spec["bgp"]);
  const metadata = Object.fromEntries(
    Object.entries(objectAt(stored["metadata"])).filter(([, field]) => field !== null),
  ) as JsonObject;
  const said = BGP_FIELDS.flatMap(([annotation, field]) => {
    const text = stringAt(bgp[field]);
    return text === "" ? [] : [[annotation, text] as const];
  });
  const annotations = { ...objectAt(metadata["annotations"]), ...Object.fromEntries(said) };
  const addresses = arrayAt(spec["addresses"])
    .map(objectAt)
    .filter(({ type }) => type === "InternalIP" || type === "ExternalIP")
    .map(({ address, type }) => ({ address: stringAt(address), type: stringAt(type) }));
  const podCIDRs = objectAt(stored["status"])["podCIDRs"];
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { ...metadata, name, annotations, resourceVersion },
    spec: podCIDRs === undefined ? {} : { podCIDRs },
    status: { addresses },
    calico: { ...stored, metadata: { ...metadata, name, resourceVersion } },
  };
}

export function nodeToCalico(node: JsonObject): JsonObject {
  const stored = objectAt(node["calico"]);
  const metadata = objectAt(node["metadata"]);
  const { annotations: all, ...rest } = metadata;
  const spec = objectAt(stored["spec"]);
  const bgp = { ...objectAt(spec["bgp"]) };
  const annotations: JsonObject = { ...objectAt(all) };
  for (const [annotation, field] of BGP_FIELDS) {
    const text = stringAt(annotations[annotation]);
    delete annotations[annotation];
    if (text !== "") bgp[field] = text;
    else delete bgp[field];
  }
  const kept = Object.keys(annotations).length === 0 ? {} : { annotations };
  const { bgp: _, ...others } = spec;
  return {
    ...stored,
    apiVersion: "projectcalico.org/v3",
    kind: "Node",
    metadata: { ...rest, ...kept },
    spec: { ...others, ...(Object.keys(bgp).length === 0 ? {} : { bgp }) },
  };
}
