/** `calico node --remove`, on the machine's kernel: all that a daemon has made goes, whatever the dataplane; what is others' stays; a node in use is left alone. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { programOf } from "../../src/calc/from-scratch.ts";
import { type BackendName, backendsOf } from "../../src/dataplane/backends.ts";
import { awaitSteps } from "../../src/dataplane/driver.ts";
import { Journal } from "../../src/felix/journal.ts";
import { nodePaths } from "../../src/felix/paths.ts";
import { removeNode } from "../../src/felix/remove.ts";
import { readBpfObject } from "../../src/host/bun/bpf-object.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openFiles } from "../../src/host/bun/files.ts";
import { openSockets } from "../../src/host/bun/sockets.ts";
import { SocketError } from "../../src/host/sockets.ts";
import type { Addr } from "../../src/net/addr.ts";
import { IpSetClient } from "../../src/kernel/ipset/client.ts";
import { ensureGateway } from "../../src/podnet/gateway.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { randomCluster } from "../property/clusters.ts";
import { execute, makeNamespace, type Namespace, processesIn, REAL, removeNamespace, sys } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";

/** A node in a network namespace, its files below a directory with a bpffs of its own. */
async function withNode(run: (node: Namespace, root: string, options: Options) => Promise<void>): Promise<void> {
  const node = makeNamespace("remove");
  const root = mkdtempSync(join(tmpdir(), "calico-test-remove-"));
  const bpffs = `${root}/sys/fs/bpf`;
  mkdirSync(bpffs, { recursive: true });
  execute(["mount", "-t", "bpf", "bpf", bpffs]);
  const processes = processesIn(node);
  const host = { sys: sysIn(REAL, node), clock: openClock(), processes, files: openFiles(), sockets: openSockets() };
  try {
    await run(node, root, { root, host, report: () => {}, bpfObject: readBpfObject });
  } finally {
    removeNamespace(node);
    execute(["umount", bpffs]);
    rmSync(root, { recursive: true, force: true });
  }
}

type Options = Parameters<typeof removeNode>[0];

/** What a daemon with that dataplane leaves when it ends. */
async function program(name: BackendName, { host, root }: Options): Promise<void> {
  const cluster = randomCluster(3);
  const wanted = programOf({ ...cluster, pools: [], node: "n1", interfaces: new Map([["eth0", []]]) });
  const { settings: _settings, ...tables } = wanted;
  const families = new Set([4, 6] as const);
  const { sys: inside, clock, processes, files } = host;
  const ebpf = { files, object: readBpfObject, pins: nodePaths(root).pins };
  const backend = backendsOf({
    sys: inside,
    clock,
    processes,
    families,
    ownsTable: false,
    report: () => {},
    ebpf,
  }).find((each) => each.name === name);
  expect(await backend?.probe()).toBeUndefined();
  const driver = backend?.open();
  if (driver === undefined) throw new Error(`no dataplane ${name}`);
  driver.lower(wanted, { ...tables, members: new Map() });
  await awaitSteps(driver.reading());
  await awaitSteps(driver.committing());
  expect(driver.failures).toEqual([]);
  driver.close();
}

const OTHERS = `*filter
:OTHERS - [0:0]
-A FORWARD -m comment --comment "of others" -j OTHERS
COMMIT
`;

/** What others have, beside ours. */
function addOthers(node: Namespace): void {
  node.run(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far"]);
  node.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "uplink"]);
  node.run(["ip", "link", "set", "uplink", "up"]);
  node.run(["ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.9", "proto", "static"]);
  node.run(["ip", "-6", "route", "add", "2001:db8:9::/48", "dev", "uplink", "proto", "static"]);
  node.run(["nft", "add", "table", "inet", "others"]);
  for (const variant of ["legacy", "nft"])
    for (const ip of ["iptables", "ip6tables"]) node.run([`${ip}-${variant}-restore`], OTHERS);
}

/** All that the kernel has, but for counters and what it makes itself. */
function shown(node: Namespace): string {
  const saved = ["legacy", "nft"].flatMap((variant) =>
    ["iptables", "ip6tables"].map((ip) => node.run([`${ip}-${variant}-save`]).replace(/^#.*\n|\[\d+:\d+\]/gm, "")),
  );
  return [
    ...saved.map((text) => text.replace(/^\*(?!filter)[^]*?^COMMIT\n/gm, "")),
    node.run(["nft", "list", "table", "inet", "others"]),
    node.run(["ip", "route"]),
    node.run(["ip", "-6", "route"]),
    node.run(["ip", "-o", "link"]).replace(/^.*qlen.*$/gm, (line) => line.split("@")[0] ?? ""),
  ].join("\n");
}

/** What a dataplane of ours has in the kernel. */
function ours(node: Namespace, root: string): readonly string[] {
  const tables = node.run(["nft", "list", "tables"]).split("\n");
  const client = node.enter(() => new IpSetClient(sys));
  const sets = client.list();
  client.close();
  const { pins } = nodePaths(root);
  return [
    ...tables.filter((table) => table.startsWith("table inet calico")),
    ...["legacy", "nft"].flatMap((variant) =>
      ["iptables", "ip6tables"].flatMap((ip) => node.run([`${ip}-${variant}-save`]).match(/^:cali-.*$/gm) ?? []),
    ),
    ...sets.map((set) => `set ${set.name}`),
    ...(node.run(["tc", "filter", "show", "dev", "uplink", "ingress"]).match(/calico.*$/gm) ?? []),
    ...(existsSync(pins) ? readdirSync(pins) : []).map((name) => `pin ${name}`),
  ];
}

function addOwnRoutes(node: Namespace): void {
  for (const [family, net] of [
    ["-4", "10.65.0.0/26"],
    ["-6", "fd00:65::/122"],
  ] as const)
    node.run(["ip", family, "route", "add", "blackhole", net, "proto", "80"]);
  node.enter(() => {
    const routes = new RouteClient(sys);
    ensureGateway(sys, routes);
    routes.close();
  });
}

for (const name of ["nftables", "iptables-nft", "iptables-legacy", "ebpf"] as const)
  test(`${name}: nothing is left, twice in a row, and what is others' stays`, async () => {
    await withNode(async (node, root, options) => {
      addOthers(node);
      const before = shown(node);
      await program(name, options);
      addOwnRoutes(node);
      expect(ours(node, root).length).toBeGreaterThan(name === "nftables" ? 0 : 9);
      const paths = nodePaths(root);
      for (const path of [paths.nodename, paths.birdConfiguration]) {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, "n1");
      }
      for (let turn = 0; turn < 2; turn++) {
        const { lines, isComplete } = await removeNode(options);
        expect({ lines, isComplete }).toMatchObject({ isComplete: true });
        expect(shown(node)).toBe(before);
        expect(ours(node, root)).toEqual([]);
        expect(existsSync(paths.nodename) || existsSync(paths.birdConfiguration)).toBe(false);
      }
    });
  }, 60_000);

test("a node whose daemon answers, or that has a pod, is left as it is, and says which", async () => {
  await withNode(async (node, root, options) => {
    await program("nftables", options);
    const paths = nodePaths(root);
    mkdirSync(dirname(paths.cniSocket), { recursive: true });
    const rules = node.run(["nft", "list", "table", "inet", "calico"]);
    const listener = await options.host.sockets.listen(paths.cniSocket, 0o600, async (connection) => connection.end());
    await expect(removeNode(options)).rejects.toThrow(`calico node runs here (it answers at ${paths.cniSocket})`);
    await listener.close();
    const connect = (): Promise<never> => Promise.reject(new SocketError("connect to", paths.cniSocket, "EACCES"));
    const unknown = { ...options, host: { ...options.host, sockets: { ...options.host.sockets, connect } } };
    await expect(removeNode(unknown)).rejects.toThrow("EACCES");
    const journal = await Journal.open(options.host.files, paths.journal, () => {});
    const attachment = {
      record: {
        containerId: "c1",
        pod: { kind: "Pod", namespace: "shop", name: "web" },
        uid: undefined,
        interface: "cali0123456789a",
        addresses: ["10.65.0.1" as Addr, "fd00:65::1" as Addr],
        mac: "02:00:00:00:00:01",
        netns: "/var/run/netns/web",
        podInterface: "eth0",
      },
      handle: "k8s-pod-network.c1",
      assignedAt: "2026-01-01T00:00:00Z",
      mtuBytes: 1500,
      state: "attached",
      wired: true,
    } as const;
    await journal.put(attachment);
    node.run(["ip", "link", "add", attachment.record.interface, "type", "veth", "peer", "name", "pod"]);
    await expect(removeNode(options)).rejects.toThrow("shop/web (cali0123456789a): drain it first");
    expect(node.run(["nft", "list", "table", "inet", "calico"])).toBe(rules);
    node.run(["ip", "link", "delete", attachment.record.interface]);
    await journal.release(attachment);
    const { lines, isComplete } = await removeNode(options);
    expect(isComplete).toBe(true);
    expect(lines.at(-1)).toBe("addresses that the datastore did not take back before: 10.65.0.1, fd00:65::1");
    expect(node.run(["nft", "list", "tables"])).not.toContain("calico");
  });
}, 60_000);
