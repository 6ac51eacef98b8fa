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
import {
  NAMESPACE_LABEL,
  NAMESPACE_PREFIX,
  ORCHESTRATOR_LABEL,
  SERVICE_ACCOUNT_LABEL,
  SERVICE_ACCOUNT_PREFIX,
} from "../labels.ts";
import type { Resource } from "../resource.ts";
import { isJsonObject } from "../schema/json.ts";
import { parseList, SOURCES_ANNOTATION } from "../kubernetes/pod-annotations.ts";
import { sourcePrefixesOf } from "./source-prefixes.ts";
import { NO_SHAPES, type Shape, type Shapes } from "./shapes.ts";

const ADDRESSES_ANNOTATION = "cni.projectcalico.org/podIPs";
const ADDRESS_ANNOTATION = "cni.projectcalico.org/podIP";

/** Fails on labels that are not text and on malformed addresses; such a pod is not an endpoint, so it stays closed. */
export function endpointOfPod(
  resource: Resource<"Pod">,
  shapes: Pick<Shapes, "of"> = NO_SHAPES,
): Result<EndpointRow, ParseError> {
  const namespace = resource.metadata.namespace ?? "default";
  const { spec, status } = resource;
  const serviceAccount = spec?.serviceAccountName || spec?.serviceAccount || undefined;
  const ports: NamedPort[] = [];
  addPorts(spec?.containers, ports);
  addPorts(spec?.initContainers, ports);
  const { labels } = resource.metadata;
  const shape = shapes.of(shapeText(namespace, serviceAccount, labels, ports), () =>
    shapeOf(namespace, serviceAccount, labels, ports),
  );
  if (!shape.ok) return shape;
  const state =
    spec?.hostNetwork === true
      ? "host-network"
      : status?.phase === "Succeeded" || status?.phase === "Failed"
        ? "finished"
        : "live";
  const node = spec?.nodeName || undefined;
  const addresses = state === "live" && node !== undefined ? addressesOf(resource) : ok(NO_ADDRESSES);
  if (!addresses.ok) return addresses;
  return ok({
    uid: resource.metadata.uid,
    node,
    namespace,
    serviceAccount,
    labels: shape.value.labels,
    state,
    addresses: addresses.value.addresses,
    addressesFrom: addresses.value.addressesFrom,
    ports: shape.value.ports,
    ...sourcesOf(resource.metadata.annotations?.[SOURCES_ANNOTATION]),
  });
}

function sourcesOf(annotation: string | undefined): Pick<EndpointRow, "sources"> {
  const sources = annotation === undefined ? undefined : sourcePrefixesOf(parseList(annotation) ?? []);
  return sources === undefined ? {} : { sources };
}

/** All that `shapeOf` depends on, injective: each text with its length before it. */
function shapeText(
  namespace: string,
  serviceAccount: string | undefined,
  labels: unknown,
  ports: readonly NamedPort[],
): string {
  const whole = (): string => `?${JSON.stringify([namespace, serviceAccount, labels, ports])}`;
  if (labels !== undefined && !isJsonObject(labels)) return whole();
  let text = `${namespace.length} ${namespace}`;
  text += serviceAccount === undefined ? "-" : `${serviceAccount.length} ${serviceAccount}`;
  for (const { name, protocol, port } of ports) text += `:${name.length} ${name} ${protocol} ${port}`;
  for (const name in labels) {
    const value = labels[name];
    if (typeof value !== "string") return whole();
    text += `,${name.length} ${name}${value.length} ${value}`;
  }
  return text;
}

/** A pod cannot forge inherited labels, its namespace or its service account: names with our prefixes are dropped, our own are overwritten. */
function shapeOf(
  namespace: string,
  serviceAccount: string | undefined,
  own: unknown,
  ports: readonly NamedPort[],
): Result<Shape, ParseError> {
  const read = readLabels(own);
  if (!read.ok) return read;
  const labels = new Map<string, string>();
  for (const [name, value] of read.value)
    if (!name.startsWith(NAMESPACE_PREFIX) && !name.startsWith(SERVICE_ACCOUNT_PREFIX)) labels.set(name, value);
  labels.set(NAMESPACE_LABEL, namespace);
  labels.set(ORCHESTRATOR_LABEL, "k8s");
  if (serviceAccount === undefined) labels.delete(SERVICE_ACCOUNT_LABEL);
  else labels.set(SERVICE_ACCOUNT_LABEL, serviceAccount);
  return ok({ labels, ports });
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
  let texts = textsOfIps(resource.status?.podIPs);
  if (texts.length === 0) texts = [String(resource.status?.podIP ?? "")].filter(hasText);
  const addressesFrom = texts.length > 0 ? "status" : "annotation";
  if (texts.length === 0) texts = (many ?? one ?? "").split(",").filter(hasText);
  const addresses: Addr[] = [];
  for (const text of texts) {
    const trimmed = text.trim();
    const addr = parseAddr(trimmed.includes("/") ? trimmed.replace(/\/(32|128)$/, "") : trimmed);
    if (!addr.ok) return addr;
    if (!addresses.includes(addr.value)) addresses.push(addr.value);
  }
  return ok({ addresses, addressesFrom });
}

function textsOfIps(ips: unknown): string[] {
  const texts: string[] = [];
  if (Array.isArray(ips))
    for (const each of ips as readonly unknown[]) {
      const text = isJsonObject(each) ? String(each["ip"] ?? "") : "";
      if (text !== "") texts.push(text);
    }
  return texts;
}

function hasText(text: string): boolean {
  return text !== "";
}

/** Init containers count too, as sidecars are init containers. */
function addPorts(containers: unknown, into: NamedPort[]): void {
  if (!Array.isArray(containers)) return;
  for (const container of containers as readonly unknown[]) {
    const ports: unknown = isJsonObject(container) ? container["ports"] : undefined;
    if (!Array.isArray(ports)) continue;
    for (const each of ports as readonly unknown[]) {
      if (!isJsonObject(each)) continue;
      const { name, containerPort, protocol } = each;
      // Most have no name.
      if (typeof name !== "string" || name === "" || typeof containerPort !== "number") continue;
      const number = protocolByName(String(protocol ?? "TCP"));
      if (number !== undefined) into.push({ name, protocol: number, port: containerPort });
    }
  }
}
