/**
 * The table belongs to the daemon while it lives, and stays when it is killed: what another program does to the node's ruleset, and what
 * the death of the daemon and its next start do to the pods' flows. For kernels that let a socket own a table that stays.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { dataplaneEnvironment } from "../dataplane.ts";
import { kernelOwnsTables } from "../kernel/fixture.ts";
import { BareNode } from "./bare-node.ts";
import { type Counted, Datagrams, NONE } from "./datagrams.ts";
import { Lab, list, namespace, type Output, until } from "./fixture.ts";
import { addressesIn, Runtime } from "./runtime.ts";

const lab = new Lab("nftables");
const NS = "owned";
const bare = new BareNode(lab);
bare.environment = dataplaneEnvironment("nftables");
const runtime = new Runtime(lab, bare, NS);
/** Network namespaces and addresses of the pods. */
const paths: Record<string, string> = {};
const addresses: Record<string, readonly string[]> = {};
let datagrams: Datagrams;

const OWNS = kernelOwnsTables();
const deny = {
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "closed", namespace: NS },
  spec: { podSelector: { matchLabels: { app: "closed" } }, policyTypes: ["Ingress"] },
};

const nft = (...words: readonly string[]): Promise<Output> => lab.inNode(bare.asNode, "nft", ...words);

/** Whether the table has an owner; then its handle, which no other table has had, and what is in it, with handles and without counts. */
async function table(): Promise<{ readonly owned: boolean; readonly contents: string }> {
  const { stdout } = await nft("-a", "-s", "list", "table", "inet", "calico");
  return {
    owned: stdout.includes("flags owner"),
    contents: `${/# handle \d+/.exec(stdout)?.[0] ?? "no handle"}\n${stdout.slice(stdout.indexOf("\tset "))}`,
  };
}

async function writes(): Promise<number | undefined> {
  return (await lab.daemon(bare.asNode)).drivers.find(({ name }) => name === "nftables")?.writes;
}

async function arrivedMeanwhile(): Promise<Counted> {
  return (await datagrams.arrivedDuring(async () => undefined)).arrived;
}

/** Pings from the pod that takes no new flows; each answer belongs to the flow that its first request made. Ends with how many were lost. */
function pinging(address: string): () => Promise<string> {
  const child = Bun.spawn(["nsenter", `--net=${paths["closed"]}`, "--", "ping", "-q", "-i0.02", address], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  return async () => {
    child.kill("SIGINT");
    return /\d+% packet loss/.exec(await new Response(child.stdout).text())?.[0] ?? "no answer";
  };
}

describe.skipIf(!OWNS)("the table", () => {
  beforeAll(async () => {
    await lab.up("--dual-stack", "--nodes", "1");
    await bare.up();
    await lab.apply(list(namespace(NS), ...["open", "closed"].map((name) => runtime.pod(name))));
    for (const name of ["open", "closed"]) {
      paths[name] = await runtime.netns(name);
      addresses[name] = addressesIn(
        await until(`ADD of ${name}`, async () => {
          const added = await runtime.cni("ADD", name, paths[name] ?? "", name);
          return added.exitCode === 0 ? added : undefined;
        }),
      ).map((prefix) => prefix.slice(0, prefix.indexOf("/")));
    }
    datagrams = await Datagrams.start(paths["open"] ?? "", paths["closed"] ?? "", addresses["closed"] ?? []);
    await until("datagrams to arrive", async () => Object.values(await arrivedMeanwhile()).every((count) => count > 0));
    await lab.apply(list(deny));
    await until("datagrams to be denied", async () =>
      Object.values(await arrivedMeanwhile()).every((count) => count === 0),
    );
  }, 180_000);

  afterAll(async () => {
    await datagrams?.stop();
    await runtime.down();
    await bare.down();
    await lab.down();
  }, 60_000);

  test("belongs to the daemon alone while it lives: flushing the ruleset changes nothing, in either family, and everyone may read it", async () => {
    const before = await table();
    const written = await writes();
    expect(before.owned).toBe(true);
    const { arrived } = await datagrams.arrivedDuring(async () => {
      expect(await nft("flush", "ruleset")).toMatchObject({ exitCode: 0 });
      for (const command of ["delete table inet calico", "insert rule inet calico forward accept"])
        expect((await nft(command)).stderr).toContain("Operation not permitted");
    });
    expect([arrived, await table(), await writes()]).toEqual([NONE, before, written]);
  }, 60_000);

  test("outlives kill -9, and the next daemon takes it without writing a rule: what is denied stays denied, what is established lives", async () => {
    const before = await table();
    const pings = (addresses["open"] ?? []).map(pinging);
    const { arrived } = await datagrams.arrivedDuring(async () => {
      await bare.kill();
      expect(await table()).toEqual({ ...before, owned: false });
      expect(await arrivedMeanwhile()).toEqual(NONE);
      await bare.start();
      expect(await table()).toEqual(before);
      expect(await writes()).toBe(1);
    });
    expect(arrived).toEqual(NONE);
    for (const stop of pings) expect(await stop()).toBe("0% packet loss");
  }, 60_000);

  test("can be flushed while no daemon lives, and the next one puts it back", async () => {
    await bare.kill();
    expect(await nft("flush", "ruleset")).toMatchObject({ exitCode: 0 });
    await until("datagrams to arrive", async () => Object.values(await arrivedMeanwhile()).every((count) => count > 0));
    await bare.start();
    expect((await table()).owned).toBe(true);
    expect(await arrivedMeanwhile()).toEqual(NONE);
  }, 60_000);
});
