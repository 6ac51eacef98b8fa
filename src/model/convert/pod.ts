/**
 * Pod: converts a Pod to a row with what policy needs: its labels (its own and those we set), addresses and named ports.
 *
 * Addresses come from `status.podIPs`, else `status.podIP`, else the annotations that the CNI plugin writes. A pod that has finished,
 * was torn down, uses its host's network or is not scheduled has none, whatever its status still says.
 * Only the kubelet writes the status; a pod's creator can write any annotation, so those are claims, to be checked against IPAM's blocks.
 */
import { fail, ok, type ParseError, type Result } from "../../lib/result.ts";
import { type Addr, parseAddr } from "../../net/addr.ts";
import { protocolByName } from "../../net/protocol.ts";
import type { EndpointRow, NamedPort } from "../endpoint.ts";
import { type Fields, objectsIn } from "../kubernetes/fields.ts";
import {
  NAMESPACE_LABEL,
  NAMESPACE_PREFIX,
  ORCHESTRATOR_LABEL,
  SERVICE_ACCOUNT_LABEL,
  SERVICE_ACCOUNT_PREFIX,
} from "../labels.ts";
import type { Resource } from "../resource.ts";
import { isJsonObject } from "../schema/json.ts";

const ADDRESSES_ANNOTATION = "cni.projectcalico.org/podIPs";
const ADDRESS_ANNOTATION = "cni.projectcalico.org/podIP";

/** Fails on labels that are not text and on malformed addresses; such a pod is not an endpoint, so it stays closed. */
export function endpointOfPod(resource: Resource<"Pod">): Result<EndpointRow, ParseError> {
  const namespace = resource.metadata.namespace ?? "default";
  const { spec, status } = resource;
  const serviceAccount = spec?.serviceAccountName || spec?.serviceAccount || undefined;
  const labels = ownLabels(resource, namespace, serviceAccount);
  if (!labels.ok) return labels;
  const state =
    spec?.hostNetwork === true
      ? "host-network"
      : status?.phase === "Succeeded" || status?.phase === "Failed"
        ? "finished"
        : "live";
  const node = spec?.nodeName || undefined;
  const addresses = state === "live" && node !== undefined ? addressesOf(resource) : ok(NO_ADDRESSES);
  if (!addresses.ok) return addresses;
  const ports = [...objectsIn(spec?.containers), ...objectsIn(spec?.initContainers)].flatMap(namedPorts);
  return ok({
    uid: resource.metadata.uid,
    node,
    namespace,
    serviceAccount,
    labels: labels.value,
    state,
    ...addresses.value,
    ports,
  });
}

/** A pod cannot forge inherited labels, its namespace or its service account: names with our prefixes are dropped, our own are overwritten. */
function ownLabels(
  resource: Resource<"Pod">,
  namespace: string,
  serviceAccount: string | undefined,
): Result<Map<string, string>, ParseError> {
  const read = readLabels(resource.metadata.labels);
  if (!read.ok) return read;
  const labels = new Map<string, string>();
  for (const [name, value] of read.value)
    if (!name.startsWith(NAMESPACE_PREFIX) && !name.startsWith(SERVICE_ACCOUNT_PREFIX)) labels.set(name, value);
  labels.set(NAMESPACE_LABEL, namespace);
  labels.set(ORCHESTRATOR_LABEL, "k8s");
  if (serviceAccount === undefined) labels.delete(SERVICE_ACCOUNT_LABEL);
  else labels.set(SERVICE_ACCOUNT_LABEL, serviceAccount);
  return ok(labels);
}

function readLabels(labels: unknown): Result<readonly (readonly [string, string])[], ParseError> {
  if (labels === undefined || labels === null) return ok([]);
  if (!isJsonObject(labels))
    return fail({ what: "labels", found: JSON.stringify(labels), wanted: "must be an object of strings" });
  const pairs: [string, string][] = [];
  for (const [name, value] of Object.entries(labels)) {
    if (typeof value !== "string")
      return fail({ what: `value of label ${name}`, found: JSON.stringify(value), wanted: "must be a string" });
    pairs.push([name, value]);
  }
  return ok(pairs);
}

type PodAddresses = Pick<EndpointRow, "addresses" | "addressesFrom">;
const NO_ADDRESSES: PodAddresses = { addresses: [], addressesFrom: "status" };

/** An empty annotation means that the plugin has torn the pod's network down, although the Pod still exists. */
function addressesOf(resource: Resource<"Pod">): Result<PodAddresses, ParseError> {
  const annotations = resource.metadata.annotations ?? {};
  const many = annotations[ADDRESSES_ANNOTATION];
  const one = annotations[ADDRESS_ANNOTATION];
  if (many === "" || one === "") return ok(NO_ADDRESSES);
  const reported = objectsIn(resource.status?.podIPs).map(({ ip }) => String(ip ?? ""));
  const [inStatus, inAnnotation] = [
    [reported, [String(resource.status?.podIP ?? "")]],
    [(many ?? one ?? "").split(",")],
  ].map(firstWithText);
  const texts = inStatus ?? inAnnotation ?? [];
  const addresses = new Set<Addr>();
  for (const text of texts) {
    const addr = parseAddr(text.trim().replace(/\/(32|128)$/, ""));
    if (!addr.ok) return addr;
    addresses.add(addr.value);
  }
  return ok({ addresses: [...addresses], addressesFrom: inStatus === undefined ? "annotation" : "status" });
}

function firstWithText(lists: readonly (readonly string[])[]): readonly string[] | undefined {
  return lists.map((list) => list.filter((text) => text !== "")).find((list) => list.length > 0);
}

/** Init containers count too, as sidecars are init containers. */
function namedPorts(container: Fields): NamedPort[] {
  return objectsIn(container["ports"]).flatMap(({ name, containerPort, protocol }) => {
    const number = protocolByName(String(protocol ?? "TCP"));
    if (typeof name !== "string" || name === "" || number === undefined || typeof containerPort !== "number") return [];
    return [{ name, protocol: number, port: containerPort }];
  });
}
