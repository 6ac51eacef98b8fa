/** What the product's definitions are to a real API server, and that the embedded API judges by rules in CEL as the real one does. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { CALICO_ADMISSION } from "../../lab/apiserver/admission.ts";
import { TestServer } from "../../lab/apiserver/test-client.ts";
import { KINDS } from "../../src/model/kind.ts";
import { CRDS } from "../../src/model/kinds/crds.ts";
import { arrayAt, cloneJson, fieldAt, type JsonObject, stringAt } from "../../src/model/schema/json.ts";
import { POLICY_CASES } from "../kinds/policies.ts";
import { RULE_CASES } from "../kinds/rules.ts";
import { SETTINGS_CASES } from "../kinds/settings.ts";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { waitFor } from "./cluster/run.ts";
import { awaitReady, namespace, pod, removeNamespace } from "./objects.ts";
import { PROBE_CHANGES, PROBE_DEFINITION, PROBE_PATH, PROBES, WRONG_RULES } from "./probe.ts";

const MANIFESTS = new URL("../../manifests", import.meta.url).pathname;
const DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const POOLS = "/apis/projectcalico.org/v3/ippools";
const NS = "columns";
const SETTINGS = [
  {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMConfiguration",
    metadata: { name: "default" },
    spec: { strictAffinity: false, autoAllocateBlocks: true },
  },
  {
    apiVersion: "projectcalico.org/v3",
    kind: "IPReservation",
    metadata: { name: "columns" },
    spec: { reservedCIDRs: ["10.98.0.0/24"] },
  },
];
const embedded = new TestServer({ admission: CALICO_ADMISSION });
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  await embedded.start();
  // A pod, for the objects of address management, and settings of which there are none by themselves.
  await cluster.apply(namespace(NS));
  await cluster.apply(pod({ namespace: NS, name: "one", node: "n1" }), ...SETTINGS);
  await awaitReady(cluster, NS, ["one"]);
  for (const definition of CRDS) expect((await embedded.call("POST", DEFINITIONS, plain(definition))).status).toBe(201);
});

afterAll(async () => {
  await embedded.close();
  await cluster.kubectl(["delete", "ipamconfiguration/default", "ipreservation/columns"]);
  await removeNamespace(cluster, NS);
});

function plain(value: object): JsonObject {
  return JSON.parse(JSON.stringify(value)) as JsonObject;
}

function pool(name: string, spec: JsonObject): JsonObject {
  return { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec };
}

/** What Kubernetes has against creating the object, one line for each thing, sorted; empty when it takes it. */
/** Whether the name is taken, a built-in tier's say, is asked of an object that is judged already. */
async function realRefusal(path: string, object: JsonObject): Promise<readonly string[]> {
  const lines = linesOf(
    await cluster.tryKubectl(["create", "--raw", `${path}?dryRun=All`, "-f", "-"], JSON.stringify(object)),
  );
  return lines.filter((line) => !line.startsWith("Error from server (AlreadyExists)"));
}

/** The same for a merge patch. */
async function realPatchRefusal(resource: string, name: string, patch: JsonObject): Promise<readonly string[]> {
  return linesOf(
    await cluster.tryKubectl([
      "patch",
      resource,
      name,
      "--dry-run=server",
      "--type=merge",
      "-p",
      JSON.stringify(patch),
    ]),
  );
}

/** kubectl prints one cause behind the heading, several on lines of their own. */
function linesOf({ exitCode, stderr }: { readonly exitCode: number; readonly stderr: string }): readonly string[] {
  if (exitCode === 0) return [];
  const text = stderr.trim().replace(/^The \w+ "[^"]*" is invalid:\s*/, "");
  return text
    .split(/\n?^\* /m)
    .filter((line) => line !== "")
    .sort();
}

/** What the embedded API has against a request, in the same form. */
function embeddedRefusal(method: "POST" | "PATCH", path: string, object: JsonObject): Promise<readonly string[]> {
  return refusalOf(embedded, method, path, object);
}

async function refusalOf(
  server: TestServer,
  method: "POST" | "PATCH",
  path: string,
  object: JsonObject,
): Promise<readonly string[]> {
  const { status, body } = await server.call(
    method,
    `${path}?dryRun=All`,
    object,
    method === "PATCH" ? { type: "application/merge-patch+json" } : {},
  );
  if (status < 300) return [];
  return arrayAt(fieldAt(body, "details", "causes"))
    .map((cause) => `${stringAt(fieldAt(cause, "field"))}: ${stringAt(fieldAt(cause, "message"))}`)
    .sort();
}

describe("CustomResourceDefinitions", () => {
  test("load again without any warning", async () => {
    const { exitCode, stderr } = await cluster.tryKubectl(["apply", "--server-side", "-f", `${MANIFESTS}/crds`]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  });

  test("are accepted whole: names, schema, storage", async () => {
    interface Definition {
      readonly metadata: { readonly name: string };
      readonly status: {
        readonly conditions: readonly { readonly type: string; readonly status: string; readonly message: string }[];
      };
    }
    const { items } = await cluster.get<{ items: readonly Definition[] }>(["crds"]);
    expect(items.length).toBeGreaterThanOrEqual(4);
    for (const { metadata, status } of items) {
      const conditions = Object.fromEntries(status.conditions.map((condition) => [condition.type, condition.status]));
      expect({ name: metadata.name, ...conditions }).toMatchObject({
        name: metadata.name,
        Established: "True",
        NamesAccepted: "True",
      });
      // Kubernetes says here what its structural schema rules do not allow.
      expect(conditions["NonStructuralSchema"]).toBeUndefined();
    }
  });

  test.each([
    ["ippools", "NAME CIDR VXLAN IPIP NAT ALLOCATABLE AGE"],
    ["blockaffinities", "NAME CIDR NODE TYPE"],
    ["ipamblocks", "NAME CIDR AFFINITY CLAIMTIME"],
    ["ipamhandles", "NAME ID"],
    ["clusterinformations", "NAME VERSION READY TYPES"],
    ["kubecontrollersconfigurations", "NAME AGE"],
    ["ipamconfigurations", "NAME STRICTAFFINITY MAXBLOCKSPERHOST AUTOALLOCATEBLOCKS"],
    ["ipreservations", "NAME AGE"],
  ])("print the columns that users know: %s", async (resource, columns) => {
    const [heading = "", ...rows] = (await cluster.kubectl(["get", resource])).trim().split("\n");
    expect(heading.split(/\s+/).join(" ")).toBe(columns);
    expect(rows.length).toBeGreaterThan(0);
  });

  test("judge policies in the embedded API as in Kubernetes", async () => {
    const bare = new TestServer();
    await bare.start();
    try {
      for (const definition of CRDS) expect((await bare.call("POST", DEFINITIONS, plain(definition))).status).toBe(201);
      for (const { kind, object } of [...RULE_CASES, ...POLICY_CASES, ...SETTINGS_CASES]) {
        const { apiVersion, plural, namespaced } = KINDS[kind];
        const path = `/apis/${apiVersion}/${namespaced ? "namespaces/default/" : ""}${plural}`;
        expect(await refusalOf(bare, "POST", path, object)).toEqual(await realRefusal(path, object));
      }
    } finally {
      await bare.close();
    }
  }, 300_000);

  test("print the pools of both families", async () => {
    const text = await cluster.kubectl(["get", "ippools"]);
    expect(text).toContain("10.65.0.0/16");
    expect(text).toContain("fd00:65::/48");
  });

  test("have the names that users know", async () => {
    const lines = (await cluster.kubectl(["api-resources", "--api-group=projectcalico.org", "--no-headers"]))
      .trim()
      .split("\n");
    expect(lines.map((line) => line.split(/\s+/).join(" ")).sort()).toEqual([
      "blockaffinities affinity,affinities projectcalico.org/v3 false BlockAffinity",
      "clusterinformations clusterinfo,clusterinfos projectcalico.org/v3 false ClusterInformation",
      "felixconfigurations felixconfig,felixconfigs projectcalico.org/v3 false FelixConfiguration",
      "globalnetworkpolicies gnp,cgnp,calicoglobalnetworkpolicies projectcalico.org/v3 false GlobalNetworkPolicy",
      "globalnetworksets gns,gnetset,gnetsets projectcalico.org/v3 false GlobalNetworkSet",
      "hostendpoints hep,heps projectcalico.org/v3 false HostEndpoint",
      "ipamblocks projectcalico.org/v3 false IPAMBlock",
      "ipamconfigurations ipamconfig,ipamconfigs projectcalico.org/v3 false IPAMConfiguration",
      "ipamhandles projectcalico.org/v3 false IPAMHandle",
      "ippools projectcalico.org/v3 false IPPool",
      "ipreservations projectcalico.org/v3 false IPReservation",
      "kubecontrollersconfigurations kcc,kccs projectcalico.org/v3 false KubeControllersConfiguration",
      "networkpolicies cnp,caliconetworkpolicy projectcalico.org/v3 true NetworkPolicy",
      "networksets netset,netsets projectcalico.org/v3 true NetworkSet",
      "nodepolicystatuses projectcalico.org/v3 false NodePolicyStatus",
      "profiles projectcalico.org/v3 false Profile",
      "stagedglobalnetworkpolicies sgnp projectcalico.org/v3 false StagedGlobalNetworkPolicy",
      "stagedkubernetesnetworkpolicies sknp projectcalico.org/v3 true StagedKubernetesNetworkPolicy",
      "stagednetworkpolicies snp,scnp projectcalico.org/v3 true StagedNetworkPolicy",
      "tiers projectcalico.org/v3 false Tier",
      "workloadendpoints wep,weps projectcalico.org/v3 true WorkloadEndpoint",
    ]);
    const affinities = await cluster.kubectl(["get", "blockaffinities", "-o", "name"]);
    for (const word of ["affinity", "affinities", "blockaffinity"])
      expect(await cluster.kubectl(["get", word, "-o", "name"])).toBe(affinities);
  });

  test.each([
    ["ippool.spec.cidr", "FIELD: cidr <string>", "it cannot be changed"],
    ["ippool.spec.blockSize", "FIELD: blockSize <integer>", "26 when absent"],
    ["blockaffinity.spec.state", "FIELD: state <string>", "only a confirmed one counts"],
    ["ipamblock.spec.affinity", "FIELD: affinity <string>", "Owner of the block"],
    ["ipamhandle.spec.block", "FIELD: block <map[string]integer>", "Number of addresses"],
  ])("are explained: %s", async (path, field, words) => {
    const text = await cluster.kubectl(["explain", path]);
    expect(text).toContain(field);
    expect(text.replace(/\s+/g, " ")).toContain(words);
  });

  test("fill in defaults", async () => {
    const made = JSON.parse(
      await cluster.kubectl(
        ["create", "--dry-run=server", "-o", "json", "-f", "-"],
        JSON.stringify(pool("defaults", { cidr: "10.99.0.0/16" })),
      ),
    ) as JsonObject;
    expect(made["spec"]).toEqual({ cidr: "10.99.0.0/16", assignmentMode: "Automatic", nodeSelector: "all()" });
    const affinity = {
      apiVersion: "projectcalico.org/v3",
      kind: "BlockAffinity",
      metadata: { name: "defaults" },
      spec: { cidr: "fd99::/122", node: "n1", state: "pending" },
    };
    expect(
      JSON.parse(
        await cluster.kubectl(["create", "--dry-run=server", "-o", "json", "-f", "-"], JSON.stringify(affinity)),
      ),
    ).toMatchObject({ spec: { deleted: false } });
  });
});

describe("pools", () => {
  test.each<[string, JsonObject, string]>([
    ["no range", {}, "spec.cidr: Required value"],
    [
      "an unknown mode",
      { cidr: "10.99.0.0/16", assignmentMode: "Sometimes" },
      'spec.assignmentMode: Unsupported value: "Sometimes"',
    ],
    ["no prefix", { cidr: "10.99.0.0" }, "spec.cidr: Invalid value"],
    ["no prefix, IPv6", { cidr: "fd99::/129" }, "spec.cidr: Invalid value"],
    ["host bits", { cidr: "10.99.0.1/16" }, 'spec.cidr: Invalid value: "object": host bits must be zero'],
    ["host bits, IPv6", { cidr: "fd99::1/64" }, 'spec.cidr: Invalid value: "object": host bits must be zero'],
    [
      "blocks too large",
      { cidr: "10.0.0.0/8", blockSize: 19 },
      'spec.blockSize: Invalid value: "object": must be between 20 and 32, inclusive, for an IPv4 pool',
    ],
    [
      "blocks too small",
      { cidr: "10.99.0.0/16", blockSize: 33 },
      'spec.blockSize: Invalid value: "object": must be between 20 and 32, inclusive, for an IPv4 pool',
    ],
    [
      "blocks too large, IPv6",
      { cidr: "fd99::/64", blockSize: 115 },
      'spec.blockSize: Invalid value: "object": must be between 116 and 128, inclusive, for an IPv6 pool',
    ],
    ["blocks too small, IPv6", { cidr: "fd99::/64", blockSize: 129 }, "spec.blockSize: Invalid value: 129"],
    [
      "smaller than a block",
      { cidr: "10.99.0.0/27" },
      'spec.cidr: Invalid value: "object": the pool is smaller than one block',
    ],
    [
      "smaller than its block",
      { cidr: "10.99.0.0/22", blockSize: 21 },
      'spec.cidr: Invalid value: "object": the pool is smaller than one block',
    ],
    [
      "smaller than a block, IPv6",
      { cidr: "fd99::/123" },
      'spec.cidr: Invalid value: "object": the pool is smaller than one block',
    ],
    [
      "smaller than its block, IPv6",
      { cidr: "fd99::/118", blockSize: 117 },
      'spec.cidr: Invalid value: "object": the pool is smaller than one block',
    ],
    [
      "two tunnels",
      { cidr: "10.99.0.0/16", ipipMode: "Always", vxlanMode: "CrossSubnet" },
      "spec: Forbidden: ipipMode and vxlanMode cannot both be in use",
    ],
    [
      "IPIP for IPv6",
      { cidr: "fd99::/64", ipipMode: "CrossSubnet" },
      "spec.ipipMode: Forbidden: IPIP carries IPv4 only",
    ],
    [
      "link-local",
      { cidr: "169.254.64.0/18" },
      'spec.cidr: Invalid value: "object": must not overlap the link-local range 169.254.0.0/16',
    ],
    [
      "everything",
      { cidr: "0.0.0.0/0" },
      'spec.cidr: Invalid value: "object": must not overlap the link-local range 169.254.0.0/16',
    ],
    [
      "link-local, IPv6",
      { cidr: "fe80::/64" },
      'spec.cidr: Invalid value: "object": must not overlap the link-local range fe80::/10',
    ],
    [
      "three uses",
      { cidr: "10.99.0.0/16", allowedUses: ["LoadBalancer", "Tunnel"] },
      "spec.allowedUses: Forbidden: LoadBalancer must be the only use of a pool",
    ],
    [
      "load balancers on some nodes",
      { cidr: "fd99::/64", allowedUses: ["LoadBalancer"], nodeSelector: "a == 'b'" },
      'spec.nodeSelector: Invalid value: "object": must be all()',
    ],
    [
      "load balancers behind a tunnel",
      { cidr: "fd99::/64", allowedUses: ["LoadBalancer"], vxlanMode: "Always" },
      "spec: Forbidden: ipipMode and vxlanMode must be Never",
    ],
    [
      "load balancers that nobody hears of",
      { cidr: "10.99.0.0/16", allowedUses: ["LoadBalancer"], disableBGPExport: true },
      "spec.disableBGPExport: Forbidden: must be false",
    ],
    [
      "tunnels of one namespace",
      { cidr: "10.99.0.0/16", allowedUses: ["Tunnel"], namespaceSelector: "a == 'b'" },
      "spec.namespaceSelector: Forbidden: must be absent",
    ],
    [
      "global() for nodes",
      { cidr: "10.99.0.0/16", nodeSelector: "global()" },
      'spec.nodeSelector: Invalid value: "object": global() has no meaning here',
    ],
    [
      "global() for namespaces",
      { cidr: "10.99.0.0/16", namespaceSelector: "global()" },
      'spec.namespaceSelector: Invalid value: "object": global() has no meaning here',
    ],
  ])("are refused by both servers in the same words: %s", async (_, spec, words) => {
    const lines = await realRefusal(POOLS, pool("wrong", spec));
    expect(lines.filter((line) => line.startsWith(words))).toHaveLength(1);
    expect(await embeddedRefusal("POST", POOLS, pool("wrong", spec))).toEqual(lines);
  });

  test.each<[string, JsonObject]>([
    ["largest and smallest blocks", { cidr: "10.99.0.0/20", blockSize: 20 }],
    ["one address a block", { cidr: "10.99.0.0/32", blockSize: 32 }],
    ["largest blocks, IPv6", { cidr: "fd99::/116", blockSize: 116 }],
    ["one address a block, IPv6", { cidr: "fd99::/128", blockSize: 128 }],
    ["one block", { cidr: "10.99.0.0/26" }],
    ["one block, IPv6", { cidr: "fd99::/122", blockSize: 0 }],
    ["disabled, smaller than a block", { cidr: "10.99.0.0/28", disabled: true }],
    ["disabled, smaller than a block, IPv6", { cidr: "fd99::/124", disabled: true }],
    ["another spelling", { cidr: "FD99:0:0::/48" }],
    ["one tunnel", { cidr: "10.99.0.0/16", ipipMode: "CrossSubnet", vxlanMode: "Never" }],
    ["VXLAN, IPv6", { cidr: "fd99::/64", ipipMode: "Never", vxlanMode: "Always" }],
    ["load balancers", { cidr: "fd99::/64", allowedUses: ["LoadBalancer"] }],
    [
      "all that others act on",
      {
        cidr: "10.99.0.0/16",
        allowedUses: ["Workload", "Tunnel"],
        natOutgoing: true,
        disableBGPExport: true,
        namespaceSelector: "",
        nodeSelector: "",
      },
    ],
  ])("are taken by both servers: %s", async (_, spec) => {
    expect(await realRefusal(POOLS, pool("right", spec))).toEqual([]);
    expect(await embeddedRefusal("POST", POOLS, pool("right", spec))).toEqual([]);
  });

  test.each<[string, JsonObject, readonly string[]]>([
    [
      "default-ipv4-ippool",
      { cidr: "10.64.0.0/15" },
      [
        'spec.cidr: Invalid value: "string": the range of a pool cannot be changed: make another pool and disable this one',
      ],
    ],
    [
      "default-ipv6-ippool",
      { cidr: "fd00:65::/49" },
      [
        'spec.cidr: Invalid value: "string": the range of a pool cannot be changed: make another pool and disable this one',
      ],
    ],
    [
      "default-ipv4-ippool",
      { blockSize: 27 },
      [
        'spec.blockSize: Invalid value: "object": the block size of a pool cannot be changed: make another pool and disable this one',
      ],
    ],
    [
      "default-ipv6-ippool",
      { blockSize: 120 },
      [
        'spec.blockSize: Invalid value: "object": the block size of a pool cannot be changed: make another pool and disable this one',
      ],
    ],
    ["default-ipv4-ippool", { blockSize: 26, natOutgoing: true, disabled: true }, []],
    ["default-ipv6-ippool", { blockSize: 122, vxlanMode: "Always" }, []],
  ])("may change in what is no address: %s, %j", async (name, spec, lines) => {
    expect(await realPatchRefusal("ippool", name, { spec })).toEqual(lines);
  });
});

describe("manifests/warnings.yaml", () => {
  const policy = (apiVersion: string, spec: JsonObject): JsonObject => ({
    apiVersion,
    kind: "NetworkPolicy",
    metadata: { name: "unmeant", namespace: NS },
    spec,
  });

  afterAll(() => cluster.kubectl(["delete", "-f", `${MANIFESTS}/warnings.yaml`]));

  test("warns of rules of a direction that the policy does not name, in Calico's policies and in Kubernetes'", async () => {
    await cluster.kubectl(["apply", "-f", `${MANIFESTS}/warnings.yaml`]);
    const warningsOf = async (object: JsonObject): Promise<string> =>
      (await cluster.tryKubectl(["apply", "--dry-run=server", "-f", "-"], JSON.stringify(object))).stderr;
    for (const [object, words] of [
      [
        policy("projectcalico.org/v3", { types: ["Ingress"], egress: [{ action: "Deny" }] }),
        "spec.egress has no effect: spec.types does not name Egress",
      ],
      [
        policy("networking.k8s.io/v1", { podSelector: {}, policyTypes: ["Egress"], ingress: [{}] }),
        "spec.ingress has no effect: spec.policyTypes does not name Ingress",
      ],
    ] as const)
      // The server takes a moment to know the policies.
      await waitFor(words, 60, async () => (await warningsOf(object)).includes(words));
    const meant = policy("projectcalico.org/v3", { types: ["Ingress", "Egress"], egress: [{ action: "Deny" }] });
    expect(await warningsOf(meant)).toBe("");
    const { items } = await cluster.get<{
      items: readonly { status?: { typeChecking?: { expressionWarnings?: unknown } } }[];
    }>(["validatingadmissionpolicies"]);
    expect(items.flatMap(({ status }) => status?.typeChecking?.expressionWarnings ?? [])).toEqual([]);
  });
});

describe("rules of users' kinds", () => {
  beforeAll(async () => {
    await cluster.apply(PROBE_DEFINITION);
    await cluster.kubectl(["wait", "--for=condition=Established", "crd/probes.example.org", "--timeout=60s"]);
    await waitFor(
      "the API to serve probes",
      60,
      async () => (await cluster.tryKubectl(["get", "--raw", PROBE_PATH])).exitCode === 0,
    );
    expect((await embedded.call("POST", DEFINITIONS, plain(PROBE_DEFINITION))).status).toBe(201);
    const good = probe("p-good", PROBES.find(([name]) => name === "good")?.[1] ?? {});
    await cluster.apply(good);
    expect((await embedded.call("POST", PROBE_PATH, good)).status).toBe(201);
  });

  afterAll(async () => {
    await cluster.kubectl(["delete", "crd", "probes.example.org", "--ignore-not-found"]);
  });

  /** Without what Go's parser has against the text of an address: the embedded API says it in its own words. */
  function withoutParser(line: string): string {
    return line.replace(
      /(?:IP address|IPv4-mapped|network address) .* evaluating rule: /i,
      "not read, evaluating rule: ",
    );
  }

  function probe(name: string, spec: JsonObject): JsonObject {
    return { apiVersion: "example.org/v1", kind: "Probe", metadata: { name }, spec };
  }

  test.each(PROBES)("both servers say the same of a new object: %s", async (_, spec) => {
    const lines = await realRefusal(PROBE_PATH, probe("q", spec));
    expect(lines).not.toEqual([]);
    expect((await embeddedRefusal("POST", PROBE_PATH, probe("q", spec))).map(withoutParser)).toEqual(
      lines.map(withoutParser),
    );
  });

  test.each(PROBE_CHANGES)("both servers say the same of a change: %s", async (_, spec) => {
    const lines = await realPatchRefusal("probe", "p-good", { spec });
    expect(await embeddedRefusal("PATCH", `${PROBE_PATH}/p-good`, { spec })).toEqual(lines);
  });

  test.each(WRONG_RULES)("both servers refuse a definition for the same field: %s", async (_, rule) => {
    const definition = cloneJson(plain(PROBE_DEFINITION));
    const [version] = arrayAt(fieldAt(definition, "spec", "versions"));
    const spec = fieldAt(version, "schema", "openAPIV3Schema", "properties", "spec");
    Object.assign(spec as JsonObject, { "x-kubernetes-validations": [rule] });
    Object.assign(fieldAt(definition, "spec") as JsonObject, { names: { plural: "others", kind: "Other" } });
    definition["metadata"] = { name: "others.example.org" };
    const fields = (lines: readonly string[]): readonly string[] => [
      ...new Set(
        lines.map(
          (line) =>
            line.replace(/^spec\.(?:validation|versions\[0\]\.schema)\.openAPIV3Schema/, "").split(": ")[0] ?? "",
        ),
      ),
    ];
    const lines = await realRefusal(DEFINITIONS, definition);
    expect(fields(lines)).toHaveLength(1);
    expect(fields(await embeddedRefusal("POST", DEFINITIONS, definition))).toEqual(fields(lines));
  });
});
