/** What `why` reads of a cluster: an API server that answers as Kubernetes' does, and counts. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CommandResult, runWhy } from "./why.ts";

/** Answers by path: a list of objects, or a status code. */
type Answers = Readonly<Record<string, readonly object[] | number>>;

const POD = (name: string, ip: string, namespace = "shop"): object => ({
  metadata: { name, namespace, labels: { app: name } },
  spec: { nodeName: "n1", containers: [] },
  status: { phase: "Running", podIP: ip, podIPs: [{ ip }] },
});
const GROUP = (name: string, version: string): object => ({
  name,
  preferredVersion: { groupVersion: `${name}/${version}`, version },
});
const PLAIN: Answers = {
  "/api/v1/pods": [POD("web", "10.65.0.4"), POD("front", "10.65.0.5"), POD("web", "10.65.0.6", "other")],
  "/api/v1/namespaces": [{ metadata: { name: "shop" } }, { metadata: { name: "other" } }],
  "/api/v1/nodes": [
    { metadata: { name: "n1" }, status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] } },
  ],
  "/api/v1/serviceaccounts": [],
  "/api/v1/services": [
    {
      metadata: { name: "web", namespace: "shop" },
      spec: {
        clusterIP: "10.96.0.7",
        clusterIPs: ["10.96.0.7"],
        selector: { app: "web" },
        ports: [{ port: 80, protocol: "TCP", targetPort: 8080 }],
      },
    },
  ],
  "/apis/discovery.k8s.io/v1/endpointslices": [
    {
      metadata: { name: "web-x", namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
      addressType: "IPv4",
      ports: [{ name: "", port: 8080, protocol: "TCP" }],
      endpoints: [{ addresses: ["10.65.0.4"], conditions: { ready: true } }],
    },
  ],
  "/apis/networking.k8s.io/v1/networkpolicies": [
    { metadata: { name: "closed", namespace: "other" }, spec: { podSelector: {}, policyTypes: ["Ingress"] } },
  ],
};
const GROUPS = [
  GROUP("apps", "v1"),
  GROUP("networking.k8s.io", "v1"),
  GROUP("cilium.io", "v2"),
  GROUP("projectcalico.org", "v3"),
  GROUP("crd.projectcalico.org", "v1"),
  GROUP("example.com", "v1"),
];
const RESOURCES: Readonly<Record<string, readonly object[] | number>> = {
  "/apis/cilium.io/v2": [
    { name: "ciliumnetworkpolicies", kind: "CiliumNetworkPolicy", namespaced: true },
    { name: "ciliumnodes", kind: "CiliumNode", namespaced: false },
  ],
  "/apis/projectcalico.org/v3": [
    { name: "globalnetworkpolicies", kind: "GlobalNetworkPolicy", namespaced: false },
    { name: "globalnetworkpolicies/status", kind: "GlobalNetworkPolicy", namespaced: false },
    { name: "ippools", kind: "IPPool", namespaced: false },
  ],
  "/apis/crd.projectcalico.org/v1": [{ name: "globalnetworkpolicies", kind: "GlobalNetworkPolicy", namespaced: false }],
  "/apis/example.com/v1": 503,
};

let answers: Answers = PLAIN;
let groups: readonly object[] | number = GROUPS;
let resources = RESOURCES;
let asked: string[] = [];
let directory = "";
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    asked.push(pathname);
    const refuse = (code: number): Response =>
      Response.json(
        { kind: "Status", code, reason: code === 403 ? "Forbidden" : "", message: `${pathname} is refused` },
        { status: code },
      );
    if (pathname === "/apis") return typeof groups === "number" ? refuse(groups) : Response.json({ groups });
    const kinds = resources[pathname];
    if (kinds !== undefined) return typeof kinds === "number" ? refuse(kinds) : Response.json({ resources: kinds });
    const list = answers[pathname] ?? [];
    if (typeof list === "number") return refuse(list);
    // Two a page, to see that the pages are followed.
    const begin = Number(searchParams.get("continue") ?? 0);
    const next = begin + 2 < list.length ? { continue: String(begin + 2) } : {};
    return Response.json({ metadata: { resourceVersion: "7", ...next }, items: list.slice(begin, begin + 2) });
  },
});

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "why-cluster-"));
  await writeFile(
    join(directory, "kubeconfig"),
    JSON.stringify({
      "current-context": "c",
      contexts: [{ name: "c", context: { cluster: "k" } }],
      clusters: [{ name: "k", cluster: { server: server.url.origin } }],
    }),
  );
});
beforeEach(() => {
  [answers, groups, resources, asked] = [PLAIN, GROUPS, RESOURCES, []];
});
afterAll(async () => {
  await server.stop(true);
  await rm(directory, { recursive: true });
});

function why(source: string, destination: string, output: "text" | "json" = "text"): Promise<CommandResult> {
  return runWhy({
    source,
    destination,
    namespace: "shop",
    output,
    files: [],
    recursive: false,
    stdin: async () => new Uint8Array(),
    kubeconfig: join(directory, "kubeconfig"),
    environment: {},
  });
}

test("policies, pods of every page, and no Services where the question needs none", async () => {
  expect(await why("front", "web:80")).toMatchObject({ code: 0, error: "" });
  expect(asked).not.toContain("/api/v1/services");
  expect((await why("front", "other/web:80")).code).toBe(1);
});

test("everything is listed once, however many pairs there are", async () => {
  answers = {
    ...PLAIN,
    "/api/v1/pods": Array.from({ length: 12 }, (_, index) => POD(`web${index}`, `10.65.1.${index}`)),
  };
  expect((await why("shop/", "shop/")).out).toStartWith("132 of 132 pairs\n");
  const counts = Map.groupBy(asked, (path) => path);
  expect(counts.get("/api/v1/pods")?.length).toBe(6); // its pages
  expect([...counts].filter(([path, times]) => path !== "/api/v1/pods" && times.length > 1)).toEqual([]);
});

test("a Service's address and its name lead to its endpoints", async () => {
  for (const destination of ["10.96.0.7:80", "svc/web:80"]) {
    expect((await why("front", destination)).out).toMatch(
      /^shop\/front → shop\/web \(through Service shop\/web, .*\): allowed\n {2}10.65.0.5 → 10.65.0.4\n {4}8080\/tcp/,
    );
  }
});

describe("policies of other kinds", () => {
  test("that are there, each once, although two groups serve it", async () => {
    const policy = [{ metadata: { name: "deny" }, spec: { selector: "app == 'web'", types: ["Ingress"] } }];
    answers = {
      ...PLAIN,
      "/apis/projectcalico.org/v3/globalnetworkpolicies": policy,
      "/apis/crd.projectcalico.org/v1/globalnetworkpolicies": policy,
      "/apis/cilium.io/v2/ciliumnetworkpolicies": [{ metadata: { name: "x", namespace: "shop" } }],
    };
    const { code, out } = await why("front", "web:80");
    expect(code).toBe(2);
    expect(out.match(/^not certain: .*$/gm)?.length).toBe(1);
    expect(out).toContain("not certain: CiliumNetworkPolicy (cilium.io/v2) shop/x: not understood");
    expect(out).toContain("denied: no ingress rule of GlobalNetworkPolicy deny, which selects it, matched");
  });

  test("that are not there change nothing", async () => {
    expect(await why("front", "web:80")).toMatchObject({ code: 0, error: "" });
    expect(asked).toContain("/apis/cilium.io/v2/ciliumnetworkpolicies");
    expect(asked).not.toContain("/apis/projectcalico.org/v3/ippools");
  });

  for (const [what, change, message] of [
    [
      "that may not be listed",
      () => void (answers = { ...PLAIN, "/apis/cilium.io/v2/ciliumnetworkpolicies": 403 }),
      "CiliumNetworkPolicy (cilium.io/v2) could not be looked at, and may decide otherwise: ",
    ],
    [
      "whose group may not be looked at",
      () => void (resources = { ...RESOURCES, "/apis/cilium.io/v2": 403 }),
      "cilium.io/v2 could not be looked at",
    ],
    [
      "whose group does not answer",
      () => void (resources = { ...RESOURCES, "/apis/projectcalico.org/v3": 503 }),
      "projectcalico.org/v3 could not be looked at",
    ],
    ["when no group may be looked at", () => void (groups = 403), "Policies of other kinds were not looked for: "],
  ] as const) {
    test(what, async () => {
      change();
      const { code, out } = await why("front", "web:80");
      expect([code, out]).toEqual([2, expect.stringContaining(`not certain: ${message}`)]);
      const answer = JSON.parse((await why("front", "web:80", "json")).out);
      expect([answer.certain, answer.warnings[0]]).toEqual([false, expect.stringContaining(message)]);
    });
  }
});

describe("Calico's kinds", () => {
  const KINDS = [
    { name: "globalnetworkpolicies", kind: "GlobalNetworkPolicy", namespaced: false },
    { name: "networkpolicies", kind: "NetworkPolicy", namespaced: true },
    { name: "tiers", kind: "Tier", namespaced: false },
    { name: "stagednetworkpolicies", kind: "StagedNetworkPolicy", namespaced: true },
    { name: "felixconfigurations", kind: "FelixConfiguration", namespaced: false },
  ];
  const GUARD = {
    metadata: { name: "guard" },
    spec: { tier: "first", selector: "app == 'web'", ingress: [{ action: "Deny" }] },
  };

  test("are read from the API in which Calico keeps them, where there is no other", async () => {
    groups = [GROUP("crd.projectcalico.org", "v1")];
    resources = { "/apis/crd.projectcalico.org/v1": KINDS };
    answers = { ...PLAIN, "/apis/crd.projectcalico.org/v1/globalnetworkpolicies": [GUARD] };
    const { code, out } = await why("front", "web:80");
    expect([code, out]).toEqual([1, expect.stringContaining("GlobalNetworkPolicy guard in tier first")]);
  });

  test("that may not be listed leave the answer open where they could matter", async () => {
    groups = [GROUP("projectcalico.org", "v3")];
    resources = { "/apis/projectcalico.org/v3": KINDS };
    const at = (plural: string): string => `/apis/projectcalico.org/v3/${plural}`;
    answers = { ...PLAIN, [at("globalnetworkpolicies")]: 403 };
    expect((await why("front", "web:80")).code).toBe(2);
    answers = { ...PLAIN, [at("stagednetworkpolicies")]: 403, [at("felixconfigurations")]: 403 };
    expect((await why("front", "web:80")).code).toBe(0);
    expect((await why("front", "192.0.2.1:80")).code).toBe(2);
  });

  test("ClusterNetworkPolicies, whichever version of their group is preferred", async () => {
    const versions = ["v1alpha1", "v1alpha2"].map((version) => ({
      groupVersion: `policy.networking.k8s.io/${version}`,
    }));
    groups = [{ ...GROUP("policy.networking.k8s.io", "v1alpha1"), versions }];
    resources = {
      "/apis/policy.networking.k8s.io/v1alpha1": [],
      "/apis/policy.networking.k8s.io/v1alpha2": [
        { name: "clusternetworkpolicies", kind: "ClusterNetworkPolicy", namespaced: false },
      ],
    };
    const spec = {
      tier: "Admin",
      priority: 1,
      subject: { namespaces: {} },
      ingress: [{ action: "Deny", from: [{ namespaces: {} }] }],
    };
    answers = {
      ...PLAIN,
      "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies": [{ metadata: { name: "c" }, spec }],
    };
    expect((await why("front", "web:80")).code).toBe(1);
  });

  test("EndpointSlices are listed only where a rule asks for a Service", async () => {
    groups = [GROUP("projectcalico.org", "v3")];
    resources = { "/apis/projectcalico.org/v3": KINDS };
    const rule = { action: "Allow", destination: { services: { name: "web", namespace: "shop" } } };
    const policy = { metadata: { name: "p", namespace: "shop" }, spec: { selector: "app == 'front'", egress: [rule] } };
    answers = { ...PLAIN, "/apis/projectcalico.org/v3/networkpolicies": [policy] };
    expect((await why("front", "web:8080")).code).toBe(0);
    expect((await why("front", "web:81")).code).toBe(1);
    expect(asked).toContain("/apis/discovery.k8s.io/v1/endpointslices");
  });
});

describe("a right that is missing", () => {
  for (const path of ["/api/v1/pods", "/api/v1/namespaces", "/apis/networking.k8s.io/v1/networkpolicies"]) {
    test(`to ${path}: no answer is possible`, async () => {
      answers = { ...PLAIN, [path]: 403 };
      await expect(why("front", "web:80")).rejects.toThrow(`the server answered 403: ${path} is refused`);
    });
  }

  test("to Nodes: about pods it is certain, about addresses not", async () => {
    answers = { ...PLAIN, "/api/v1/nodes": 403 };
    expect(await why("front", "web:80")).toMatchObject({
      code: 0,
      error: expect.stringContaining("warning: Nodes were not looked at"),
    });
    expect(await why("192.0.2.1", "web:80")).toMatchObject({
      code: 2,
      out: expect.stringContaining("not certain: Nodes were not looked at"),
    });
  });

  test("to Services: an address may be one of theirs", async () => {
    answers = { ...PLAIN, "/api/v1/services": 403 };
    expect(await why("front", "10.96.0.7:80")).toMatchObject({
      code: 2,
      out: expect.stringContaining("not certain: Services were not looked at"),
    });
    await expect(why("front", "svc/web:80")).rejects.toThrow('Cannot find Service "shop/web"');
  });
});

test("an authentication method that only kubectl supports: the error names the alternative", async () => {
  const kubeconfig = join(directory, "exec");
  await writeFile(
    kubeconfig,
    JSON.stringify({
      "current-context": "c",
      contexts: [{ name: "c", context: { cluster: "k", user: "u" } }],
      clusters: [{ name: "k", cluster: { server: "https://127.0.0.1:1" } }],
      users: [{ name: "u", user: { exec: { command: "aws" } } }],
    }),
  );
  const run = runWhy({
    source: "a",
    destination: "b",
    namespace: "default",
    output: "text",
    files: [],
    recursive: false,
    stdin: async () => new Uint8Array(),
    kubeconfig,
    environment: {},
  });
  await expect(run).rejects.toThrow('or use "kubectl get namespaces,');
});
