/**
 * What somebody tries who may create pods and policies in one namespace, or who is root in a pod: against the shipped executables. Each
 * says what the attacker does and what becomes of it.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { COLLIDING } from "../kernel/colliding-names.ts";
import { kernelOwnsTables } from "../kernel/fixture.ts";
import { Datagrams, NONE } from "./datagrams.ts";
import { DATAPLANE, Lab, type LabPod, list, namespace, serverPod, until } from "./fixture.ts";
import { countDropped, printRules } from "./rules.ts";

const lab = new Lab();
const MALLORY = "mallory";
const VICTIM = "victim";
let mallory: LabPod;
let victim: LabPod;

beforeAll(async () => {
  await lab.up("--dual-stack");
  await lab.apply(
    list(
      namespace(MALLORY),
      namespace(VICTIM),
      serverPod(MALLORY, "mallory", { app: "m" }, 80, { nodeName: "n1" }),
      serverPod(VICTIM, "victim", { app: "v" }, 80, { nodeName: "n1" }),
    ),
  );
  [mallory] = (await lab.pods(MALLORY, "mallory")) as [LabPod];
  [victim] = (await lab.pods(VICTIM, "victim")) as [LabPod];
}, 180_000);
afterAll(() => lab.down(), 60_000);

function denyAll(of: string, name: string): object {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace: of },
    spec: { podSelector: {}, policyTypes: ["Ingress"] },
  };
}

test("what listens on the node's loopback is not reached by a pod that sends packets for 127.0.0.1 to its gateway", async () => {
  // Its own loopback gives the address up, so that packets for it go out as all others; answers from it would be taken.
  for (const command of [
    ["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"],
    ["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"],
    ["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"],
    ["ip", "-6", "addr", "del", "::1/128", "dev", "lo"],
    ["ip", "-6", "route", "add", "::1/128", "via", "fe80::ecee:eeff:feee:eeee", "dev", "eth0"],
  ]) {
    await lab.inPod(mallory, ...command);
  }
  const node = await lab.node("n1");
  expect((await lab.daemon(node)).inSync).toBe(true);
  for (const address of ["127.0.0.1", "[::1]"]) {
    const answer = await lab.inPod(mallory, "wget", "-qO-", "-T", "2", "-t", "1", `http://${address}:9099/status`);
    expect([answer.exitCode, answer.stdout]).toEqual([4, ""]);
  }
  expect(await countDropped(lab, node, "loopback destination")).toBeGreaterThan(0);
}, 60_000);

test("two policies whose names are made to collide do not stop the policies and pods of others", async () => {
  await lab.apply(list(...COLLIDING.map((name) => denyAll(MALLORY, name))));
  const node = await lab.node("n1");
  await until("the policies to be in the kernel", async () => {
    const metrics = (await lab.inNode(node, "wget", "-qO-", "http://127.0.0.1:9099/metrics")).stdout;
    return /^felix_active_local_policies 2$/m.test(metrics) && !/^calico_dataplane_pending\{.*\} [1-9]/m.test(metrics);
  });
  await lab.must("delete", "networkpolicy", "-n", MALLORY, COLLIDING[0]);
  for (const address of victim.addresses) expect(await lab.connects(mallory, address, 80)).toBe(true);
  await lab.apply(list(denyAll(VICTIM, "deny-all"), serverPod(VICTIM, "late", {}, 80, { nodeName: "n1" })));
  for (const address of victim.addresses)
    await until(`${address} to be closed`, async () => !(await lab.connects(mallory, address, 80)));
  await lab.pods(VICTIM, "late");
  expect(
    (await lab.daemon(await lab.node("n1"))).drivers.filter(({ pending, error }) => pending > 0 || error !== undefined),
  ).toEqual([]);
  await lab.must("delete", "networkpolicy", "-n", MALLORY, COLLIDING[1]);
  await lab.must("delete", "networkpolicy", "-n", VICTIM, "deny-all");
  for (const address of victim.addresses)
    await until(`${address} to be open`, () => lab.connects(mallory, address, 80));
}, 120_000);

const OWNS = ["nftables", "ebpf"].includes(DATAPLANE) && kernelOwnsTables();

test.skipIf(!OWNS)(
  "a flushed ruleset on the node lets nothing pass and writes nothing: the table is the daemon's alone",
  async () => {
    const node = await lab.node("n1");
    // All but the flows cut: the policy's denial may still cut some, whose passes wait for their share of the thread.
    const written = async (): Promise<object> => ({ ...(await lab.daemon(node)), flows: undefined });
    const datagrams = await Datagrams.start(mallory.netns, victim.netns, victim.addresses);
    const passes = (families: readonly boolean[]) => async (): Promise<boolean> => {
      const { arrived } = await datagrams.arrivedDuring(async () => undefined);
      return [arrived.ipv4, arrived.ipv6].every((count, i) => count > 0 === families[i]);
    };
    try {
      await until("datagrams to arrive", passes([true, true]));
      await lab.apply(list(denyAll(VICTIM, "deny-all")));
      await until("them to be denied", passes([false, false]));
      const before = await written();
      const { sent, arrived } = await datagrams.arrivedDuring(async () => {
        for (let i = 0; i < 5; i++) expect((await lab.inNode(node, "nft", "flush", "ruleset")).exitCode).toBe(0);
      });
      expect(arrived).toEqual(NONE);
      expect(Math.min(sent.ipv4, sent.ipv6)).toBeGreaterThan(100);
      expect(await written()).toEqual(before);
      expect(
        (await lab.inNode(node, "nft", "delete", "table", "inet", DATAPLANE === "ebpf" ? "calico-guard" : "calico"))
          .stderr,
      ).toContain("Operation not permitted");
      await lab.must("delete", "networkpolicy", "-n", VICTIM, "deny-all");
      await until("them to arrive again", passes([true, true]));
    } finally {
      await datagrams.stop();
    }
  },
  60_000,
);

// Of x_tables nobody tells.
test.skipIf(OWNS || DATAPLANE === "iptables-legacy")(
  "a flushed ruleset on the node is back before the next audit, and the node says so",
  async () => {
    await lab.apply(list(denyAll(VICTIM, "deny-all")));
    for (const address of victim.addresses)
      await until(`${address} to be closed`, async () => !(await lab.connects(mallory, address, 80)));
    const node = await lab.node("n1");
    const before = await lab.daemon(node);
    await lab.inNode(node, "nft", "flush", "ruleset");
    await until("all to be back", async () => (await printRules(lab, node)).includes(victim.interface));
    for (const address of victim.addresses) expect(await lab.connects(mallory, address, 80)).toBe(false);
    expect((await lab.daemon(node)).commits).toBeGreaterThan(before.commits);
    await lab.must("delete", "networkpolicy", "-n", VICTIM, "deny-all");
    for (const address of victim.addresses)
      await until(`${address} to be open`, () => lab.connects(mallory, address, 80));
  },
  60_000,
);

test("a Pod that never starts does not lend its labels to an address that its annotation names", async () => {
  const friends = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "friends", namespace: VICTIM },
    spec: {
      podSelector: {},
      ingress: [{ from: [{ podSelector: {}, namespaceSelector: { matchLabels: { team: "friends" } } }] }],
    },
  };
  await lab.apply(
    list(
      friends,
      namespace("friends", { team: "friends" }),
      serverPod("friends", "friend", {}, 80, { nodeName: "n2" }),
    ),
  );
  const [friend] = (await lab.pods("friends", "friend")) as [LabPod];
  for (const address of victim.addresses) {
    await until(`${address} to be open to friends`, () => lab.connects(friend, address, 80));
    await until(`${address} to be closed`, async () => !(await lab.connects(mallory, address, 80)));
  }
  const annotations = {
    "cni.projectcalico.org/podIPs": mallory.addresses
      .map((address) => `${address}/${address.includes(":") ? 128 : 32}`)
      .join(","),
  };
  const ghost = serverPod("friends", "ghost", {}, 80, { nodeName: "no-such-node" }) as { metadata: object };
  await lab.apply(list({ ...ghost, metadata: { ...ghost.metadata, annotations } }));
  // A change that came after the Pod: once it counts, the Pod has been heard of too.
  await lab.apply(list(serverPod("friends", "later", {}, 80, { nodeName: "n2" })));
  const [later] = (await lab.pods("friends", "later")) as [LabPod];
  for (const address of victim.addresses) {
    await until(`${address} to be open to the later friend`, () => lab.connects(later, address, 80));
    expect(await lab.connects(mallory, address, 80)).toBe(false);
  }
}, 120_000);
