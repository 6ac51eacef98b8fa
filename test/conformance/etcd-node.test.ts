/**
 * A machine without Kubernetes: `calico node` on etcd alone, by TLS with a client certificate, and what `calicoctl` writes deciding real packets of
 * both families at its host endpoint; also while etcd is away, slow, or has forgotten its history.
 */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { answering } from "../datastore/servers.ts";
import { type EtcdHost, openEtcdHost } from "./etcd-host.ts";
import { CALICO, CALICOCTL, claimName, execute, MEMORY, type Output, releaseName, until } from "./fixture.ts";

const NODE = "host1";
const SERVED = 80;
const OTHER = 81;
const FRIEND = { 4: "192.0.2.11", 6: "2001:db8::11" } as const;
const STRANGER = { 4: "192.0.2.12", 6: "2001:db8::12" } as const;
const HOST = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
const FAMILIES = [4, 6] as const;

let name: string;
let root: string;
let host: EtcdHost;
let environment: Readonly<Record<string, string>>;
let daemon: ReturnType<typeof Bun.spawn> | undefined;
const servers: ReturnType<typeof Bun.spawn>[] = [];

async function must(...command: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await execute(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout;
}

function inNetns(which: "host" | "peer", ...command: readonly string[]): readonly string[] {
  return ["ip", "netns", "exec", `${name}-${which}`, ...command];
}

async function ctl(args: string, input: object = {}): Promise<Output> {
  return execute([CALICOCTL, ...args.split(" ")], { input: JSON.stringify(input), env: environment });
}

async function apply(
  kind: string,
  metadata: { name: string; labels?: Record<string, string> },
  spec: object,
): Promise<void> {
  const { exitCode, stderr } = await ctl("apply -f -", { apiVersion: "projectcalico.org/v3", kind, metadata, spec });
  if (exitCode !== 0) throw new Error(stderr);
}

/** Allows what the set's members send to the port. */
function allow(port: number): Promise<void> {
  const source = { selector: "role == 'friend'" };
  const ingress = FAMILIES.map((ipVersion) => ({
    action: "Allow",
    ipVersion,
    protocol: "TCP",
    source,
    destination: { ports: [port] },
  }));
  return apply("GlobalNetworkPolicy", { name: "friends" }, { selector: "has(host)", types: ["Ingress"], ingress });
}

function setFriends(...who: readonly (typeof FRIEND | typeof STRANGER)[]): Promise<void> {
  const nets = who.flatMap((each) => [`${each[4]}/32`, `${each[6]}/128`]);
  return apply("GlobalNetworkSet", { name: "friends", labels: { role: "friend" } }, { nets });
}

async function connects(from: string, to: string, port: number): Promise<boolean> {
  const host = to.includes(":") ? `[${to}]` : to;
  const get = ["wget", "-q", "-T", "1", "-t", "1", `--bind-address=${from}`, "-O", "/dev/null"];
  return (await execute(inNetns("peer", ...get, `http://${host}:${port}/Apache-2.0`))).exitCode === 0;
}

async function becomes(from: typeof FRIEND | typeof STRANGER, port: number, wanted: boolean): Promise<void> {
  for (const family of FAMILIES)
    await until(
      `${from[family]} → ${port} to be ${wanted ? "allowed" : "denied"}`,
      async () => (await connects(from[family], HOST[family], port)) === wanted,
    );
}

async function is(from: typeof FRIEND | typeof STRANGER, port: number, wanted: boolean): Promise<void> {
  for (const family of FAMILIES) expect(await connects(from[family], HOST[family], port)).toBe(wanted);
}

interface Status {
  readonly inSync: boolean;
  readonly datastore: string;
}

async function status(): Promise<Status | undefined> {
  const { stdout } = await execute(
    inNetns("host", "wget", "-qO-", "-T", "5", "-t", "1", "http://127.0.0.1:9099/status"),
  );
  return stdout === "" ? undefined : (JSON.parse(stdout) as Status);
}

async function startDaemon(): Promise<void> {
  const log = openSync(`${root}/calico.log`, "a");
  daemon = Bun.spawn([...inNetns("host", CALICO, "node", "--node-name", NODE, "--root", root)], {
    stdin: "ignore",
    stdout: log,
    stderr: log,
    env: { PATH: process.env["PATH"] ?? "", ...environment },
  });
  await until("the daemon to be in sync", async () => (await status())?.inSync);
}

async function killDaemon(): Promise<void> {
  daemon?.kill("SIGKILL");
  await daemon?.exited;
}

/** `host` and `peer` on one link. */
async function makeNetwork(): Promise<void> {
  const link = async (netns: string, ...addresses: readonly string[]): Promise<void> => {
    for (const address of addresses)
      await must("ip", "-n", netns, "addr", "add", address, "dev", "eth0", ...(address.includes(":") ? ["nodad"] : []));
    await must("ip", "-n", netns, "link", "set", "eth0", "up");
  };
  for (const which of ["host", "peer"]) {
    await must("ip", "netns", "add", `${name}-${which}`);
    await must("ip", "-n", `${name}-${which}`, "link", "set", "lo", "up");
  }
  const [host, peer] = [`${name}-host`, `${name}-peer`];
  await must("ip", "-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer);
  await link(host, `${HOST[4]}/24`, `${HOST[6]}/64`);
  await link(peer, ...[FRIEND, STRANGER].flatMap((each) => [`${each[4]}/24`, `${each[6]}/64`]));
}

beforeAll(async () => {
  name = await claimName();
  root = `${MEMORY}/${name}-root`;
  mkdirSync(root);
  await makeNetwork();
  host = await openEtcdHost(name, `${name}-host`, "eth1");
  ({ environment } = host);
  for (const port of [SERVED, OTHER]) {
    const serve = ["busybox", "httpd", "-f", "-p", `[::]:${port}`, "-h", "/usr/share/common-licenses"];
    servers.push(Bun.spawn([...inNetns("host", ...serve)], { stdout: "ignore", stderr: "ignore" }));
  }
  await becomes(STRANGER, OTHER, true);
  await startDaemon();
}, 120_000);

afterEach(async () => {
  host.proxy.delayMs = 0;
});

afterAll(async () => {
  await killDaemon();
  for (const server of servers) server.kill("SIGKILL");
  await host.close();
  await releaseName(name);
  rmSync(root, { recursive: true, force: true });
}, 60_000);

test("without a host endpoint everything passes; the daemon has made its Node", async () => {
  await is(STRANGER, OTHER, true);
  await until("the Node", async () => (await ctl("get nodes")).stdout.includes(NODE));
});

test("a host endpoint, a policy and a set, written by calicoctl, decide both families", async () => {
  // Without neighbor discovery there is no IPv6.
  const discovery = [{ action: "Allow", protocol: "ICMPv6" }];
  await apply(
    "GlobalNetworkPolicy",
    { name: "discovery" },
    { selector: "has(host)", ingress: discovery, egress: discovery },
  );
  await setFriends(FRIEND);
  await allow(SERVED);
  await apply(
    "HostEndpoint",
    { name: "host1-eth0", labels: { host: "1" } },
    {
      node: NODE,
      interfaceName: "eth0",
      expectedIPs: [HOST[4], HOST[6]],
    },
  );
  await becomes(STRANGER, SERVED, false);
  await becomes(FRIEND, SERVED, true);
  await is(FRIEND, OTHER, false);
  await is(STRANGER, OTHER, false);
  await setFriends(FRIEND, STRANGER);
  await becomes(STRANGER, SERVED, true);
  await setFriends(FRIEND);
  await becomes(STRANGER, SERVED, false);
}, 120_000);

test("etcd is killed: policy stays; it is back: what was written then arrives", async () => {
  await host.etcd.kill();
  await until("the daemon to miss etcd", async () => (await status())?.datastore === "connecting");
  await is(FRIEND, SERVED, true);
  await is(STRANGER, SERVED, false);
  await host.etcd.start();
  await answering(host.store);
  await allow(OTHER);
  await becomes(FRIEND, OTHER, true);
  await becomes(FRIEND, SERVED, false);
  await until("the daemon to be in sync", async () => (await status())?.datastore === "in-sync");
}, 120_000);

test("etcd forgets what it changed while the daemon did not reach it: the daemon lists again", async () => {
  await host.proxy.stop();
  await until("the daemon to miss etcd", async () => (await status())?.datastore === "connecting");
  const before = environment;
  environment = { ...environment, ETCD_ENDPOINTS: host.etcd.endpoint };
  await allow(SERVED);
  await setFriends(STRANGER);
  environment = before;
  await host.store.compact();
  await is(FRIEND, OTHER, true);
  await host.proxy.start();
  await becomes(STRANGER, SERVED, true);
  expect(readFileSync(`${root}/calico.log`, "utf8")).toContain("etcd keeps nothing before revision");
  await becomes(FRIEND, OTHER, false);
  await becomes(FRIEND, SERVED, false);
  await setFriends(FRIEND);
  await becomes(FRIEND, SERVED, true);
}, 120_000);

test("a slow etcd delays changes and loses none", async () => {
  host.proxy.delayMs = 700;
  await setFriends(STRANGER);
  await becomes(STRANGER, SERVED, true);
  await becomes(FRIEND, SERVED, false);
}, 120_000);

test("the daemon is killed: policy stays, and what was deleted meanwhile goes when it is back", async () => {
  await killDaemon();
  await setFriends(FRIEND);
  await is(STRANGER, SERVED, true);
  await startDaemon();
  await becomes(STRANGER, SERVED, false);
  await becomes(FRIEND, SERVED, true);
  await killDaemon();
  expect((await ctl("delete hep host1-eth0")).exitCode).toBe(0);
  await is(STRANGER, SERVED, false);
  await startDaemon();
  await becomes(STRANGER, SERVED, true);
}, 120_000);

test("neither log nor output has a secret", async () => {
  expect(host.secret.length).toBeGreaterThan(20);
  expect(readFileSync(`${root}/calico.log`, "utf8")).not.toContain(host.secret);
});
