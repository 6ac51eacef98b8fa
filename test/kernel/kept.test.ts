/** What the daemon has set for its pods is put back when others change it: host ends, their settings, forwarding, routes. */
import { expect, test } from "bun:test";
import { finishSteps } from "../../src/dataplane/driver.ts";
import { LinksDriver } from "../../src/dataplane/links/driver.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import { RoutesDriver } from "../../src/dataplane/routes/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import type { Sys } from "../../src/host/sys.ts";
import type { Addr } from "../../src/net/addr.ts";
import { prefixOfAddr } from "../../src/net/prefix.ts";
import type { Endpoint, EndpointId } from "../../src/program/program.ts";
import { localRoute, routeIdOf } from "../../src/program/route.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { PodNetwork } from "../../src/podnet/podnet.ts";
import { makeNamespace, type Namespace, removeNamespace, sys } from "./fixture.ts";

const NEVER_MS = 3_600_000;
const ADDRESSES = ["10.65.0.1", "fd00:65::1"] as unknown as Addr[];

/** Every socket and file is opened in the namespace, whenever that may be. */
function sysOf(namespace: Namespace): Sys {
  return {
    ...sys,
    socket: (domain, type, protocol) => namespace.enter(() => sys.socket(domain, type, protocol)),
    open: (path, flags) => namespace.enter(() => sys.open(path, flags)),
  };
}

interface Bench {
  readonly node: Namespace;
  readonly loop: Loop;
  readonly links: LinksDriver;
  readonly reports: string[];
}

/** A node with one pod, kept by a loop that never looks by itself. */
async function withBench(run: (bench: Bench) => Promise<void>, addresses = ADDRESSES): Promise<void> {
  const [node, pod] = [makeNamespace("node"), makeNamespace("pod")];
  const abort = new AbortController();
  const own = sysOf(node);
  const clock = openClock();
  const links = new LinksDriver(own, clock, new Set([4, 6]));
  const routes = new RoutesDriver(own, clock);
  const reports: string[] = [];
  const loop = new Loop({
    drivers: [links, routes],
    clock,
    watcher: openWatcher(),
    auditIntervalMs: NEVER_MS,
    report: (message) => reports.push(message),
  });
  try {
    node.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    const request = {
      hostInterface: "cali0",
      podInterface: "eth0",
      netns: pod.path,
      addresses,
      mtuBytes: 1450,
    };
    node.enter(() => {
      const network = new PodNetwork(sys);
      network.add(request);
      network.close();
    });
    const stage = { tiers: [], profiles: [], otherwise: "allow" } as const;
    const endpoint: Endpoint = {
      kind: "workload",
      source: { kind: "Pod", namespace: "a", name: "p" },
      addresses,
      stages: { normal: { ingress: stage, egress: stage } },
    };
    const endpoints = new Map([["cali0" as EndpointId, endpoint]]);
    const wanted = new Map(
      addresses.map((addr) => localRoute(prefixOfAddr(addr), "cali0")).map((route) => [routeIdOf(route), route]),
    );
    const program = {
      settings: DEFAULT_SETTINGS,
      sets: new Map(),
      policies: new Map(),
      endpoints,
      routes: wanted,
    };
    loop.step(program, { ...program, members: new Map() });
    await loop.start();
    expect(loop.isProgrammed("cali0" as EndpointId, program)).toBe(true);
    // What ADD made is as it is to be kept: nothing was written but the routes.
    expect([links.writes, links.pending]).toEqual([0, 0]);
    const running = loop.run(abort.signal);
    await run({ node, loop, links, reports });
    abort.abort();
    await running;
  } finally {
    abort.abort();
    links.close();
    routes.close();
    for (const each of [node, pod]) removeNamespace(each);
  }
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 20_000; !holds(); await Bun.sleep(2))
    if (performance.now() > end) throw new Error("waited 20 s in vain");
}

/** What somebody does, and where it shows, with what it must be. */
const CHANGES: readonly (readonly [readonly string[], readonly string[], string])[] = [
  [["ip", "link", "set", "cali0", "down"], ["ip", "-br", "link", "show", "cali0"], "UP"],
  ...(
    [
      ["net.ipv4.conf.cali0.rp_filter", "0", "1"],
      ["net.ipv4.conf.cali0.proxy_arp", "0", "1"],
      ["net.ipv4.conf.cali0.forwarding", "0", "1"],
      ["net.ipv6.conf.cali0.forwarding", "0", "1"],
      ["net.ipv6.conf.cali0.proxy_ndp", "0", "1"],
      ["net.ipv4.ip_forward", "0", "1"],
      ["net.ipv6.conf.all.forwarding", "0", "1"],
    ] as const
  ).map(([name, bad, good]) => [["sysctl", "-qw", `${name}=${bad}`], ["sysctl", "-n", name], `${good}\n`] as const),
  [["ip", "route", "del", "10.65.0.1/32"], ["ip", "route", "show", "10.65.0.1"], "dev cali0"],
  [["ip", "-6", "route", "del", "fd00:65::1/128"], ["ip", "-6", "route", "show", "fd00:65::1"], "dev cali0"],
  [
    ["ip", "route", "replace", "10.65.0.1/32", "dev", "lo", "proto", "80"],
    ["ip", "route", "show", "10.65.0.1"],
    "dev cali0",
  ],
];

for (const [command, show, wanted] of CHANGES)
  test(`${command.join(" ")}: put back as it is heard`, () =>
    withBench(async ({ node }) => {
      node.run(command);
      await until(() => node.run(show).includes(wanted));
      const all = (): string =>
        node.run(["ip", "route", "show", "proto", "80"]) + node.run(["ip", "-6", "route", "show", "proto", "80"]);
      // A link that is set down loses its routes too.
      await until(() => all().includes("10.65.0.1 dev cali0") && all().includes("fd00:65::1 dev cali0"));
      expect(node.run(["sysctl", "-n", "net.ipv4.conf.cali0.rp_filter"])).toBe("1\n");
    }));

test("the routes of an IPv4 pod whose interface is set down, which the kernel takes away without a word", () =>
  withBench(
    async ({ node, reports }) => {
      node.run(["ip", "link", "set", "cali0", "down"]);
      await until(() => node.run(["ip", "-br", "link", "show", "cali0"]).includes("UP"));
      await until(() => node.run(["ip", "route", "show", "proto", "80"]).includes("10.65.0.1 dev cali0"));
      // While it is down its routes wait: that is no refusal.
      expect(reports.filter((message) => message.includes("refuses"))).toEqual([]);
    },
    ADDRESSES.slice(0, 1),
  ));

test("another's route in the place of ours is left alone and named; ours comes when it goes", () =>
  withBench(async ({ node, loop, reports }) => {
    node.run(["ip", "route", "replace", "10.65.0.1/32", "dev", "lo", "proto", "static"]);
    await until(() => loop.status()[1]?.rows.length === 1);
    expect(loop.status()[1]?.rows[0]).toMatchObject({
      row: "route 10.65.0.1/32",
      error: expect.stringContaining("another's route is there: unicast 10.65.0.1/32 dev lo, protocol 4"),
    });
    expect(loop.explain("cali0" as EndpointId)).toContain("protocol 4");
    expect(reports).toContain("the kernel refuses a row: all others go on, will retry");
    node.run(["ip", "route", "del", "10.65.0.1/32", "dev", "lo"]);
    await until(() => node.run(["ip", "route", "show", "10.65.0.1"]).includes("dev cali0"));
    await until(() => loop.status()[1]?.rows.length === 0);
  }));

for (const [what, endpoint] of [
  ["a pod without addresses", { kind: "workload", addresses: [] }],
  ["a host endpoint", { kind: "host", addresses: ADDRESSES }],
] as const)
  test(`the interface of ${what} is left as it is`, () =>
    withBench(({ node, loop, links }) => {
      const source = { kind: "Pod", namespace: "a", name: "p" } as const;
      const endpoints = new Map([["cali0" as EndpointId, { ...endpoint, source, stages: {} }]]);
      const none = { settings: DEFAULT_SETTINGS, sets: new Map(), policies: new Map(), routes: new Map() };
      loop.step({ ...none, endpoints }, { ...none, endpoints, members: new Map() });
      node.run(["ip", "link", "set", "cali0", "down"]);
      finishSteps(links.reading());
      expect([links.plan(), links.pending]).toEqual([[], 0]);
      return Promise.resolve();
    }));
