/** Services: what translation needs of Services, EndpointSlices and Endpoints, which are untrusted: a malformed one has no address and no backend. */
import {
  arrayAt,
  fieldAt,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  objectAt,
  stringAt,
} from "../model/schema/json.ts";
import { type Addr, parseAddr } from "../net/addr.ts";
import { type Protocol, TCP } from "../net/protocol.ts";
import { protocolWithPorts } from "./traffic.ts";

export interface ServicePort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** A number, or the name of a port of the backend. */
  readonly target: number | string;
  readonly nodePort: number | undefined;
}

/** How the packet came to be translated. */
export type Via = "cluster address" | "external address" | "load balancer's address" | "node port" | "host port";

export interface Service {
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly { readonly addr: Addr; readonly via: Via }[];
  readonly ports: readonly ServicePort[];
  /** undefined: its endpoints are maintained by another process. */
  readonly selector: Readonly<Record<string, string>> | undefined;
  /** Headless: its name resolves to its backends; it has no address of its own. */
  readonly isHeadless: boolean;
  /** The external name of a Service of type ExternalName. */
  readonly externalName: string | undefined;
  /** Packets from outside keep their source. */
  readonly keepsSource: boolean;
  readonly takesUnready: boolean;
}

/** Endpoints of one Service, with the ports that they listen on. */
export interface Endpoints {
  readonly namespace: string;
  readonly service: string;
  readonly ports: readonly { readonly name: string; readonly protocol: Protocol; readonly port: number }[];
  readonly endpoints: readonly {
    readonly addresses: readonly Addr[];
    readonly pod: string | undefined;
    readonly isReady: boolean;
  }[];
}

export function serviceOf(object: JsonObject): Service {
  const metadata = objectAt(object["metadata"]);
  const spec = objectAt(object["spec"]);
  const clusterIps = [...arrayAt(spec["clusterIPs"]), spec["clusterIP"] ?? ""].map(stringAt);
  const selector = objectAt(spec["selector"]);
  const given = (texts: readonly string[], via: Via): { addr: Addr; via: Via }[] =>
    addressesIn(texts).map((addr) => ({ addr, via }));
  return {
    namespace: stringAt(metadata["namespace"]) || "default",
    name: stringAt(metadata["name"]),
    addresses: [
      ...given(clusterIps, "cluster address"),
      ...given(arrayAt(spec["externalIPs"]).map(stringAt), "external address"),
      ...given(
        arrayAt(fieldAt(object, "status", "loadBalancer", "ingress")).map((entry) => stringAt(objectAt(entry)["ip"])),
        "load balancer's address",
      ),
    ],
    ports: arrayAt(spec["ports"]).filter(isJsonObject).flatMap(servicePort),
    selector:
      Object.keys(selector).length === 0
        ? undefined
        : Object.fromEntries(Object.entries(selector).map(([key, value]) => [key, stringAt(value)])),
    isHeadless: clusterIps.includes("None"),
    externalName: spec["type"] === "ExternalName" ? stringAt(spec["externalName"]) : undefined,
    keepsSource: spec["externalTrafficPolicy"] === "Local",
    takesUnready: spec["publishNotReadyAddresses"] === true,
  };
}

export function addressesIn(texts: readonly string[]): Addr[] {
  return [...new Set(texts.map((text) => parseAddr(text)).flatMap((addr) => (addr.ok ? [addr.value] : [])))];
}

/** TCP when it is not given, or none that has ports. */
export function protocolOf(value: JsonValue | undefined): Protocol {
  return protocolWithPorts(stringAt(value) || "TCP") ?? TCP;
}

function servicePort({ name, protocol, port, targetPort, nodePort }: JsonObject): ServicePort[] {
  if (typeof port !== "number") return [];
  // Left out, it is the port itself. Text is a name, even "80".
  const target =
    typeof targetPort === "number" && targetPort !== 0
      ? targetPort
      : typeof targetPort === "string" && targetPort !== ""
        ? targetPort
        : port;
  return [
    {
      name: stringAt(name),
      protocol: protocolOf(protocol),
      port,
      target,
      nodePort: typeof nodePort === "number" && nodePort !== 0 ? nodePort : undefined,
    },
  ];
}

/** Of an EndpointSlice (discovery.k8s.io/v1). */
export function endpointSliceOf(object: JsonObject): Endpoints {
  return {
    namespace: stringAt(fieldAt(object, "metadata", "namespace")) || "default",
    service: stringAt(fieldAt(object, "metadata", "labels", "kubernetes.io/service-name")),
    ports: arrayAt(object["ports"]).filter(isJsonObject).flatMap(endpointPort),
    endpoints: arrayAt(object["endpoints"])
      .filter(isJsonObject)
      .map((endpoint) => ({
        addresses: addressesIn(arrayAt(endpoint["addresses"]).map(stringAt)),
        pod: podIn(endpoint["targetRef"]),
        isReady: fieldAt(endpoint, "conditions", "ready") !== false,
      })),
  };
}

/** Of an Endpoints object (v1), which has the name of its Service. */
export function endpointsOf(object: JsonObject): Endpoints[] {
  return arrayAt(object["subsets"])
    .filter(isJsonObject)
    .map((subset) => {
      const read = (list: JsonValue | undefined, isReady: boolean): Endpoints["endpoints"] =>
        arrayAt(list)
          .filter(isJsonObject)
          .map((entry) => ({
            addresses: addressesIn([stringAt(entry["ip"])]),
            pod: podIn(entry["targetRef"]),
            isReady,
          }));
      return {
        namespace: stringAt(fieldAt(object, "metadata", "namespace")) || "default",
        service: stringAt(fieldAt(object, "metadata", "name")),
        ports: arrayAt(subset["ports"]).filter(isJsonObject).flatMap(endpointPort),
        endpoints: [...read(subset["addresses"], true), ...read(subset["notReadyAddresses"], false)],
      };
    });
}

function podIn(reference: JsonValue | undefined): string | undefined {
  return objectAt(reference)["kind"] === "Pod" ? stringAt(objectAt(reference)["name"]) : undefined;
}

function endpointPort({ name, protocol, port }: JsonObject): Endpoints["ports"] {
  return typeof port === "number" ? [{ name: stringAt(name), protocol: protocolOf(protocol), port }] : [];
}
