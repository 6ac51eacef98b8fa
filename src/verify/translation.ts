/**
 * Translation: addresses that are translated before policy sees the packet (POL-22): a Service's own, a node port, a host port; and where the
 * packet may come out. Source: https://kubernetes.io/docs/reference/networking/virtual-ips/
 */
import type { Addr } from "../net/addr.ts";
import { TCP } from "../net/protocol.ts";
import { addressesIn, type Endpoints, protocolOf, type Service, type ServicePort, type Via } from "./services.ts";
import { hasPorts, protocolWithPorts, type Traffic } from "./traffic.ts";

/** What a Service may lead to: a pod of the cluster as translation sees it. */
export interface Backend {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly Addr[];
  readonly ports: readonly {
    readonly name?: string;
    readonly containerPort: number;
    readonly hostPort?: number;
    readonly hostIP?: string;
    readonly protocol?: string;
  }[];
  readonly isReady: boolean;
  /** Addresses of its node: where its host ports are. */
  readonly nodeAddresses: readonly Addr[];
}

export interface World {
  readonly services: readonly Service[];
  readonly endpoints: readonly Endpoints[];
  readonly pods: readonly Backend[];
  readonly nodeAddresses: ReadonlySet<Addr>;
}

/** One place where the packet may come out. */
export interface Outlet {
  /** undefined: the address is not a pod's. */
  readonly pod: { readonly namespace: string; readonly name: string } | undefined;
  readonly addresses: readonly Addr[];
  readonly traffic: Traffic;
  /** What was asked for, as the Service has it. */
  readonly asked: Traffic;
}

export interface Translation {
  /** undefined for a host port. */
  readonly service: Service | undefined;
  readonly via: Via;
  readonly outlets: readonly Outlet[];
  /** Why there is no outlet, for the operator. */
  readonly problem: string | undefined;
}

/** The translation of an address, or undefined when it is none that is translated. Without `traffic`, of every port. */
export function translationOf(addr: Addr, traffic: Traffic | undefined, world: World): Translation | undefined {
  for (const service of world.services) {
    const entry = service.addresses.find((each) => each.addr === addr);
    // A node's address may also be a Service's; then only the Service's ports are translated by it.
    if (entry === undefined || (world.nodeAddresses.has(addr) && !takes(service.ports, traffic))) continue;
    return throughService(service, entry.via, traffic, world, addr);
  }
  return world.nodeAddresses.has(addr) ? throughNode(addr, traffic, world) : undefined;
}

/** What is translated at a node's address: `30080/tcp to Service a/b`. */
export function nodePorts(addr: Addr, world: World): string[] {
  const services = world.services.flatMap((service) =>
    service.ports.flatMap(({ nodePort, protocol }) =>
      nodePort === undefined ? [] : [{ protocol, port: nodePort, to: `Service ${service.namespace}/${service.name}` }],
    ),
  );
  const hosts = world.pods
    .filter(({ nodeAddresses }) => nodeAddresses.includes(addr))
    .flatMap((pod) =>
      hostPorts(pod, addr).map(({ hostPort = 0, protocol }) => ({
        protocol: protocolOf(protocol ?? ""),
        port: hostPort,
        to: `pod ${pod.namespace}/${pod.name}`,
      })),
    );
  return [...services, ...hosts].map(
    ({ protocol, port, to }) => `${port}/${PROTOCOL_NAMES.get(protocol) ?? protocol} to ${to}`,
  );
}

const PROTOCOL_NAMES = new Map(["tcp", "udp", "sctp"].map((name) => [protocolWithPorts(name), name]));

function takes(ports: readonly ServicePort[], traffic: Traffic | undefined): boolean {
  return (
    traffic !== undefined &&
    hasPorts(traffic) &&
    ports.some(({ port, protocol }) => port === traffic.from && protocol === traffic.protocol)
  );
}

/** The pods behind a Service, by the name of the Service or one of its addresses. */
export function throughService(
  service: Service,
  via: Via,
  traffic: Traffic | undefined,
  world: World,
  addr?: Addr,
): Translation {
  const label = `Service ${service.namespace}/${service.name}`;
  if (service.externalName !== undefined)
    return {
      service,
      via,
      outlets: [],
      problem: `${label} stands for the name ${service.externalName}: ask about that name's address`,
    };
  const asked = service.ports.filter(
    ({ port, protocol }) =>
      traffic === undefined || (hasPorts(traffic) && traffic.from === port && traffic.protocol === protocol),
  );
  const offered =
    service.ports.map(({ port, protocol }) => `${port}/${PROTOCOL_NAMES.get(protocol) ?? protocol}`).join(", ") ||
    "none";
  if (asked.length === 0 && !service.isHeadless)
    return { service, via, outlets: [], problem: `${label} has no such port, only ${offered}` };
  const ports =
    service.isHeadless && traffic !== undefined
      ? [
          {
            name: "",
            target: portOf(traffic),
            port: portOf(traffic),
            protocol: traffic.protocol ?? TCP,
            nodePort: undefined,
          },
        ]
      : asked;
  const outlets = ports.flatMap((port) => outletsOf(service, port, world, addr));
  return {
    service,
    via,
    outlets,
    problem: outlets.length === 0 ? `${label} has nothing behind it: ${whyEmpty(service, world)}` : undefined,
  };
}

function whyEmpty(service: Service, { endpoints, pods }: World): string {
  const isListed = endpoints.some(
    ({ namespace, service: name }) => namespace === service.namespace && name === service.name,
  );
  if (isListed) return "none of its endpoints is ready and has the port";
  if (service.selector === undefined) return "it has no selector and no endpoints";
  const terms = Object.entries(service.selector);
  const isThere = pods.some(
    (pod) => pod.namespace === service.namespace && terms.every(([key, value]) => pod.labels[key] === value),
  );
  return isThere
    ? "none of its pods is ready and has the port"
    : `no pod that is known has the labels ${terms.map(([key, value]) => `${key}=${value}`).join(",")}`;
}

function portOf(traffic: Traffic): number {
  return hasPorts(traffic) ? traffic.from : 0;
}

function outletsOf(service: Service, port: ServicePort, world: World, addr: Addr | undefined): Outlet[] {
  const asked: Traffic = { protocol: port.protocol, from: port.port, to: port.port };
  const isAlike = (other: Addr): boolean => addr === undefined || other.includes(":") === addr.includes(":");
  const listed = world.endpoints.filter(
    ({ namespace, service: name }) => namespace === service.namespace && name === service.name,
  );
  if (listed.length > 0 || service.selector === undefined) {
    return listed.flatMap(({ ports, endpoints }) => {
      const number = service.isHeadless
        ? port.port
        : ports.find(({ name, protocol }) => name === port.name && protocol === port.protocol)?.port;
      if (number === undefined) return [];
      return endpoints
        .filter(({ isReady }) => isReady || service.takesUnready)
        .flatMap(({ addresses, pod }) => {
          const alike = addresses.filter(isAlike);
          const outlet = {
            pod: pod === undefined ? undefined : { namespace: service.namespace, name: pod },
            addresses: alike,
            traffic: { protocol: port.protocol, from: number, to: number },
            asked,
          };
          return alike.length === 0 ? [] : [outlet];
        });
    });
  }
  const terms = Object.entries(service.selector);
  const selected = world.pods.filter(
    (pod) =>
      pod.namespace === service.namespace &&
      (pod.isReady || service.takesUnready) &&
      terms.every(([key, value]) => pod.labels[key] === value),
  );
  return selected.flatMap((pod) => {
    const number = targetOf(pod, port);
    const alike = pod.addresses.filter(isAlike);
    return number === undefined || alike.length === 0
      ? []
      : [{ pod, addresses: alike, traffic: { protocol: port.protocol, from: number, to: number }, asked }];
  });
}

/** Each pod has its own number for a name. */
function targetOf(pod: Backend, { target, protocol }: ServicePort): number | undefined {
  return typeof target === "number"
    ? target
    : pod.ports.find((port) => port.name === target && protocolOf(port.protocol ?? "") === protocol)?.containerPort;
}

function throughNode(addr: Addr, traffic: Traffic | undefined, world: World): Translation | undefined {
  if (traffic === undefined || !hasPorts(traffic)) return undefined;
  for (const service of world.services) {
    const port = service.ports.find(
      ({ nodePort, protocol }) => nodePort === traffic.from && protocol === traffic.protocol,
    );
    if (port !== undefined)
      return throughService(
        service,
        "node port",
        { protocol: port.protocol, from: port.port, to: port.port },
        world,
        addr,
      );
  }
  const outlets = world.pods
    .filter(({ nodeAddresses }) => nodeAddresses.includes(addr))
    .flatMap((pod): Outlet[] => {
      const port = hostPorts(pod, addr).find(
        ({ hostPort, protocol }) => hostPort === traffic.from && protocolOf(protocol ?? "") === traffic.protocol,
      );
      const alike = pod.addresses.filter((other) => other.includes(":") === addr.includes(":"));
      if (port === undefined || alike.length === 0) return [];
      return [
        {
          pod,
          addresses: alike,
          traffic: { protocol: traffic.protocol, from: port.containerPort, to: port.containerPort },
          asked: traffic,
        },
      ];
    });
  return outlets.length === 0 ? undefined : { service: undefined, via: "host port", outlets, problem: undefined };
}

function hostPorts(pod: Backend, addr: Addr): Backend["ports"] {
  const isAny = (text: string): boolean => ["", "0.0.0.0", "::"].includes(text);
  return pod.ports.filter(
    ({ hostPort, hostIP = "" }) =>
      hostPort !== undefined && hostPort !== 0 && (isAny(hostIP) || addressesIn([hostIP]).includes(addr)),
  );
}
