/**
 * Upstream's CustomResourceDefinitions in place of ours: a cluster that has them already runs this product as it is.
 *
 * They are not part of this repository: CALICO_UPSTREAM_CRDS names a folder with the files of upstream's `api/config/crd`. Without it
 * these tests are skipped.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { ClusterError, waitFor } from "./cluster/run.ts";
import {
  addressesOf,
  allocations,
  awaitAddressesAgree,
  awaitAnswers,
  awaitReady,
  namespace,
  networkPolicy,
  pod,
  podsWith,
  removeNamespace,
} from "./objects.ts";

const NS = "upstream";
const OURS = new URL("../../manifests/crds", import.meta.url).pathname;
const THEIRS = process.env["CALICO_UPSTREAM_CRDS"] ?? "";
/** What our definitions say of themselves, and upstream's do not. */
const OUR_WORD = "Written by the product only.";
const POOLS = [
  { name: "upstream-ipv4", cidr: "10.67.0.0/24", blockSize: 28 },
  { name: "upstream-ipv6", cidr: "fd00:67::/112", blockSize: 124 },
] as const;
/** Some seconds after a definition was replaced the server ends its watches, and keeps nothing of what was before. */
const WATCH_BEGUN_ANEW =
  /"msg":"Cannot watch (?:IPPool|IPAMBlock): the server answered 410: too old resource version: \d+ \(\d+\)"/;
let cluster: Cluster;

interface Definition {
  readonly metadata: { readonly name: string };
}

/** Upstream has no definition of these; nodes work without. */
const OURS_ALONE: readonly string[] = [
  "adminnetworkpolicies.policy.networking.k8s.io",
  "baselineadminnetworkpolicies.policy.networking.k8s.io",
  "profiles.projectcalico.org",
  "workloadendpoints.projectcalico.org",
];

/** Names of the definitions in a folder, by its file names: `GROUP_PLURAL.yaml`. */
function definitionsOf(folder: string): readonly string[] {
  return readdirSync(folder).flatMap((file) => {
    const [, group, plural] = /^([^_]+)_(.+)\.yaml$/.exec(file) ?? [];
    return group === undefined ? [] : [`${plural}.${group}`];
  });
}

/** Replaces the definitions that are there by those of a folder, and the daemons that have learnt the old ones. */
async function install(folder: string): Promise<void> {
  await cluster.kubectl(["apply", "--server-side", "--force-conflicts", "-f", folder]);
  await cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", folder]);
  const explained = async (): Promise<boolean> =>
    (await cluster.kubectl(["explain", "ipamblock"])).replace(/\s+/g, " ").includes(OUR_WORD);
  await waitFor("the definitions to be in force", 60, async () => (await explained()) === (folder === OURS));
  for (const { name } of cluster.layout.nodes) {
    await cluster.stopDaemon(name, "calico");
    cluster.startDaemon(name, "calico");
  }
  for (const { name } of cluster.layout.nodes)
    await waitFor(
      `calico node of ${name}`,
      60,
      () => cluster.calicoReady(name),
      async () => cluster.daemons.tail(`${name}-calico`),
    );
}

/** The lines of the daemons' logs so far. */
function logLines(): readonly string[] {
  return cluster.layout.nodes.flatMap(({ name }) =>
    readFileSync(cluster.daemons.logFile(`${name}-calico`), "utf8")
      .trim()
      .split("\n"),
  );
}

/** Every stored object of address management, written back as it is, must be taken without a word. Past kubectl, whose own check knows no null in a list. */
async function storedObjectsAreValid(): Promise<void> {
  for (const resource of ["ipamblocks", "blockaffinities", "ipamhandles", "ippools"]) {
    const { items } = await cluster.get<{ items: readonly Definition[] }>([resource]);
    expect(items.length).toBeGreaterThan(0);
    for (const item of items) {
      const path = `/apis/projectcalico.org/v3/${resource}/${item.metadata.name}?dryRun=All&fieldValidation=Strict`;
      // A daemon may have written it meanwhile: then what it wrote is asked about.
      await waitFor(`${path} to be taken`, 10, async () => {
        const now = await cluster.tryKubectl(["get", resource, item.metadata.name, "-o", "json"]);
        const { exitCode, stderr } = await cluster.tryKubectl(["replace", "--raw", path, "-f", "-"], now.stdout);
        if (exitCode !== 0 && !stderr.includes("the object has been modified"))
          throw new ClusterError(`${path}: ${stderr}`);
        return exitCode === 0;
      });
    }
  }
}

function pool({ name, cidr, blockSize }: (typeof POOLS)[number]): object {
  return {
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name },
    spec: { cidr, blockSize, nodeSelector: "all()" },
  };
}

/** Claims, takes, gives back and gives up: every write that address management makes; and policy meanwhile. */
async function everythingWorks(): Promise<void> {
  const known = logLines().length;
  await cluster.apply(...POOLS.map(pool));
  const asking = (name: string, node: string): object => {
    const made = pod({ namespace: NS, name, labels: { app: name }, node }) as { metadata: object };
    return {
      ...made,
      metadata: {
        ...made.metadata,
        annotations: {
          "cni.projectcalico.org/ipv4pools": `["${POOLS[0].name}"]`,
          "cni.projectcalico.org/ipv6pools": `["${POOLS[1].name}"]`,
        },
      },
    };
  };
  await cluster.apply(asking("one", "n1"), asking("two", "n2"), pod({ namespace: NS, name: "other", node: "n2" }));
  const [one, two] = await awaitReady(cluster, NS, ["one", "two", "other"]);
  const [first, second] = [one, two].map((found) => (found === undefined ? (["", ""] as const) : addressesOf(found)));
  if (first === undefined || second === undefined) throw new Error("not all pods are there");
  for (const [ipv4, ipv6] of [first, second])
    expect([ipv4.startsWith("10.67.0."), ipv6.startsWith("fd00:67::")]).toEqual([true, true]);
  await awaitAnswers(cluster, true, NS, "one", second);
  await awaitAnswers(cluster, true, NS, "other", first);
  await cluster.apply(
    networkPolicy({
      namespace: NS,
      name: "one",
      selects: { app: "one" },
      ingress: [{ from: [podsWith({ app: "two" })] }],
    }),
  );
  await awaitAnswers(cluster, false, NS, "other", first);
  await awaitAnswers(cluster, true, NS, "two", first);
  await awaitAddressesAgree(cluster, 120);
  await storedObjectsAreValid();
  await cluster.kubectl(["delete", "networkpolicy.networking.k8s.io", "-n", NS, "one"]);
  await cluster.kubectl(["delete", "pod", "-n", NS, "--all", "--timeout=90s"]);
  await waitFor(
    "the addresses to be given back",
    60,
    async () => !(await allocations(cluster)).some(({ pod: holder }) => holder?.namespace === NS),
  );
  await cluster.kubectl(["delete", "ippool", ...POOLS.map(({ name }) => name)]);
  const left = async (): Promise<string> =>
    (await cluster.kubectl(["get", "ipamblocks,blockaffinities", "-o", "name"]))
      .split("\n")
      .filter((line) => /10-67-0|fd00-67-/.test(line))
      .join(" ");
  await waitFor("the blocks of the pools to be given up", 60, async () => (await left()) === "", left);
  await awaitAddressesAgree(cluster, 120);
  const refused = logLines()
    .slice(known)
    .filter((line) => /invalid|strict decoding|unknown field|cannot/i.test(line) && !WATCH_BEGUN_ANEW.test(line));
  expect(refused).toEqual([]);
}

if (THEIRS === "")
  console.log(
    "upstream's definitions: skipped: CALICO_UPSTREAM_CRDS must name a folder with the files of upstream's api/config/crd",
  );

describe.skipIf(THEIRS === "")("upstream's definitions", () => {
  beforeAll(async () => {
    cluster = await attachCluster();
    await cluster.apply(namespace(NS));
  });

  afterAll(async () => {
    await removeNamespace(cluster, NS);
    await cluster.kubectl(["delete", "ippool", "--ignore-not-found", ...POOLS.map(({ name }) => name)]);
    await install(OURS);
    const foreign = definitionsOf(THEIRS).filter((name) => !definitionsOf(OURS).includes(name));
    await cluster.kubectl(["delete", "crd", "--ignore-not-found", ...foreign]);
  });

  test("take the place of ours: pods, policy, pools, and every write of address management", async () => {
    await install(THEIRS);
    const shared = definitionsOf(OURS).filter((name) => !OURS_ALONE.includes(name));
    expect(definitionsOf(THEIRS)).toEqual(expect.arrayContaining(shared));
    await everythingWorks();
  });

  test("give way to ours again, with what was stored under them", async () => {
    await install(OURS);
    await everythingWorks();
  });
});
