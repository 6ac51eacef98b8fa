/**
 * Translation beside our table, as the portmap plugin and kube-proxy do it: policy sees the pod's own address and port (POL-22), and the
 * node's loopback is reached by what was translated to it and by nothing else that a pod sends.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import { UDP } from "../../src/net/protocol.ts";
import { updateOf } from "../property/updates.ts";
import { makeNamespace, type Namespace, removeNamespace, sys } from "./fixture.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod } from "./pods.ts";
import { Port } from "./wire.ts";

interface Family {
  readonly name: string;
  readonly server: Addr;
  readonly client: Addr;
  readonly world: Addr;
  readonly node: Addr;
}

function family(name: string, server: string, client: string, world: string, node: string): Family {
  return { name, server: server as Addr, client: client as Addr, world: world as Addr, node: node as Addr };
}

const IPV4 = family("IPv4", "10.65.0.1", "10.65.0.2", "198.51.100.7", "192.0.2.1");
const IPV6 = family("IPv6", "fd00:65::1", "fd00:65::2", "2001:db8::7", "2001:db8:1::1");
const FAMILIES = [IPV4, IPV6];
const HOST_PORT = 8080;
const POD_PORT = 80;

/** What the portmap plugin sets up for a host port, and one more port that leads to the node's loopback. */
const TRANSLATION = `
table inet portmap {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr ${IPV4.node} udp dport ${HOST_PORT} dnat ip to ${IPV4.server}:${POD_PORT}
    ip6 daddr ${IPV6.node} udp dport ${HOST_PORT} dnat ip6 to [${IPV6.server}]:${POD_PORT}
    ip daddr ${IPV4.node} udp dport 7000 dnat ip to 127.0.0.1:9000
  }
  chain output {
    type nat hook output priority -100;
    ip daddr ${IPV4.node} udp dport ${HOST_PORT} dnat ip to ${IPV4.server}:${POD_PORT}
    ip6 daddr ${IPV6.node} udp dport ${HOST_PORT} dnat ip6 to [${IPV6.server}]:${POD_PORT}
  }
}`;

let node: Namespace;
let others: Namespace[] = [];
let server: Port;
let client: Port;
let world: Port;
let driver: NftablesDriver;
let mark = 0xca12_0000;

function pod(name: string): Resource<"Pod"> {
  const addresses = FAMILIES.map((each) => each[name as "server" | "client"]);
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "a", labels: { app: name } },
    spec: { nodeName: "n1", containers: [] },
    status: { podIPs: addresses.map((ip) => ({ ip })) },
  };
}

/** Programs the two pods and one ingress policy of the server; undefined: no policy. */
function program(ingress: object[] | undefined): void {
  const graph = new Graph({ node: "n1" });
  const policy = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "p", namespace: "a" },
    spec: { podSelector: { matchLabels: { app: "server" } }, policyTypes: ["Ingress"], ingress },
  } as Resource<"KubernetesNetworkPolicy">;
  graph.update(ingress === undefined ? [] : [updateOf("KubernetesNetworkPolicy", policy)]);
  for (const [i, name] of ["server", "client"].entries()) {
    const resource = pod(name);
    graph.update([updateOf("Pod", resource)]);
    graph.setCniRecord({
      containerId: name,
      pod: keyOf("Pod", resource),
      interface: `cali${i}`,
      addresses: FAMILIES.map((each) => each[name as "server" | "client"]),
      mac: "",
      netns: "",
      podInterface: "eth0",
    });
  }
  driver?.close();
  driver = node.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
  driver.lower(graph.program, graph.flush());
  driver.read();
  driver.commit();
}

beforeAll(() => {
  node = makeNamespace("node");
  others = ["server", "client", "world"].map(makeNamespace);
  const [first, second, third] = others as [Namespace, Namespace, Namespace];
  makeRouter(node);
  connect(node, "world", third);
  routeDefault(node, "world");
  for (const [i, each] of [first, second].entries()) {
    connect(node, `cali${i}`, each);
    for (const { server: a, client: b } of FAMILIES) routePod(node, `cali${i}`, i === 0 ? a : b);
    node.run(["sysctl", "-qw", `net.ipv4.conf.cali${i}.route_localnet=1`]);
  }
  node.run(["ip", "addr", "add", `${IPV4.node}/32`, "dev", "world"]);
  node.run(["ip", "-6", "addr", "add", `${IPV6.node}/128`, "dev", "world", "nodad"]);
  node.run(["nft", "-f", "-"], TRANSLATION);
  [server, client, world] = [first, second, third].map((each) => new Port(each, "eth0", HOST_MAC)) as [
    Port,
    Port,
    Port,
  ];
});

afterAll(() => {
  for (const port of [server, client, world]) port.close();
  driver.close();
  for (const each of [node, ...others]) removeNamespace(each);
});

/** Whether the datagram that `send` sends with the mark arrives at the server within a second, or, if not wanted, in a tenth. */
function arrives(send: (marker: number) => void, wanted: boolean): boolean {
  const marker = ++mark;
  send(marker);
  for (const end = performance.now() + (wanted ? 1000 : 100); performance.now() < end; Bun.sleepSync(1))
    if (server.markers().includes(marker)) return true;
  return false;
}

/** To the node's address and the host port; each from another source port, so that each is a flow of its own. The port exists once a test runs. */
function toHostPort(from: () => Port, source: Addr, { node: destination }: Family): (marker: number) => void {
  return (marker) =>
    from().send(
      { source, destination, protocol: UDP, sourcePort: 1024 + (marker & 0x7fff), destinationPort: HOST_PORT },
      marker,
    );
}

describe.each(FAMILIES.map((each) => [each.name, each] as const))("a host port, %s", (_, each) => {
  const fromWorld = toHostPort(() => world, each.world, each);
  const fromClient = toHostPort(() => client, each.client, each);

  test("no policy: everyone reaches it", () => {
    program(undefined);
    expect([arrives(fromWorld, true), arrives(fromClient, true)]).toEqual([true, true]);
  });

  test("denied stays denied, from outside and from a pod", () => {
    program([]);
    expect([arrives(fromWorld, false), arrives(fromClient, false)]).toEqual([false, false]);
  });

  test("the pod's port counts, not the node's", () => {
    program([{ ports: [{ protocol: "UDP", port: HOST_PORT }] }]);
    expect([arrives(fromWorld, false), arrives(fromClient, false)]).toEqual([false, false]);
    program([{ ports: [{ protocol: "UDP", port: POD_PORT }] }]);
    expect([arrives(fromWorld, true), arrives(fromClient, true)]).toEqual([true, true]);
  });

  test("the sender's own address counts", () => {
    program([{ from: [{ ipBlock: { cidr: `${each.world}/${each === IPV4 ? 32 : 128}` } }] }]);
    expect([arrives(fromWorld, true), arrives(fromClient, false)]).toEqual([true, false]);
    program([{ from: [{ podSelector: { matchLabels: { app: "client" } } }] }]);
    expect([arrives(fromWorld, false), arrives(fromClient, true)]).toEqual([false, true]);
  });

  test("the node itself reaches it whatever the policy", () => {
    program([]);
    const host = each === IPV4 ? `UDP4-SENDTO:${each.node}` : `UDP6-SENDTO:[${each.node}]`;
    const text = each === IPV4 ? "mrk4" : "mrk6";
    node.run(["socat", "-u", "-", `${host}:${HOST_PORT}`], text);
    const marker = new DataView(new TextEncoder().encode(text).buffer).getUint32(0);
    const end = performance.now() + 20_000;
    let arrived = false;
    while (!arrived && performance.now() < end) arrived = server.markers().includes(marker);
    expect(arrived).toBe(true);
  });
});

describe("the node's loopback", () => {
  const AF_INET = 2;
  const SOCK_DGRAM = 2;
  const MSG_DONTWAIT = 0x40;
  const loopback = "127.0.0.1" as Addr;

  /** Listens on 127.0.0.1:9000 of the node; what arrived from `send`, as the last four bytes. */
  function heard(send: () => void): number[] {
    const fd = node.enter(() => sys.socket(AF_INET, SOCK_DGRAM, 0));
    try {
      const address = new Uint8Array(16);
      const view = new DataView(address.buffer);
      view.setUint16(0, AF_INET, true);
      view.setUint16(2, 9000);
      address.set([127, 0, 0, 1], 4);
      expect(sys.bind(fd, address)).toBe(0);
      send();
      const found: number[] = [];
      const buffer = new Uint8Array(64);
      for (const end = performance.now() + 200; performance.now() < end; Bun.sleepSync(1)) {
        const length = sys.receive(fd, buffer, MSG_DONTWAIT);
        if (length >= 4) found.push(new DataView(buffer.buffer).getUint32(length - 4));
      }
      return found;
    } finally {
      sys.close(fd);
    }
  }

  function dropped(comment: string): number {
    const rules = node
      .run(["nft", "list", "table", "inet", "calico"])
      .matchAll(/counter packets (\d+) .*comment "([^"]*)"/g);
    return [...rules].reduce((sum, [, packets, text]) => sum + (text === comment ? Number(packets) : 0), 0);
  }

  const send = (source: Addr, destination: Addr, destinationPort: number, marker: number): void =>
    client.send({ source, destination, protocol: UDP, sourcePort: 4000 + (marker & 0xff), destinationPort }, marker);

  test("a pod's packets for 127.0.0.0/8 are dropped and counted; without our table they would arrive", () => {
    program(undefined);
    const before = dropped("loopback destination");
    expect(heard(() => send(IPV4.client, loopback, 9000, 1))).toEqual([]);
    expect(heard(() => send(IPV4.client, "127.255.0.1" as Addr, 9000, 2))).toEqual([]);
    expect(dropped("loopback destination")).toBe(before + 2);
    node.run(["nft", "delete", "table", "inet", "calico"]);
    expect(heard(() => send(IPV4.client, loopback, 9000, 3))).toEqual([3]);
  });

  test("a flow that went through before our table was there does not go on", () => {
    node.run(["nft", "add", "table", "inet", "calico"]);
    node.run(["nft", "delete", "table", "inet", "calico"]);
    expect(heard(() => send(IPV4.client, loopback, 9000, 4))).toEqual([4]);
    program(undefined);
    expect(heard(() => send(IPV4.client, loopback, 9000, 4))).toEqual([]);
  });

  test("what is translated to it arrives", () => {
    program(undefined);
    expect(heard(() => send(IPV4.client, IPV4.node, 7000, 5))).toEqual([5]);
  });

  test("nor can a pod speak from a loopback address", () => {
    program(undefined);
    const before = dropped("unknown interface or spoofed source");
    expect(heard(() => send("127.0.0.5" as Addr, IPV4.node, 7000, 6))).toEqual([]);
    expect(dropped("unknown interface or spoofed source")).toBe(before + 1);
  });
});
