/**
 * copies: copies of two pods, client and server, that stand side by side with different dataplanes, on one node or on two: measured in turn, they
 * bear the same load of the machine.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { awaitSteps } from "../../src/dataplane/driver.ts";
import type { EbpfDriver } from "../../src/dataplane/ebpf/driver.ts";
import { Attachments } from "../../src/kernel/bpf/attach.ts";
import { loadProgram } from "../../src/kernel/bpf/program.ts";
import { readSysctl, writeSysctl } from "../../src/kernel/sysctl.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { Program } from "../../src/program/program.ts";
import { wholeOf } from "../kernel/dataplane-node.ts";
import { openEbpf } from "../kernel/ebpf-driver.ts";
import { makeNamespace, type Namespace, REAL, removeNamespace, sys } from "../kernel/fixture.ts";
import { sysIn } from "../kernel/flow-bench.ts";
import { connect, HOST_MAC, makeRouter, routePod } from "../kernel/pods.ts";
import { percentile, ratio } from "./figures.ts";

export const [CLIENT, SERVER] = ["10.65.0.1", "10.65.0.2"] as readonly string[] as readonly [Addr, Addr];

export function makePod(node: Namespace, pod: Namespace, name: string, address: Addr): void {
  connect(node, name, pod);
  routePod(node, name, address);
  pod.run(["ip", "addr", "add", `${address}/32`, "dev", "eth0"]);
  pod.run(["ip", "route", "add", "169.254.1.1", "dev", "eth0"]);
  pod.run(["ip", "neigh", "add", "169.254.1.1", "lladdr", HOST_MAC, "dev", "eth0", "nud", "permanent"]);
  pod.run(["ip", "route", "add", "default", "via", "169.254.1.1"]);
  pod.run(["ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off"]);
}

/**
 * How the copies of the two pods differ: nothing but routing; eBPF, past the host stack and through it; on one node also a program that looks at
 * nothing and redirects, which is the least that the way past the host stack can cost.
 */
export const WAYS = ["plain", "past the host stack", "through the host stack", "redirected unseen"] as const;
export type Way = (typeof WAYS)[number];
/** Of one second for each copy. */
const ROUNDS = 15;

export interface Copy {
  readonly way: Way;
  readonly namespaces: readonly Namespace[];
  readonly server: { readonly pid: number; readonly kill: () => void };
  readonly drivers: readonly EbpfDriver[];
  /** Microseconds of CPU. */
  readonly figures: number[];
}

/** A pair between two nodes, with a route of each to the other's pod. */
function connectNodes(one: Namespace, other: Namespace): void {
  one.run(["ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", other.name]);
  for (const [node, own, via, pod] of [
    [one, "172.31.0.1/30", "172.31.0.2", SERVER],
    [other, "172.31.0.2/30", "172.31.0.1", CLIENT],
  ] as const) {
    node.run(["ip", "addr", "add", own, "dev", "wire"]);
    node.run(["ip", "link", "set", "wire", "up"]);
    node.run(["ip", "route", "add", pod, "via", via]);
  }
}

export interface CopyOptions {
  readonly way: Way;
  readonly nodes: 1 | 2;
  /** A directory of a bpffs. */
  readonly pins: string;
  readonly programOf: (pods: readonly (readonly [name: string, address: Addr])[]) => Program;
  /** What listens in the server's network namespace, at that port. */
  readonly startServer: (netns: string, port: number) => Copy["server"];
  readonly port: number;
}

/** `r1 = interface; r2 = 0; call bpf_redirect_peer; exit`. */
function redirection(to: number): Uint8Array {
  const code = Uint8Array.from(
    [
      [0xb7, 1, 0, 0, 0, 0, 0, 0],
      [0xb7, 2, 0, 0, 0, 0, 0, 0],
      [0x85, 0, 0, 0, 155, 0, 0, 0],
      [0x95, 0, 0, 0, 0, 0, 0, 0],
    ].flat(),
  );
  new DataView(code.buffer).setInt32(4, to, true);
  return code;
}

/** What either pod sends goes into the other one. */
function redirectUnseen(node: Namespace): void {
  const [one, other] = ["cali0", "cali1"].map((name) =>
    Number(node.run(["cat", `/sys/class/net/${name}/ifindex`])),
  ) as [number, number];
  const attachments = new Attachments(sysIn(REAL, node), { priority: 1, handle: 1 });
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    const program = loadProgram(sys, { name: "unseen", license: "GPL", type: "tc", instructions: redirection(to) });
    attachments.attach(from, "ingress", program, "unseen");
    sys.close(program);
  }
  attachments.close();
}

export async function makeCopy({ way, nodes, pins, programOf, startServer, port }: CopyOptions): Promise<Copy> {
  const [client, server] = [makeNamespace("client"), makeNamespace("server")];
  const on = Array.from({ length: nodes }, () => makeNamespace("bench"));
  const [first, last] = [on[0], on.at(-1)] as [Namespace, Namespace];
  on.forEach(makeRouter);
  makePod(first, client, "cali0", CLIENT);
  makePod(last, server, "cali1", SERVER);
  if (first !== last) connectNodes(first, last);
  const pods = [["cali0", CLIENT] as const, ["cali1", SERVER] as const];
  const drivers = on.flatMap((node, i) => {
    if (way === "redirected unseen") redirectUnseen(node);
    if (way === "plain" || way === "redirected unseen") return [];
    const own = `${pins}/${way.split(" ")[0]}-${nodes}-${i}`;
    mkdirSync(own);
    const driver = openEbpf(node, own);
    const program = programOf(nodes === 1 ? pods : pods.slice(i, i + 1));
    driver.lower(program, wholeOf(program));
    return [driver];
  });
  for (const driver of drivers) await awaitSteps(driver.committing());
  const listening = startServer(server.path, port);
  while (!server.run(["ss", "-Hltn"]).includes(`:${port} `)) await Bun.sleep(10);
  return { way, namespaces: [client, server, ...on], server: listening, drivers, figures: [] };
}

/** Nanoseconds of a run of the program that receives what the client sends, while the kernel counts them: which costs some more. */
export async function programNanoseconds({ drivers }: Copy, run: () => Promise<unknown>): Promise<number> {
  const SETTING = "kernel/bpf_stats_enabled";
  const fd = drivers[0]?.maps.programs.get("from_workload")?.fd ?? -1;
  const before = readSysctl(sys, SETTING) ?? "0";
  const count = (): readonly [nanoseconds: number, runs: number] => {
    const text = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
    const of = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)?.[1]);
    return [of("run_time_ns"), of("run_cnt")];
  };
  writeSysctl(sys, SETTING, "1");
  try {
    const [time, runs] = count();
    await run();
    const [lastTime, lastRuns] = count();
    return (lastTime - time) / (lastRuns - runs);
  } finally {
    writeSysctl(sys, SETTING, before);
  }
}

/** What measures a copy. */
export type At = {
  readonly netns: string;
  readonly address: string;
  readonly seconds: number;
  readonly serverPid: number;
};

/** The client's end of the copy. */
export function atOf({ server, namespaces }: Copy): At {
  const netns = (namespaces[0] as Namespace).path;
  return { netns, address: SERVER, seconds: 1, serverPid: server.pid };
}

/** Measures each copy in turn. */
export async function measureInTurn(copies: readonly Copy[], measure: (at: At) => Promise<number>): Promise<void> {
  for (let i = 0; i < ROUNDS; i++)
    for (let j = 0; j < copies.length; j++) {
      const copy = copies[(i + j) % copies.length] as Copy;
      copy.figures.push(await measure(atOf(copy)));
    }
}

export function removeCopies(copies: readonly Copy[]): void {
  for (const { server, drivers, namespaces } of copies) {
    server.kill();
    for (const driver of drivers) driver.close();
    for (const each of namespaces) removeNamespace(each);
  }
}

/** Prints how often the figures of one way are those of the other, of medians and of the rounds' own ratios. */
export function compare(title: string, copies: readonly Copy[], [one, other]: readonly [Way, Way], aim: string): void {
  const of = (way: Way): readonly number[] => copies.find((copy) => copy.way === way)?.figures ?? [];
  const rounds = of(one).map((value, i) => value / (of(other)[i] ?? Number.NaN));
  const quartiles = [0.25, 0.75].map((at) => percentile(rounds, at).toFixed(2)).join("–");
  const what = `${title}: ${one} : ${other}`;
  ratio(`${what} (of medians)`, percentile(of(one), 0.5) / percentile(of(other), 0.5), aim);
  ratio(`${what} (median of rounds, quartiles ${quartiles})`, percentile(rounds, 0.5), aim);
}
