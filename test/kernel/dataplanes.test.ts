/**
 * The choice of a dataplane, on the machine's kernel: what others left goes, what cannot run is replaced, and what somebody breaks in tables of which
 * the kernel tells is repaired at once.
 */
import { expect, test } from "bun:test";
import { mkdirSync, readdirSync } from "node:fs";
import { Attachments } from "../../src/kernel/bpf/attach.ts";
import { loadProgram } from "../../src/kernel/bpf/program.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { BpfMap } from "../../src/kernel/bpf/map.ts";
import { EPERM } from "../../src/kernel/errno.ts";
import { IpSetClient } from "../../src/kernel/ipset/client.ts";
import { programOf } from "../../src/calc/from-scratch.ts";
import { backendsOf, removeUpstreamTables } from "../../src/dataplane/backends.ts";
import { ChosenDriver } from "../../src/dataplane/chosen.ts";
import { Loop } from "../../src/dataplane/loop.ts";
import { readBpfObject } from "../../src/host/bun/bpf-object.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { openFiles } from "../../src/host/bun/files.ts";
import { openWatcher } from "../../src/host/bun/watcher.ts";
import type { Processes } from "../../src/host/processes.ts";
import type { DataplaneChoice, Program } from "../../src/program/program.ts";
import { randomCluster } from "../property/clusters.ts";
import { type BpfFs, makeBpfFs } from "./bpffs.ts";
import { makeNamespace, type Namespace, processesIn, REAL, removeNamespace, sys } from "./fixture.ts";
import { sysIn } from "./flow-bench.ts";

function programFor(dataplane: DataplaneChoice): Program {
  const cluster = randomCluster(3);
  const program = programOf({ ...cluster, pools: [], node: "n1", interfaces: new Map([["eth0", []]]) });
  return { ...program, settings: { ...program.settings, dataplane } };
}

const NONE = { sets: new Map(), policies: new Map(), endpoints: new Map(), routes: new Map(), members: new Map() };

interface Bench {
  readonly namespace: Namespace;
  readonly fs: BpfFs;
  readonly loop: Loop;
  readonly driver: ChosenDriver;
  readonly reports: string[];
  /** How often a program was started whose command has the word. */
  started(word: string): number;
}

async function withBench(
  dataplane: DataplaneChoice,
  prepare: (namespace: Namespace, fs: BpfFs) => void,
  run: (bench: Bench) => Promise<void>,
  missing = "none",
  refuses: (command: string, input: string) => boolean = () => false,
  unlike: Partial<typeof sys> = {},
): Promise<void> {
  const namespace = makeNamespace("dataplanes");
  const fs = makeBpfFs();
  const end = new AbortController();
  try {
    prepare(namespace, fs);
    const [clock, own, reports, commands] = [openClock(), processesIn(namespace), [] as string[], [] as string[]];
    const processes: Processes = {
      run: (command, options) => {
        commands.push(command.join(" "));
        if (refuses(command.join(" "), options?.input ?? ""))
          return Promise.resolve({
            exitCode: 4,
            stdout: "",
            stderr: "Another app is currently holding the xtables lock",
          });
        return command[0]?.includes(missing) === true
          ? Promise.reject(new Error(`Cannot run ${command[0]}: ENOENT`))
          : own.run(command, options);
      },
    };
    const report = (message: string, fields: object): void => void reports.push(`${message} ${JSON.stringify(fields)}`);
    const inside: typeof sys = { ...sysIn(REAL, namespace), ...unlike };
    const families = new Set([4, 6] as const);
    const ebpf = { files: openFiles(), object: readBpfObject, pins: `${fs.path}/calico` };
    const driver = new ChosenDriver({
      backends: backendsOf({ sys: inside, clock, processes, families, ownsTable: false, report, ebpf }),
      removeForeign: () => removeUpstreamTables(inside),
      processes,
      clock,
      report,
    });
    const loop = new Loop({ drivers: [driver], clock, watcher: openWatcher(), auditIntervalMs: 600_000, report });
    const program = programFor(dataplane);
    const { settings: _settings, ...tables } = program;
    loop.step(program, { ...tables, members: new Map() });
    const running = loop.run(end.signal);
    await loop.start();
    const started = (word: string): number => commands.filter((command) => command.includes(word)).length;
    await run({ namespace, fs, loop, driver, reports, started });
    end.abort();
    await running;
    driver.close();
  } finally {
    end.abort();
    removeNamespace(namespace);
    fs.remove();
  }
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = Date.now() + 20_000;
  while (!isSo()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await Bun.sleep(5);
  }
}

/** As upstream's daemon leaves them, beside rules of others. */
const LEFT = `*filter
:cali-FORWARD - [0:0]
:cali-from-wl-dispatch - [0:0]
:cali-fw-cali1234567890a - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-FORWARD -i cali+ -m comment --comment "cali:8ZoYfO5HKXWbB3pk" -j cali-from-wl-dispatch
-A cali-from-wl-dispatch -i cali1234567890a -m comment --comment "cali:abcdefghijklmnop" -g cali-fw-cali1234567890a
-A cali-fw-cali1234567890a -m comment --comment "cali:ponmlkjihgfedcba" -j DROP
COMMIT
*nat
:cali-POSTROUTING - [0:0]
:cali-nat-outgoing - [0:0]
-A POSTROUTING -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING
-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE
-A cali-POSTROUTING -m comment --comment "cali:Z-c7XtVd2Bq7s_hA" -j cali-nat-outgoing
-A cali-nat-outgoing -s 10.65.0.0/16 -m comment --comment "cali:flqWnvo8yq4ULQLa" -j MASQUERADE
COMMIT
`;

for (const dataplane of ["nftables", "iptables-nft", "iptables-legacy", "ebpf"] as const)
  test(`what upstream's daemon left goes once ${dataplane} is complete; what is others' stays`, async () => {
    await withBench(
      dataplane,
      (namespace, fs) => {
        namespace.run(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far"]);
        namespace.enter(() => attachOthers("uplink", "calico_from_host_ep:[12]", 2));
        namespace.enter(() => attachOthers("uplink", "cali_tc_preamble:[13]", 3));
        namespace.enter(() => attachOthers("uplink", "others"));
        mkdirSync(`${fs.path}/tc/globals`, { recursive: true });
        for (const name of ["cali_v4_ct3", "others"]) pinMap(`${fs.path}/tc/globals/${name}`);
        for (const variant of ["legacy", "nft"]) namespace.run([`iptables-${variant}-restore`], LEFT);
        for (const family of ["ip", "ip6"]) namespace.run(["nft", "add", "table", family, "calico"]);
        namespace.run(["nft", "add", "table", "inet", "others"]);
      },
      async ({ namespace, fs, driver, loop }) => {
        expect(driver.name).toBe(dataplane);
        const filters = namespace.run(["tc", "filter", "show", "dev", "uplink", "ingress"]);
        expect(filters).not.toMatch(/calico_from_host_ep|cali_tc_preamble/);
        expect(filters).toContain("others");
        expect(filters.includes("calico from_network")).toBe(dataplane === "ebpf");
        expect(readdirSync(`${fs.path}/tc/globals`)).toEqual(["others"]);
        await until("it to be written", () => loop.isWritten);
        for (const variant of ["legacy", "nft"]) {
          const saved = namespace.run([`iptables-${variant}-save`]);
          expect(saved).toContain('-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD');
          expect(saved).toContain("-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE");
          expect(saved).not.toContain("cali-nat-outgoing");
          expect(saved).not.toContain("--mark 0x10000/0x10000 -j ACCEPT");
          expect(saved).not.toContain("cali-fw-cali1234567890a");
          expect(saved.includes("-A FORWARD -j cali-FORWARD")).toBe(dataplane === `iptables-${variant}`);
        }
        const tables = namespace.run(["nft", "list", "tables"]).split("\n");
        expect(tables).not.toContain("table ip calico");
        expect(tables).not.toContain("table ip6 calico");
        expect(tables).toContain("table inet others");
        expect(tables.includes("table inet calico")).toBe(dataplane === "nftables");
      },
    );
  }, 60_000);

test("Auto is the variant that the node uses", async () => {
  for (const variant of ["legacy", "nft"] as const)
    await withBench(
      "iptables",
      (namespace) => namespace.run([`iptables-${variant}-restore`], "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"),
      async ({ driver }) => expect(driver.name).toBe(`iptables-${variant}`),
    );
}, 60_000);

test("a dataplane whose programs are missing is told, and nftables stands in for it", async () => {
  await withBench(
    "iptables-legacy",
    () => {},
    async ({ driver, reports, loop }) => {
      expect(driver.name).toBe("nftables");
      expect(driver.failures).toMatchObject([{ row: "dataplane iptables-legacy", state: "failed" }]);
      expect(reports.join("\n")).toContain("iptables-legacy");
      expect([...programFor("iptables-legacy").endpoints.keys()].every((id) => driver.isProgrammed(id))).toBe(true);
      await until("it to be written", () => loop.isWritten);
    },
    "legacy",
  );
}, 60_000);

test("a change that fails leaves the node with what it has, whose policy goes on changing, and nothing of the other", async () => {
  let isRefused = true;
  await withBench(
    "nftables",
    () => {},
    async ({ namespace, driver, loop }) => {
      const before = programFor("nftables");
      const now = programFor("iptables-legacy");
      const none = {
        sets: new Map(),
        policies: new Map(),
        endpoints: new Map(),
        routes: new Map(),
        members: new Map(),
      };
      loop.step(now, { ...none, settings: now.settings });
      await until("the change to fail", () => driver.failures.length > 0 && loop.isWritten);
      expect(driver.name).toBe("nftables");
      expect(driver.failures).toMatchObject([{ row: "dataplane iptables-legacy", state: "failed" }]);
      expect(namespace.run(["iptables-legacy-save"])).not.toContain("cali-");
      const client = namespace.enter(() => new IpSetClient(sys));
      await until("its sets to be gone", () => client.list().length === 0);
      client.close();
      const [first] = [...before.endpoints.keys()];
      if (first === undefined) throw new Error("the program has no endpoint");
      const less = { ...now, endpoints: new Map([...now.endpoints].filter(([id]) => id !== first)) };
      loop.step(less, { ...none, endpoints: new Map([[first, undefined]]) });
      await until("it to be written", () => loop.isWritten);
      expect(namespace.run(["nft", "list", "table", "inet", "calico"])).not.toContain(`"${first}"`);
      // Whoever sets it again has it tried again.
      isRefused = false;
      loop.step(before, {
        ...none,
        settings: before.settings,
        endpoints: new Map([[first, before.endpoints.get(first)]]),
      });
      loop.step(now, { ...none, settings: now.settings });
      await until("the change to be made", () => driver.name === "iptables-legacy" && loop.isWritten);
      expect(driver.failures).toEqual([]);
      expect(namespace.run(["iptables-legacy-save"])).toContain("cali-FORWARD");
    },
    "none",
    (command, input) => isRefused && command.includes("iptables-legacy-restore") && input.includes("cali-"),
  );
}, 60_000);

test("of the nft variant's tables the kernel tells: what others break is repaired at once, what they do elsewhere is not looked at", async () => {
  await withBench(
    "iptables-nft",
    () => {},
    async ({ namespace, loop, started }) => {
      const saves = (): number => started("-save");
      const before = saves();
      namespace.run(["iptables-nft", "-N", "KUBE-SERVICES"]);
      namespace.run(["iptables-nft", "-A", "KUBE-SERVICES", "-j", "RETURN"]);
      const repairs = loop.repairs;
      namespace.run(["ip6tables-nft", "-F", "cali-FORWARD"]);
      await until("the chain to be repaired", () => loop.repairs > repairs && loop.isWritten);
      expect(namespace.run(["ip6tables-nft-save"])).toContain("-A cali-FORWARD ");
      // One look for it, at both families; none for what was before it, and none for the repair itself.
      expect(saves() - before).toBe(2);
      namespace.run(["iptables-nft", "-I", "FORWARD", "1", "-j", "ACCEPT"]);
      await until("the jump to be first again", () => loop.repairs > repairs + 1 && loop.isWritten);
      expect(namespace.run(["iptables-nft-save"])).toContain("-A FORWARD -j cali-FORWARD\n-A FORWARD -j ACCEPT");
    },
  );
}, 60_000);

function pinMap(path: string): void {
  const definition = { name: "m", type: "array", keyBytes: 4, valueBytes: 4, maxEntries: 1, flags: 0 } as const;
  const map = BpfMap.create(sys, definition);
  map.pin(path);
  map.close();
}

/** A program of somebody else at the interface. */
function attachOthers(name: string, label = "others", priority = 1): void {
  const routes = new RouteClient(sys);
  const attachments = new Attachments(sys, { priority, handle: 1 });
  const instructions = Uint8Array.from([0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0]);
  const program = loadProgram(sys, { name: "others", license: "GPL", type: "tc", instructions });
  attachments.attach(routes.linkByName(name)?.index ?? 0, "ingress", program, label);
  sys.close(program);
  attachments.close();
  routes.close();
}

test("what eBPF has left goes when another dataplane is complete: programs, pins and tables; what is others' stays", async () => {
  await withBench(
    "ebpf",
    (namespace) => {
      namespace.run(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far"]);
      namespace.enter(() => attachOthers("far"));
    },
    async ({ namespace, fs, loop, driver }) => {
      const filters = (device: string): string => namespace.run(["tc", "filter", "show", "dev", device, "ingress"]);
      expect(driver.name).toBe("ebpf");
      expect(driver.denied).toEqual({ dataplane: "ebpf", packets: expect.any(Array), missed: 0 });
      expect(filters("uplink")).toContain("calico from_network");
      expect(readdirSync(`${fs.path}/calico`).length).toBeGreaterThan(10);
      const next = programFor("nftables");
      loop.step(next, { ...NONE, settings: next.settings });
      await until("the change to be made", () => driver.name === "nftables" && loop.isWritten);
      expect(driver.failures).toEqual([]);
      expect(filters("uplink")).toBe("");
      expect(filters("far")).toContain("others");
      expect(filters("far")).not.toContain("calico");
      expect(readdirSync(`${fs.path}/calico`)).toEqual([]);
      const tables = namespace.run(["nft", "list", "tables"]);
      expect(tables).not.toMatch(/calico-(ebpf|guard)/);
      expect(tables).toContain("table inet calico\n");
    },
  );
}, 60_000);

test("programs and maps of other versions go once those of this one are attached", async () => {
  await withBench(
    "ebpf",
    (_, fs) => {
      mkdirSync(`${fs.path}/calico`);
      for (const name of ["calico-0-state", "calico-3-lanes", "calico-0123456789ab-from_workload", "others"]) {
        pinMap(`${fs.path}/calico/${name}`);
      }
    },
    async ({ fs, loop }) => {
      await until("it to be written", () => loop.isWritten);
      const names = readdirSync(`${fs.path}/calico`);
      expect(names).toContain("others");
      expect(names).toContain("calico-4-state");
      expect(names).not.toContain("calico-0-state");
      expect(names).not.toContain("calico-3-lanes");
      expect(names).not.toContain("calico-0123456789ab-from_workload");
    },
  );
}, 60_000);

test("eBPF that the kernel refuses is told, and nftables stands in for it", async () => {
  await withBench(
    "ebpf",
    () => {},
    async ({ driver, loop, reports }) => {
      expect(driver.name).toBe("nftables");
      expect(driver.denied).toEqual({ dataplane: "nftables" });
      expect(driver.failures).toMatchObject([{ row: "dataplane ebpf", state: "failed" }]);
      expect(driver.failures[0]?.error).toContain("CAP_BPF");
      expect(reports.join("\n")).toContain("another stands in for it");
      await until("it to be written", () => loop.isWritten);
    },
    "none",
    () => false,
    { bpf: () => -EPERM },
  );
}, 60_000);

test("eBPF on a kernel that counts maps as locked memory", async () => {
  let isLifted = false;
  await withBench(
    "ebpf",
    () => {},
    async ({ driver, loop }) => {
      expect(driver.name).toBe("ebpf");
      await until("it to be written", () => loop.isWritten);
    },
    "none",
    () => false,
    {
      bpf: (...args) => (isLifted ? sys.bpf(...args) : -EPERM),
      setLimit(...args) {
        isLifted = true;
        return sys.setLimit(...args);
      },
    },
  );
}, 60_000);
