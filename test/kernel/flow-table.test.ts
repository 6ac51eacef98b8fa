/** Which entries of the table of connections are cut: by protocol, family, translation, zone, at pods and at host endpoints; large tables; failures. */
import { expect, test } from "bun:test";
import { programOf } from "../../src/calc/from-scratch.ts";
import { FlowCutter } from "../../src/dataplane/flows/cutter.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import type { Clock } from "../../src/host/clock.ts";
import type { Sys } from "../../src/host/sys.ts";
import type { GlobalNetworkPolicySpec } from "../../src/model/kinds/global-network-policy.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import { ICMP, ICMPV6, SCTP, TCP, UDP } from "../../src/net/protocol.ts";
import type { Program } from "../../src/program/program.ts";
import { type Connection, insertConnections, listConnections, nameOf } from "./connections.ts";
import { onBothKernels, REAL, type Namespace } from "./fixture.ts";
import { allow, CLIENT, pod, SERVER, sysIn, until } from "./flow-bench.ts";
import { connect, routeDefault } from "./pods.ts";

const STATE = {
  node: "n1",
  pools: [],
  nodes: [],
  namespaces: [],
  serviceAccounts: [],
  networkPolicies: [],
  blocks: [],
};
const POD = {
  pods: [pod("server", SERVER, {})],
  records: [
    {
      containerId: "c",
      pod: keyOf("Pod", pod("server", SERVER, {})),
      interface: "cali2",
      addresses: SERVER as unknown as Addr[],
      mac: "",
      netns: "",
      podInterface: "eth0",
    },
  ],
};
/** The server gets what is sent to port 80, and nothing else. */
const ONLY_80 = programOf({ ...STATE, ...POD, networkPolicies: [allow("p", [80])] });

interface Cutting {
  readonly cutter: FlowCutter;
  end(): Promise<void>;
}

function startCutter(sys: Sys, program: Program, clock: Clock = openClock()): Cutting {
  const abort = new AbortController();
  const cutter = new FlowCutter({ sys, clock, isWritten: () => true, report: () => {} });
  const { settings: _, ...tables } = program;
  cutter.changed(program, { ...tables, members: new Map() });
  const running = cutter.run(abort.signal);
  return {
    cutter,
    end: () => {
      abort.abort();
      return running;
    },
  };
}

/** One pass. */
async function cut(sys: Sys, program: Program): Promise<FlowCutter["status"]> {
  const { cutter, end } = startCutter(sys, program);
  await until(() => cutter.status.passes > 0);
  await end();
  return cutter.status;
}

async function inNamespace(run: (node: Namespace, sys: Sys) => Promise<void>): Promise<void> {
  const node = REAL.makeNamespace("flows");
  try {
    await run(node, sysIn(REAL, node));
  } finally {
    REAL.removeNamespace(node);
  }
}

/** Of both families; `to` and `from` are the server pod. */
function both(protocol: number, destinationPort: number, more: Partial<Connection> = {}): Connection[] {
  return [0, 1].map((i) => ({
    protocol: protocol === ICMP && i === 1 ? ICMPV6 : protocol,
    source: CLIENT[i] ?? "",
    destination: SERVER[i] ?? "",
    sourcePort: 1000,
    destinationPort,
    ...more,
  }));
}

onBothKernels((kernel) => {
  test("what the pod may not receive is cut, in both families; what it may, what it sends and what is others' is kept", async () => {
    const node = kernel.makeNamespace("flows");
    const sys = sysIn(kernel, node);
    try {
      for (const [client, server, other] of [
        [CLIENT[0], SERVER[0], "198.51.100.7"],
        [CLIENT[1], SERVER[1], "2001:db8::7"],
      ]) {
        const insert = (protocol: string, from = "", to = "", port: number, ...more: string[]): void => {
          const words = ["-p", protocol, "-s", from, "-d", to, "--sport", "1000", "--dport", `${port}`, "--timeout"];
          const state = protocol === "tcp" ? ["--state", "ESTABLISHED"] : [];
          node.run(["conntrack", "-I", ...words, "1000", ...state, ...more]);
        };
        for (const protocol of ["tcp", "udp"]) {
          insert(protocol, client, server, 80);
          insert(protocol, client, server, 81);
          insert(protocol, server, client, 81);
          insert(protocol, client, other, 81);
          // Through a service.
          insert(protocol, client, other, 82, "-g", server ?? "");
        }
      }
      const before = node.enter(() => listConnections(kernel.sys));
      expect(before.length).toBe(20);
      const status = await cut(sys, ONLY_80);
      // Of TCP the kernel saw no SYN: the server may have called, which it may.
      expect(status).toMatchObject({ cut: 4, passes: 1, error: undefined });
      const denied = (name: string): boolean => /^17 .*:1000>((10.65.0.2|fd00:65::2):81|.*:82)$/.test(name);
      expect(node.enter(() => listConnections(kernel.sys))).toEqual(before.filter((name) => !denied(name)));
      expect((await cut(sys, ONLY_80)).cut).toBe(0);
    } finally {
      kernel.removeNamespace(node);
    }
  });
});

test("every protocol; the port after translation; other zones are left alone", () =>
  inNamespace(async (node, sys) => {
    const gone = [...both(SCTP, 81), ...both(ICMP, 7), ...both(UDP, 80, { sourcePort: 2000, replyPort: 81 })];
    const kept = [...both(SCTP, 80), ...both(TCP, 81, { sourcePort: 3000, replyPort: 80 })];
    const elsewhere = both(TCP, 81, { sourcePort: 4000, zone: 7 });
    insertConnections(sys, [...gone, ...kept, ...elsewhere]);
    expect(await cut(sys, ONLY_80)).toMatchObject({ cut: gone.length });
    expect(node.enter(() => listConnections(REAL.sys))).toEqual(kept.map(nameOf).sort());
    expect(node.run(["conntrack", "-L", "--zone", "7", "-f", "ipv4"])).toContain("sport=4000");
  }));

const MANY = 50_000;
/** A datagram holds some 100 entries. */
const MOST_DATAGRAMS = 16;

test(
  "of 50,000 connections the two that are denied; the thread is given back between slices of bounded work",
  () =>
    inNamespace(async (node, real) => {
      const others = Array.from({ length: MANY }, (_, i) => ({
        ...both(TCP, i % 3 === 0 ? 80 : 443)[i % 2],
        ...(i % 3 === 0 ? {} : { destination: i % 2 === 0 ? "198.51.100.7" : "2001:db8::7" }),
        sourcePort: 1024 + (i % 60_000),
      })) as Connection[];
      const denied = both(TCP, 81);
      insertConnections(real, [...others, ...denied]);
      let received = 0;
      let most = 0;
      const slice = (): void => {
        most = Math.max(most, received);
        received = 0;
      };
      const sys: Sys = {
        ...real,
        receive: (...args) => {
          const length = real.receive(...args);
          if (length > 0) received++;
          return length;
        },
      };
      const openedClock = openClock();
      const clock: Clock = {
        ...openedClock,
        sleep: (ms, signal) => {
          slice();
          return openedClock.sleep(ms, signal);
        },
      };
      const { cutter, end } = startCutter(sys, ONLY_80, clock);
      await until(() => cutter.status.passes === 1);
      expect(cutter.status.cut).toBe(2);
      expect(listConnections(real).length).toBe(others.length);
      await end();
      // The first slice also asks for links and addresses; each slice deletes what it found.
      expect(most).toBeLessThanOrEqual(MOST_DATAGRAMS + 8);
      console.log(`a pass through ${MANY} connections takes ${cutter.status.lastMs.toFixed(0)} ms of the thread`);
      expect(node.enter(() => listConnections(REAL.sys))).not.toContain(nameOf(denied[0] as Connection));
    }),
  60_000,
);

test("a kernel that refuses is told of, and asked again", () =>
  inNamespace(async (_node, real) => {
    const EPERM = 1;
    let isRefused = true;
    const sys: Sys = { ...real, send: (...args) => (isRefused ? -EPERM : real.send(...args)) };
    insertConnections(real, both(TCP, 81));
    const { cutter, end } = startCutter(sys, ONLY_80);
    await until(() => cutter.status.error !== undefined);
    expect(cutter.status).toMatchObject({ cut: 0, error: expect.stringContaining("EPERM") });
    isRefused = false;
    await until(() => cutter.status.error === undefined);
    expect(cutter.status.cut).toBe(2);
    await end();
  }));

test("changes many times a second: a pass covers all before it, and all together take a twentieth of the thread", () =>
  inNamespace(async (_node, sys) => {
    insertConnections(
      sys,
      Array.from({ length: 2_000 }, (_, i) => ({ ...both(TCP, 80)[i % 2], sourcePort: 1024 + i }) as Connection),
    );
    const { cutter, end } = startCutter(sys, ONLY_80);
    const begin = performance.now();
    const none = new Map<never, never>();
    const nothing = { sets: none, policies: none, endpoints: none, routes: none, members: none };
    let longestMs = 0;
    for (let i = 0; i < 300; i++) {
      cutter.changed(ONLY_80, { ...nothing, settings: ONLY_80.settings });
      await Bun.sleep(1);
      longestMs = Math.max(longestMs, cutter.status.lastMs);
    }
    const { spentMs, passes } = cutter.status;
    expect(spentMs).toBeLessThan((performance.now() - begin) * 0.05 + 2 * longestMs);
    // The last change too is covered, by one more pass.
    insertConnections(sys, both(TCP, 81));
    cutter.changed(ONLY_80, { ...nothing, settings: ONLY_80.settings });
    await until(() => cutter.status.cut === 2);
    expect(cutter.status.passes).toBeLessThanOrEqual(passes + 2);
    await end();
  }));

test("an empty table is not read", () =>
  inNamespace(async (_node, sys) => {
    const { cutter, end } = startCutter(sys, ONLY_80);
    await until(() => cutter.status.passes > 0);
    expect(cutter.status).toMatchObject({ passes: 1, cut: 0, error: undefined });
    await end();
  }));

function policy(name: string, spec: GlobalNetworkPolicySpec): Resource<"GlobalNetworkPolicy"> {
  const apiVersion = "projectcalico.org/v3";
  return { apiVersion, kind: "GlobalNetworkPolicy", metadata: { name }, spec: { selector: "has(router)", ...spec } };
}

const HOST = "203.0.113.1";
const FRIEND = "198.51.100.7";

test("at a host endpoint: what it may not receive, send or forward; never failsafe ports, own pods, or what cannot be attributed", async () => {
  const [node, world, other] = ["node", "world", "other"].map(REAL.makeNamespace) as [Namespace, Namespace, Namespace];
  try {
    connect(node, "world", world);
    routeDefault(node, "world");
    node.run(["ip", "addr", "add", `${HOST}/32`, "dev", "lo"]);
    connect(node, "side", other);
    node.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "side"]);
    const program = programOf({
      ...STATE,
      ...POD,
      hostEndpoints: [
        {
          apiVersion: "projectcalico.org/v3",
          kind: "HostEndpoint",
          metadata: { name: "router", labels: { router: "yes" } },
          spec: { node: "n1", interfaceName: "world", expectedIPs: [HOST] },
        },
      ],
      globalPolicies: [
        policy("services", {
          order: 1,
          types: ["Ingress", "Egress"],
          ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [80] } }],
          egress: [{ action: "Allow", protocol: "UDP", destination: { ports: [53] } }],
        }),
        policy("forward", {
          order: 2,
          applyOnForward: true,
          types: ["Ingress"],
          ingress: [
            { action: "Deny", protocol: "TCP", destination: { ports: [25] } },
            { action: "Allow", protocol: "TCP", destination: { ports: [26] } },
          ],
        }),
      ],
    });
    const sys = sysIn(REAL, node);
    const one = (protocol: number, source: string, destination: string, port: number): Connection => ({
      protocol,
      source,
      destination,
      sourcePort: 1000,
      destinationPort: port,
    });
    // Each other end is a route to ask for.
    const friends = Array.from({ length: 200 }, (_, i) => `198.51.100.${i + 20}`);
    const gone = [
      ...friends.map((friend) => one(UDP, friend, HOST, 5353)),
      one(UDP, FRIEND, HOST, 5353),
      one(UDP, HOST, FRIEND, 54),
      one(TCP, FRIEND, SERVER[0], 25),
      one(TCP, FRIEND, "192.0.2.9", 25),
    ];
    const kept = [
      ...friends.map((friend) => one(TCP, friend, SERVER[0], 26)),
      one(TCP, FRIEND, HOST, 22),
      one(UDP, HOST, FRIEND, 53),
      one(TCP, HOST, FRIEND, 6443),
      one(TCP, HOST, SERVER[0], 25),
      one(TCP, FRIEND, SERVER[0], 26),
      // It leaves by the interface, and comes from one that no host endpoint protects.
      one(TCP, "192.0.2.9", FRIEND, 25),
      one(TCP, HOST, HOST, 25),
      // No route is certain to be its own.
      one(UDP, FRIEND, "255.255.255.255", 5353),
      one(UDP, FRIEND, "192.0.2.255", 5353),
      // Its own address is another interface's: it may have come by either.
      one(UDP, FRIEND, "192.0.2.1", 5353),
    ];
    insertConnections(sys, [...gone, ...kept]);
    await cut(sys, program);
    expect(node.enter(() => listConnections(REAL.sys))).toEqual(kept.map(nameOf).sort());
  } finally {
    for (const each of [node, world, other]) REAL.removeNamespace(each);
  }
});
