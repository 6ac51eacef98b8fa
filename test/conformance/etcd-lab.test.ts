/**
 * A cluster without Kubernetes on one command, as a user sees it: three hosts on three members of etcd, a machine behind a tap interface on each,
 * policy between machines and hosts in both families; also while the leader does not answer, all members are killed, and history is compacted.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { CALICO_LAB, CALICOCTL, claimName, execute, type Output, releaseName, until } from "./fixture.ts";

const VM1 = ["10.65.0.11", "fd00:65::b"] as const;
const PORT = 8080;
const MEMBERS = ["etcd1", "etcd2", "etcd3"] as const;
let name: string;
let steps = "";
/** On the first host. */
let server: ReturnType<typeof Bun.spawn> | undefined;

beforeAll(async () => {
  name = await claimName();
  const { exitCode, stdout, stderr } = await lab("up", "--datastore", "etcd", "--dual-stack");
  if (exitCode !== 0) throw new Error(`${stderr}${stdout}`);
  steps = stdout;
}, 240_000);

afterAll(async () => {
  server?.kill("SIGKILL");
  await lab("down");
  await releaseName(name);
}, 60_000);

function lab(command: string, ...args: readonly string[]): Promise<Output> {
  return execute([CALICO_LAB, command, "--name", name, ...args]);
}

function ctl(args: string, input: object = {}): Promise<Output> {
  const config = `/run/calico-lab/${name}/calicoctl.cfg`;
  const command = [CALICO_LAB, "node-exec", "--name", name, "n1", "--", CALICOCTL, ...args.split(" "), "-c", config];
  return execute(command, { input: JSON.stringify(input) });
}

async function must(args: string, input?: object): Promise<string> {
  const { exitCode, stdout, stderr } = await ctl(args, input);
  if (exitCode !== 0) throw new Error(`calicoctl ${args}: ${stderr}`);
  return stdout;
}

async function connects(machine: string, address: string): Promise<boolean> {
  const host = address.includes(":") ? `[${address}]` : address;
  const get = ["wget", "-q", "-T", "2", "-t", "1", "-O", "/dev/null", `http://${host}/Apache-2.0`];
  return (await lab("exec", machine, "--", ...get)).exitCode === 0;
}

async function becomes(machine: string, wanted: boolean): Promise<void> {
  for (const address of VM1)
    await until(
      `${machine} → ${address} to be ${wanted ? "allowed" : "denied"}`,
      async () => (await connects(machine, address)) === wanted,
    );
}

/** Machines that may call the first one. */
function allowOnly(machine: string): Promise<string> {
  const icmp = ["ICMP", "ICMPv6"].map((protocol) => ({ action: "Allow", protocol }));
  const source = { selector: `machine == '${machine}'` };
  const ingress = [...icmp, { action: "Allow", protocol: "TCP", source, destination: { ports: [80] } }];
  return must("apply -f -", {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { name: "web", namespace: "default" },
    spec: { selector: "machine == 'vm1'", types: ["Ingress"], ingress },
  });
}

/** Of the lab's processes. */
function pidOf(process: string): number {
  const state = JSON.parse(readFileSync(`/run/calico-lab/${name}/state.json`, "utf8")) as {
    daemons: Record<string, { pid?: number } | undefined>;
  };
  return state.daemons[process]?.pid ?? 0;
}

function signal(member: string, which: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
  const pid = pidOf(member);
  if (pid > 0) process.kill(pid, which);
}

/** What a member says. */
async function ask(member: number, path: string, body: object): Promise<Record<string, unknown>> {
  const post = ["wget", "-qO-", "-T", "3", "-t", "1", `--post-data=${JSON.stringify(body)}`];
  const { stdout } = await lab("node-exec", "n1", "--", ...post, `http://172.30.0.${member}:2379${path}`);
  return stdout === "" ? {} : (JSON.parse(stdout) as Record<string, unknown>);
}

interface MemberStatus {
  readonly header?: { readonly member_id: string; readonly revision: string };
  readonly leader?: string;
}

async function status(member: number): Promise<MemberStatus> {
  return ask(member, "/v3/maintenance/status", {});
}

test("the hosts are in etcd with addresses of both families, and route to each other's machines", async () => {
  const nodes = await must("get nodes -o wide");
  for (const n of [1, 2, 3]) expect(nodes).toMatch(new RegExp(`n${n} .*172\\.30\\.0\\.1${n}/24 +fd00:30::1${n}/64`));
  expect(await must("get workloadendpoints -a")).toContain("10.65.0.12/32,fd00:65::c/128");
  for (const [family, to] of [
    ["-4", VM1[0]],
    ["-6", VM1[1]],
  ] as const) {
    const { stdout } = await lab("node-exec", "n2", "--", "ip", family, "route", "show", "proto", "bird");
    expect(stdout).toContain(to);
  }
});

test("the commands to try do what they say", async () => {
  const commands = steps.split("\n").filter((line) => line.includes(" exec ") && line.includes("wget"));
  expect(commands).toHaveLength(2);
  const codes = await Promise.all(commands.map((line) => execute(["sh", "-c", `${line} >/dev/null`])));
  expect(codes.map(({ exitCode }) => exitCode === 0)).toEqual([true, false]);
  await becomes("vm2", true);
  await becomes("vm3", false);
  expect((await ctl("why default/vm2 default/vm1:80/tcp")).exitCode).toBe(0);
  const { exitCode, stdout } = await ctl("why default/vm3 default/vm1:80/tcp");
  expect([exitCode, stdout]).toEqual([
    1,
    expect.stringContaining("no ingress rule of Calico NetworkPolicy default/web"),
  ]);
}, 60_000);

test("a host endpoint is closed to what is no host, but for ICMP", async () => {
  const serve = ["busybox", "httpd", "-f", "-p", `[::]:${PORT}`, "-h", "/usr/share/common-licenses"];
  const inHost = ["nsenter", `--net=/run/netns/calico-lab.${name}.n1`, "--"];
  server = Bun.spawn([...inHost, ...serve], { stdio: ["ignore", "ignore", "ignore"] });
  const ping = (to: string): Promise<Output> => lab("exec", "vm2", "--", "ping", "-c", "1", "-W", "2", to);
  for (const to of ["172.30.0.11", "fd00:30::11"]) {
    await until(`vm2 to ping ${to}`, async () => (await ping(to)).exitCode === 0);
    const host = to.includes(":") ? `[${to}]` : to;
    const get = ["wget", "-q", "-T", "2", "-t", "1", "-O", "/dev/null", `http://${host}:${PORT}/Apache-2.0`];
    await until(`n2 to reach ${host}`, async () => (await lab("node-exec", "n2", "--", ...get)).exitCode === 0);
    expect((await lab("exec", "vm2", "--", ...get)).exitCode).not.toBe(0);
  }
}, 60_000);

test("the leader does not answer any more: the others elect one, and changes go on", async () => {
  const members = await Promise.all([1, 2, 3].map(status));
  const leader = members.findIndex(({ header, leader }) => header?.member_id === leader) + 1;
  expect(leader).toBeGreaterThan(0);
  const other = leader === 1 ? 2 : 1;
  signal(`etcd${leader}`, "SIGSTOP");
  await until("another leader", async () => {
    const { leader: now, header } = await status(other);
    return header !== undefined && now !== undefined && now !== "0" && now !== members[leader - 1]?.header?.member_id;
  });
  await until("calicoctl to write", async () => allowOnly("vm3").then(Boolean, () => false), 90);
  await becomes("vm3", true);
  await becomes("vm2", false);
  signal(`etcd${leader}`, "SIGCONT");
  await allowOnly("vm2");
  await becomes("vm2", true);
}, 240_000);

test("all members are killed: policy stays; they are back: changes arrive", async () => {
  const before = MEMBERS.map(pidOf);
  for (const member of MEMBERS) signal(member, "SIGKILL");
  for (const address of VM1) {
    expect(await connects("vm2", address)).toBe(true);
    expect(await connects("vm3", address)).toBe(false);
  }
  await until("etcd to be back", () => MEMBERS.every((member, i) => ![0, before[i]].includes(pidOf(member))));
  await until("calicoctl to write", async () => allowOnly("vm3").then(Boolean, () => false), 90);
  await becomes("vm3", true);
  await becomes("vm2", false);
}, 240_000);

test("etcd's history is compacted: changes before and after it arrive", async () => {
  await allowOnly("vm2");
  const revision = (await status(1)).header?.revision;
  expect(revision).toBeDefined();
  const { header } = await ask(1, "/v3/kv/compaction", { revision, physical: true });
  expect(header).toBeDefined();
  await becomes("vm2", true);
  await must("delete networkpolicy web");
  await becomes("vm3", true);
}, 120_000);

test("up again changes nothing, other settings are refused, and down leaves nothing", async () => {
  const before = pidOf("n1-calico");
  expect((await lab("up", "--datastore", "etcd", "--dual-stack")).exitCode).toBe(0);
  expect(pidOf("n1-calico")).toBe(before);
  const { stderr } = await lab("up");
  expect(stderr).toContain("etcd without Kubernetes");
  expect((await lab("up", "--datastore", "etcd", "--api", "kubernetes")).stderr).toContain("exclude each other");
  expect((await lab("down")).exitCode).toBe(0);
  expect(readdirSync("/run/netns").filter((netns) => netns.includes(name))).toEqual([]);
  expect(existsSync(`/run/calico-lab/${name}`)).toBe(false);
}, 120_000);
