/**
 * The verbs of `calicoctl` on the other datastores, every kind, and what is then in them: an etcd that asks for client certificates, with those kinds
 * too that are Kubernetes' elsewhere; and a cluster that has Calico's kinds as `crd.projectcalico.org/v1`.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { load } from "js-yaml";
import { EtcdClient } from "../../src/datastore/etcd/client.ts";
import { encodeKey } from "../../src/datastore/etcd/values.ts";
import { openEtcdStore } from "../../src/datastore/etcd/store.ts";
import {
  answering,
  classicCrds,
  dependencies,
  Etcd,
  makeParties,
  type Party,
  serveKubernetes,
  type Server,
} from "../datastore/servers.ts";
import { API, type Sample, SAMPLES } from "./calicoctl-samples.ts";

const CALICOCTL = `${resolve(import.meta.dir, "../..")}/bin/calicoctl`;

/** What only etcd holds as objects of their own. */
const OWN: readonly Sample[] = [
  {
    kind: "Profile",
    word: "profiles",
    resource: "profiles.projectcalico.org",
    spec: { ingress: [{ action: "Allow" }], labelsToApply: { zone: "a" } },
    change: { egress: [{ action: "Deny" }] },
    wide: "NAME     LABELS   |sample   zone=a   ",
  },
  {
    kind: "Node",
    word: "nodes",
    resource: "nodes.projectcalico.org",
    spec: { bgp: { ipv4Address: "10.0.0.1/24", asNumber: 64513 } },
    change: { bgp: { ipv6Address: "fd00::1/64" } },
    wide: "NAME     ASN     IPV4          IPV6   |sample   64513   10.0.0.1/24          ",
  },
  {
    kind: "WorkloadEndpoint",
    word: "wep",
    resource: "workloadendpoints.projectcalico.org",
    namespace: "shop",
    name: "n1-openstack-vm-eth0",
    spec: {
      node: "n1",
      orchestrator: "openstack",
      workload: "vm",
      endpoint: "eth0",
      interfaceName: "tap1",
      ipNetworks: ["10.65.0.1/32"],
      profiles: ["sample"],
    },
    change: { interfaceName: "tap2" },
    wide: "NAMESPACE   NAME                   WORKLOAD   NODE   NETWORKS       INTERFACE   PROFILES   NATS   |shop        n1-openstack-vm-eth0   vm         n1     10.65.0.1/32   tap1        sample            ",
  },
];

let directory = "";
let client: Party;
let etcd: Etcd;
let raw: EtcdClient;
let cluster: Server;

interface Run {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

async function ctl(
  args: string | readonly string[],
  input = "",
  environment: Record<string, string> = ofFiles(),
): Promise<Run> {
  const child = Bun.spawn([CALICOCTL, ...(typeof args === "string" ? args.split(" ") : args)], {
    stdin: new TextEncoder().encode(input),
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] ?? "", HOME: directory, ...environment },
    cwd: directory,
  });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, error };
}

function ofFiles(): Record<string, string> {
  return {
    DATASTORE_TYPE: "etcdv3",
    ETCD_ENDPOINTS: etcd.endpoint,
    ETCD_CA_CERT_FILE: client.ca,
    ETCD_CERT_FILE: client.cert,
    ETCD_KEY_FILE: client.key,
  };
}

interface Stored {
  readonly labels?: object;
  readonly spec?: object;
}

interface Datastore {
  readonly environment: () => Record<string, string>;
  readonly samples: readonly Sample[];
  /** What the datastore has, as another program sees it; undefined: nothing. */
  readonly stored: (sample: Sample) => Promise<Stored | undefined>;
}

const DATASTORES: Readonly<Record<string, Datastore>> = {
  etcd: {
    environment: ofFiles,
    samples: [...SAMPLES, ...OWN],
    stored: async ({ resource, namespace, name = "sample" }) => {
      const [plural = "", ...group] = resource.split(".");
      const within = namespace === undefined ? "" : `${namespace}/`;
      const found = await stored(`/calico/resources/v3/${group.join(".")}/${plural}/${within}${name}`);
      return found === undefined ? undefined : { ...(found.metadata as Stored), spec: found["spec"] as object };
    },
  },
  "crd.projectcalico.org/v1": {
    environment: () => ({ KUBECONFIG: join(directory, "kubeconfig") }),
    samples: SAMPLES.filter(({ resource }) => resource.endsWith(".projectcalico.org")),
    stored: async ({ resource, namespace, name = "sample" }) => {
      const [plural = ""] = resource.replace("ipamconfigurations", "ipamconfigs").split(".");
      const within = namespace === undefined ? "" : `/namespaces/${namespace}`;
      const path = `/apis/crd.projectcalico.org/v1${within}/${plural}/${name}`;
      const found = (await cluster.call("GET", path)) as {
        code?: number;
        spec?: object;
        metadata: { annotations: Record<string, string> };
      };
      if (found.code === 404) return undefined;
      const written = JSON.parse(found.metadata.annotations["projectcalico.org/metadata"] ?? "") as Stored;
      return { ...written, ...(found.spec === undefined ? {} : { spec: found.spec }) };
    },
  },
};

/** The object that etcd has under the key. */
async function stored(path: string): Promise<{ metadata: object; spec?: object } | undefined> {
  const { kvs } = await raw.range({ operation: "get", kind: "Node", key: undefined }, { key: encodeKey(path) });
  const [kv] = kvs;
  return kv === undefined ? undefined : (JSON.parse(new TextDecoder().decode(kv.value)) as { metadata: object });
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "calicoctl-etcd-"));
  const parties = makeParties(directory);
  ({ client } = parties);
  etcd = new Etcd(parties.server);
  await etcd.start();
  const read = (path: string): string => readFileSync(path, "utf8");
  const tls = { ca: read(client.ca), cert: read(client.cert), key: read(client.key) };
  const access = { endpoints: [etcd.endpoint], tls };
  await answering(openEtcdStore(access, dependencies));
  raw = new EtcdClient(access, dependencies.clock);
  cluster = await serveKubernetes(classicCrds());
  await cluster.call("POST", "/api/v1/namespaces", { metadata: { name: "shop" } });
  const { server, tls: trusted, token } = cluster.access;
  const authority = Buffer.from(trusted.ca).toString("base64");
  const kubeconfig = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster: { server, "certificate-authority-data": authority } }],
    users: [{ name: "u", user: { token } }],
    contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
    "current-context": "c",
  };
  await writeFile(join(directory, "kubeconfig"), JSON.stringify(kubeconfig));
}, 60_000);

afterAll(async () => {
  raw.close();
  await rm(directory, { recursive: true, force: true });
});

describe.each(Object.entries(DATASTORES))(
  "%s: every kind is created, read, changed, labelled and deleted",
  (_, datastore) => {
    const on = (args: string | readonly string[], input?: string): Promise<Run> =>
      ctl(args, input, datastore.environment());
    for (const sample of datastore.samples)
      test(`${sample.word}: ${sample.resource}`, async () => {
        const { kind, word, apiVersion = API, namespace, name = "sample", spec, change, wide } = sample;
        const scope = namespace === undefined ? "" : ` -n ${namespace}`;
        const shown = word === "knp" ? "KubernetesNetworkPolicy" : kind;
        const there = (): Promise<Stored | undefined> => datastore.stored(sample);
        const object = { apiVersion, kind, metadata: { name, labels: { a: "b" } }, spec };
        expect(await on(`create -f -${scope}`, JSON.stringify(object))).toMatchObject({
          code: 0,
          out: `Successfully created 1 '${shown}' resource(s)\n`,
        });
        expect((await on(`create -f -${scope}`, JSON.stringify(object))).error).toContain("resource already exists: ");
        expect(await there()).toMatchObject({ labels: { a: "b" }, spec });
        const json = await on(`get ${word} ${name} -o json${scope}`);
        const found = JSON.parse(json.out) as object;
        expect(found).toMatchObject(object);
        const yaml = await on(`get ${word} ${name} -o yaml${scope}`);
        expect(load(yaml.out)).toEqual(found);
        expect((await on(`get ${word} ${name} -o wide${scope}`)).out).toBe(`${wide.replace("|", "\n")}\n\n`);
        const list = JSON.parse((await on(`get ${word} -o json${scope}`)).out) as { kind: string; items: unknown[] };
        expect(list.items).toContainEqual(found);
        expect(await on(`replace -f -${scope}`, yaml.out)).toMatchObject({ code: 0 });
        const patch = ["patch", word, name, "-p", JSON.stringify({ spec: change }), ...scope.split(" ").slice(1)];
        expect(await on(patch)).toMatchObject({ out: `Successfully patched 1 '${shown}' resource\n`, error: "" });
        expect(await there()).toMatchObject({ spec: change });
        expect((await on(`replace -f -${scope}`, yaml.out)).error).toContain("update conflict: ");
        expect((await on(`label ${word} ${name} x=y${scope}`)).out).toBe(
          `Successfully set label x on ${word} ${name}\n`,
        );
        expect(await there()).toMatchObject({ labels: { a: "b", x: "y" } });
        expect(await on(`apply -f -${scope}`, JSON.stringify(object))).toMatchObject({ code: 0 });
        expect(await there()).toMatchObject({ labels: { a: "b" }, spec });
        expect((await on(`delete ${word} ${name}${scope}`)).out).toBe(
          `Successfully deleted 1 '${shown}' resource(s)\n`,
        );
        expect(await there()).toBeUndefined();
        expect((await on(`get ${word} ${name}${scope}`)).error).toContain(`resource does not exist: ${shown}(`);
      }, 60_000);
  },
);

test("a new policy has what upstream's client gives it: its directions, its tier, the tier's label, and its name in the annotation", async () => {
  const policy = {
    apiVersion: API,
    kind: "GlobalNetworkPolicy",
    metadata: { name: "p" },
    spec: { egress: [{ action: "Deny" }] },
  };
  expect(await ctl("create -f -", JSON.stringify(policy))).toMatchObject({ code: 0 });
  expect(await stored("/calico/resources/v3/projectcalico.org/globalnetworkpolicies/p")).toMatchObject({
    apiVersion: API,
    kind: "GlobalNetworkPolicy",
    metadata: {
      name: "p",
      uid: expect.any(String),
      creationTimestamp: expect.any(String),
      labels: { "projectcalico.org/tier": "default" },
      annotations: { "projectcalico.org/metadata": '{"name":"p"}' },
    },
    spec: { tier: "default", types: ["Egress"], egress: [{ action: "Deny" }] },
  });
  const { out } = await ctl("get gnp p -o json");
  expect((JSON.parse(out) as { metadata: object }).metadata).not.toHaveProperty("annotations");
});

test("the help of every program that has a datastore names the variables", async () => {
  for (const help of [["--help"], ["get", "--help"], ["apply", "--help"]])
    for (const variable of Object.keys(ofFiles())) expect((await ctl(help)).out).toContain(variable);
  const child = Bun.spawn([CALICOCTL.replace(/ctl$/, ""), "node", "--help"], { stdout: "pipe" });
  const out = await new Response(child.stdout).text();
  for (const variable of [...Object.keys(ofFiles()), "CALICO_API_GROUP"]) expect(out).toContain(variable);
});

test("the profile that allows everything is there without being stored, and is not written", async () => {
  expect((await ctl("get profiles")).out).toBe("NAME                          \nprojectcalico-default-allow   \n\n");
  expect((await ctl("delete profile projectcalico-default-allow")).error).toContain("it is built in");
});

test("a CalicoAPIConfig says the same, with files or the certificates themselves", async () => {
  const read = (path: string): string => readFileSync(path, "utf8");
  const configs = {
    files: { etcdCACertFile: client.ca, etcdCertFile: client.cert, etcdKeyFile: client.key },
    inline: { etcdCACert: read(client.ca), etcdCert: read(client.cert), etcdKey: read(client.key) },
  };
  for (const [name, tls] of Object.entries(configs)) {
    const file = join(directory, `${name}.cfg`);
    const spec = { datastoreType: "etcdv3", etcdEndpoints: etcd.endpoint, ...tls };
    await writeFile(file, JSON.stringify({ apiVersion: API, kind: "CalicoAPIConfig", metadata: {}, spec }));
    expect(await ctl(`get tiers -c ${file}`, "", {})).toMatchObject({ code: 0, error: "" });
  }
});

test("why: machines, profiles, host endpoints and staged policies, from etcd alone", async () => {
  const machine = (name: string, address: string, profiles: readonly string[]): object => ({
    apiVersion: API,
    kind: "WorkloadEndpoint",
    metadata: { namespace: "why", labels: { role: name } },
    spec: {
      node: "h1",
      orchestrator: "kvm",
      workload: name,
      endpoint: "eth0",
      interfaceName: `tap-${name}`,
      ipNetworks: [`10.77.0.${address}/32`, `fd00:77::${address}/128`],
      profiles,
    },
  });
  const policy = (kind: string, from: string): object => ({
    apiVersion: API,
    kind,
    metadata: { name: "why", namespace: "why" },
    spec: {
      tier: "why",
      selector: "role == 'served'",
      types: ["Ingress"],
      ingress: [{ action: "Allow", source: { selector: `role == '${from}'` } }],
    },
  });
  const items = [
    { apiVersion: API, kind: "Tier", metadata: { name: "why" }, spec: { order: 1 } },
    {
      apiVersion: API,
      kind: "NetworkPolicy",
      metadata: { name: "out", namespace: "why" },
      spec: { tier: "why", types: ["Egress"], egress: [{ action: "Allow" }] },
    },
    { apiVersion: API, kind: "Profile", metadata: { name: "why-open" }, spec: { egress: [{ action: "Allow" }] } },
    machine("served", "1", ["projectcalico-default-allow"]),
    machine("friend", "2", ["why-open"]),
    machine("stranger", "3", ["why-open"]),
    policy("NetworkPolicy", "friend"),
    policy("StagedNetworkPolicy", "stranger"),
  ];
  expect(await ctl("apply -f -", JSON.stringify({ kind: "List", items }))).toMatchObject({ code: 0 });
  const friend = await ctl("why why/friend why/served:80/tcp");
  expect(friend).toMatchObject({ code: 0 });
  expect(friend.out).toContain("allowed by ingress rule 1 of Calico NetworkPolicy why/why in tier why");
  expect(friend.out).toContain("with StagedNetworkPolicy why/why enforced:");
  expect(await ctl("why why/stranger why/served:80/tcp")).toMatchObject({ code: 1 });
  // Its profile has no rule for what arrives.
  expect(await ctl("why why/friend why/stranger:80/tcp")).toMatchObject({ code: 1 });
  expect(await ctl("delete -f -", JSON.stringify({ kind: "List", items }))).toMatchObject({ code: 0 });
});

test("errors name what is wrong: no certificate, an unknown datastore, nobody there", async () => {
  const { ETCD_CERT_FILE: _, ETCD_KEY_FILE: __, ...anonymous } = ofFiles();
  expect(await ctl("get tiers", "", anonymous)).toMatchObject({
    code: 1,
    error: expect.stringContaining(`etcd at ${etcd.endpoint}: `),
  });
  expect(await ctl("get tiers", "", { DATASTORE_TYPE: "consul" })).toMatchObject({
    code: 1,
    error: 'calicoctl get: Cannot use the datastore: DATASTORE_TYPE is "consul", must be kubernetes or etcdv3\n',
  });
  const both = { ...ofFiles(), KUBECONFIG: "/nowhere" };
  expect(await ctl("why a b", "", both)).toMatchObject({
    code: 2,
    error: expect.stringContaining("Cannot look into etcd and Kubernetes together"),
  });
  expect(await ctl("get tiers", "", { CALICO_API_GROUP: "v3" })).toMatchObject({
    code: 1,
    error:
      'calicoctl get: Cannot use the datastore: CALICO_API_GROUP is "v3", must be projectcalico.org/v3 or crd.projectcalico.org/v1\n',
  });
}, 60_000);
