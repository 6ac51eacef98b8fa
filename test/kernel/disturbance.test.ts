/** Somebody else changes our table where the kernel cannot have it owned: heard and undone at once, also when the notifications overflow. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { TABLE } from "../../src/dataplane/nftables/names.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import type { Clock } from "../../src/host/clock.ts";
import type { Sys } from "../../src/host/sys.ts";
import type { Watch, Watcher, WatchEvents } from "../../src/host/watcher.ts";
import { ForeignTransactions } from "../../src/kernel/nftables/monitor.ts";
import { keyOf, type Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import { UDP } from "../../src/net/protocol.ts";
import { updateOf } from "../property/updates.ts";
import { makeNamespace, removeNamespace, type Namespace, sys } from "./fixture.ts";
import { connect, HOST_MAC, makeRouter, routeDefault, routePod } from "./pods.ts";
import { Port } from "./wire.ts";

const ADDRESSES = ["10.65.0.1", "fd00:65::1"] as const;
const WORLD = ["198.51.100.7", "2001:db8::7"] as const;
/** No audit within the test. */
const NEVER_MS = 3_600_000;
const SO_RCVBUFFORCE = 33;
/** Nothing else that a namespace sends ends like this. */
const MARK = 0xca11_0000;

/** Every socket is opened in the namespace, whenever that may be; notifications have a buffer of that size, if one is given. */
function sysOf(namespace: Namespace, notificationBytes?: number): Sys {
  const SOCK_NONBLOCK = 0o4000;
  const notifying = new Set<number>();
  return {
    ...sys,
    socket: (domain, type, protocol) => {
      const fd = namespace.enter(() => sys.socket(domain, type, protocol));
      if ((type & SOCK_NONBLOCK) !== 0) notifying.add(fd);
      return fd;
    },
    setSocketOption: (fd, level, option, value) =>
      sys.setSocketOption(
        fd,
        level,
        option,
        option === SO_RCVBUFFORCE && notifying.has(fd) ? (notificationBytes ?? value) : value,
      ),
  };
}

interface Bench {
  readonly node: Namespace;
  readonly loop: Loop;
  readonly driver: NftablesDriver;
  readonly pod: Port;
  readonly world: Port;
  readonly reports: { readonly message: string; readonly fields: Readonly<Record<string, unknown>> }[];
  /** What `look` saw when the call returned in which the first transaction of nft was heard. */
  readonly heard: Promise<unknown>;
}

/** Time stands still in the calls in which the loop hears something: what it does there must not depend on how busy the machine is. */
class Ears implements Watcher {
  readonly #real = openWatcher();
  readonly #clock = openClock();
  readonly #look: () => unknown;
  readonly #heard = Promise.withResolvers<unknown>();
  #stoodAtMs: number | undefined;

  constructor(look: () => unknown) {
    this.#look = look;
  }

  get heard(): Promise<unknown> {
    return this.#heard.promise;
  }

  get clock(): Clock {
    return { ...this.#clock, monotonicMs: () => this.#stoodAtMs ?? this.#clock.monotonicMs() };
  }

  awaitReadable(fd: number, readable: () => void): Watch {
    return this.#real.awaitReadable(fd, readable);
  }

  watch(fd: number, events: WatchEvents): Watch {
    const transactions = new ForeignTransactions(TABLE);
    return this.#real.watch(fd, {
      ...events,
      received: (datagram) => {
        const isHeard = transactions.take(datagram, undefined).some(({ by }) => by?.startsWith("nft ") === true);
        this.#stoodAtMs = this.#clock.monotonicMs();
        events.received(datagram);
        this.#stoodAtMs = undefined;
        if (isHeard) this.#heard.resolve(this.#look());
      },
    });
  }
}

/** A node with one pod that may neither send nor receive, kept so by a loop that never audits. */
async function withBench(
  run: (bench: Bench) => Promise<void>,
  options: { readonly notificationBytes?: number; readonly look?: (node: Namespace) => unknown } = {},
): Promise<void> {
  const [node, pod, world] = [makeNamespace("node"), makeNamespace("pod"), makeNamespace("world")];
  const abort = new AbortController();
  const reports: Bench["reports"] = [];
  const ears = new Ears(() => (options.look ?? (() => undefined))(node));
  const driver = new NftablesDriver(sysOf(node, options.notificationBytes), { ownsTable: false, clock: ears.clock });
  const loop = new Loop({
    drivers: [driver],
    clock: ears.clock,
    watcher: ears,
    auditIntervalMs: NEVER_MS,
    report: (message, fields) => reports.push({ message, fields }),
  });
  try {
    makeRouter(node);
    connect(node, "world", world);
    routeDefault(node, "world");
    connect(node, "cali0", pod);
    for (const addr of ADDRESSES) routePod(node, "cali0", addr);
    const graph = new Graph({ node: "n1" });
    const resource: Resource<"Pod"> = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "a" },
      spec: { nodeName: "n1", containers: [] },
      status: { podIPs: ADDRESSES.map((ip) => ({ ip })) },
    };
    const closed: Resource<"KubernetesNetworkPolicy"> = {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: "closed", namespace: "a" },
      spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
    };
    graph.update([updateOf("Pod", resource), updateOf("KubernetesNetworkPolicy", closed)]);
    graph.setCniRecord({
      containerId: "c",
      pod: keyOf("Pod", resource),
      interface: "cali0",
      addresses: ADDRESSES as unknown as Addr[],
      mac: "",
      netns: "",
      podInterface: "eth0",
    });
    loop.step(graph.program, graph.flush());
    await loop.start();
    const running = loop.run(abort.signal);
    await run({
      node,
      loop,
      driver,
      pod: new Port(pod, "eth0", HOST_MAC),
      world: new Port(world, "eth0", HOST_MAC),
      reports,
      heard: ears.heard,
    });
    abort.abort();
    await running;
  } finally {
    abort.abort();
    driver.close();
    for (const each of [node, pod, world]) removeNamespace(each);
  }
}

const DATAGRAMS = 20;

/** Sends datagrams out of the pod in both families; how many left the node. */
async function leaked({ pod, world }: Bench): Promise<number> {
  for (let i = 0; i < 2 * DATAGRAMS; i++)
    pod.send(
      {
        source: ADDRESSES[i % 2] as Addr,
        destination: WORLD[i % 2] as Addr,
        protocol: UDP,
        sourcePort: 4000,
        destinationPort: 5000,
      },
      MARK + i,
    );
  await Bun.sleep(20);
  return world.markers().filter((marker) => marker >= MARK && marker < MARK + 2 * DATAGRAMS).length;
}

async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 20_000; !holds(); await Bun.sleep(5))
    if (performance.now() > end) throw new Error("waited 20 s in vain");
}

const COMMANDS = [
  ["flush", "ruleset"],
  ["delete", "table", "inet", "calico"],
  ["flush", "chain", "inet", "calico", "forward"],
  ["insert", "rule", "inet", "calico", "forward", "accept"],
  ["add", "table", "inet", "calico", "{ flags dormant; }"],
];

/** The table as nft prints it. */
function printed(node: Namespace): string {
  return node.run(["nft", "list", "table", "inet", "calico"]).replace(/packets \d+ bytes \d+/g, "");
}

for (const command of COMMANDS)
  test(`nft ${command.join(" ")}: undone in the call in which it is heard, and nothing passes afterwards`, () =>
    withBench(
      async (bench) => {
        const { node, loop, reports, heard } = bench;
        const before = printed(node);
        expect(before).toContain("spoofed");
        expect(await leaked(bench)).toBe(0);
        expect(await Bun.spawn(["ip", "netns", "exec", node.name, "nft", ...command]).exited).toBe(0);
        expect(await heard).toBe(before);
        expect(await leaked(bench)).toBe(0);
        expect(loop.repairs).toBeGreaterThan(0);
        expect(loop.status()[0]).toMatchObject({ pending: 0, error: undefined });
        expect(reports).toMatchObject([
          {
            message: "kernel differs from the program: repairing",
            fields: { driver: "nftables", changedBy: expect.stringMatching(/^nft \(process \d+\)$/) },
          },
        ]);
      },
      { look: printed },
    ));

test("nothing is read again for own commits, nor for what happens to other tables", () =>
  withBench(async ({ node, loop, driver, reports }) => {
    let reads = 0;
    const reading = driver.reading.bind(driver);
    driver.reading = (only) => (reads++, reading(only));
    const graph = new Graph({ node: "n1" });
    loop.step(graph.program, graph.flush());
    node.run([
      "nft",
      "add table inet other; add chain inet other c; add rule inet other c counter; add table ip calico",
    ]);
    // The last change is heard after the others.
    node.run(["nft", "add", "table", "inet", "calico", "{", "chain", "x", "{", "}", ";", "}"]);
    await until(() => loop.repairs > 0);
    expect([reads, loop.repairs, reports.length]).toEqual([1, 1, 1]);
  }));

test("notifications that overflow are a reason to read again, and later ones are heard", () =>
  withBench(
    async ({ node, loop, reports }) => {
      const elements = Array.from({ length: 5_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`).join(", ");
      node.run(
        ["nft", "-f", "-"],
        `add table inet other\nadd set inet other s { type ipv4_addr; }\nadd element inet other s { ${elements} }\ndelete table inet calico\n`,
      );
      await until(() => loop.repairs > 0);
      expect(reports.some(({ fields }) => fields["cause"] === "ENOBUFS")).toBe(true);
      const repairs = loop.repairs;
      node.run(["nft", "delete", "table", "inet", "calico"]);
      await until(() => loop.repairs > repairs);
      expect(node.run(["nft", "list", "table", "inet", "calico"])).toContain("spoofed");
    },
    { notificationBytes: 4096 },
  ));
