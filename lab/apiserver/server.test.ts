import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { arrayAt, fieldAt, type JsonObject, stringAt } from "../../src/model/schema/json.ts";
import { CRDS } from "../../src/model/kinds/crds.ts";
import { CALICO_ADMISSION } from "./admission.ts";
import { TestServer } from "./test-client.ts";

const server = new TestServer({ admission: CALICO_ADMISSION });
beforeAll(() => server.start());
afterAll(() => server.close());

const PODS = "/api/v1/namespaces/default/pods";
const MAPS = "/api/v1/namespaces/default/configmaps";

function pod(name: string, spec: JsonObject = {}, metadata: JsonObject = {}): JsonObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, ...metadata },
    spec: { containers: [{ name: "c", image: "i:1" }], ...spec },
  };
}

function configMap(name: string, data: JsonObject = {}, metadata: JsonObject = {}): JsonObject {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, ...metadata }, data };
}

async function revision(): Promise<string> {
  return stringAt(fieldAt((await server.call("GET", MAPS)).body, "metadata", "resourceVersion"));
}

const types = (events: readonly JsonObject[]): string => events.map((event) => stringAt(event["type"])).join(" ");
const names = (reply: JsonObject): string =>
  arrayAt(reply["items"])
    .map((item) => stringAt(fieldAt(item, "metadata", "name")))
    .join(" ");

describe("who may ask", () => {
  test.each([
    ["a known token", undefined, 200, ""],
    [
      "no token",
      null,
      403,
      'configmaps is forbidden: User "system:anonymous" cannot list resource "configmaps" in API group "" in the namespace "default"',
    ],
    ["a wrong token", "nonsense", 401, "Unauthorized"],
  ])("%s", async (_, token, status, message) => {
    const reply = await server.call("GET", MAPS, undefined, token === undefined ? {} : { token });
    expect(reply.status).toBe(status);
    expect(stringAt(reply.body["message"])).toBe(message);
  });

  test.each(["/healthz", "/readyz", "/livez", "/version"])("%s needs no token", async (path) => {
    expect((await server.call("GET", path, undefined, { token: null })).status).toBe(200);
  });
});

describe("deleting pods", () => {
  test("a pod on a node goes in two phases", async () => {
    await server.call("POST", PODS, pod("graceful", { nodeName: "n1", terminationGracePeriodSeconds: 7 }));
    const first = await server.call("DELETE", `${PODS}/graceful`);
    expect(fieldAt(first.body, "metadata", "deletionGracePeriodSeconds")).toBe(7);
    expect((await server.call("GET", `${PODS}/graceful`)).status).toBe(200);
    const wrong = await server.call("DELETE", `${PODS}/graceful`, {
      gracePeriodSeconds: 0,
      preconditions: { uid: "other" },
    });
    expect([wrong.status, wrong.body["reason"]]).toEqual([409, "Conflict"]);
    await server.call("DELETE", `${PODS}/graceful`, { gracePeriodSeconds: 0 });
    expect((await server.call("GET", `${PODS}/graceful`)).status).toBe(404);
  });

  test("a pod without a node goes at once", async () => {
    await server.call("POST", PODS, pod("homeless"));
    expect((await server.call("DELETE", `${PODS}/homeless`)).status).toBe(200);
    expect((await server.call("GET", `${PODS}/homeless`)).status).toBe(404);
  });
});

test("binding gives a pod its node, once", async () => {
  await server.call("POST", PODS, pod("bound"));
  const binding = {
    apiVersion: "v1",
    kind: "Binding",
    metadata: { name: "bound" },
    target: { apiVersion: "v1", kind: "Node", name: "n2" },
  };
  expect((await server.call("POST", `${PODS}/bound/binding`, binding)).status).toBe(201);
  expect(fieldAt((await server.call("GET", `${PODS}/bound`)).body, "spec", "nodeName")).toBe("n2");
  expect((await server.call("POST", `${PODS}/bound/binding`, binding)).status).toBe(409);
  const moved = await server.call(
    "PATCH",
    `${PODS}/bound`,
    { spec: { nodeName: "n3" } },
    { type: "application/merge-patch+json" },
  );
  expect(moved.status).toBe(422);
  expect(names((await server.call("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2")).body)).toBe("bound");
});

test("the status of a pod takes labels and annotations too, and no spec", async () => {
  await server.call("POST", PODS, pod("annotated", {}, { labels: { app: "web" } }));
  const patch = {
    metadata: { annotations: { "example.org/a": "1" }, labels: { tier: "front" }, finalizers: ["example.org/f"] },
    spec: { containers: [{ name: "c", image: "i:2" }] },
    status: { phase: "Running" },
  };
  const patched = await server.call("PATCH", `${PODS}/annotated/status`, patch, {
    type: "application/merge-patch+json",
  });
  expect(patched.status).toBe(200);
  const { body } = await server.call("GET", `${PODS}/annotated`);
  expect(body).toMatchObject({
    metadata: { annotations: { "example.org/a": "1" }, labels: { app: "web", tier: "front" }, generation: 1 },
    status: { phase: "Running" },
  });
  expect([
    fieldAt(body, "metadata", "finalizers"),
    fieldAt(arrayAt(fieldAt(body, "spec", "containers"))[0], "image"),
  ]).toEqual([undefined, "i:1"]);
});

describe("watching", () => {
  test("resumes after a restart from where it was, and gets an error when that is too old", async () => {
    const small = new TestServer({ storageLimits: { changes: 8, changeBytes: 1 << 20 } });
    try {
      await small.start();
      const created = await small.call("POST", MAPS, configMap("a"));
      const from = stringAt(fieldAt(created.body, "metadata", "resourceVersion"));
      await small.call("PATCH", `${MAPS}/a`, { data: { x: "1" } }, { type: "application/merge-patch+json" });
      small.stop();
      await small.start();
      const events = await small.watch(
        `${MAPS}?watch=1&resourceVersion=${from}`,
        2,
        async () => void (await small.call("DELETE", `${MAPS}/a`)),
      );
      expect(types(events)).toBe("MODIFIED DELETED");
      expect(fieldAt(events[0], "object", "data", "x")).toBe("1");
      expect(Number(fieldAt(events[1], "object", "metadata", "resourceVersion"))).toBeGreaterThan(
        Number(fieldAt(events[0], "object", "metadata", "resourceVersion")),
      );
      for (let i = 0; i < 20; i++) await small.call("POST", MAPS, configMap(`m${i}`));
      const late = await small.watch(`${MAPS}?watch=1&resourceVersion=${from}`, 1);
      expect([late[0]?.["type"], fieldAt(late[0], "object", "code"), fieldAt(late[0], "object", "reason")]).toEqual([
        "ERROR",
        410,
        "Expired",
      ]);
      const exact = await small.call("GET", `${MAPS}?resourceVersion=${from}&resourceVersionMatch=Exact`);
      expect([exact.status, exact.body["reason"]]).toEqual([410, "Expired"]);
    } finally {
      await small.close();
    }
  });

  test("leaving a label selection is a deletion", async () => {
    const from = await revision();
    const patch = (labels: JsonObject) =>
      server.call("PATCH", `${MAPS}/labelled`, { metadata: { labels } }, { type: "application/merge-patch+json" });
    const events = await server.watch(`${MAPS}?watch=1&labelSelector=a%3Db&resourceVersion=${from}`, 4, async () => {
      await server.call("POST", MAPS, configMap("labelled", {}, { labels: { a: "b" } }));
      await patch({ a: "c" });
      await patch({ a: "b" });
      await patch({ x: "y" });
    });
    expect(types(events)).toBe("ADDED DELETED ADDED MODIFIED");
  });

  test("tables carry their columns in the first event only", async () => {
    const accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    const from = await revision();
    const events = await server.watch(
      `${MAPS}?watch=1&resourceVersion=${from}`,
      2,
      async () => {
        await server.call("POST", MAPS, configMap("t1"));
        await server.call("POST", MAPS, configMap("t2"));
      },
      { accept },
    );
    expect(arrayAt(fieldAt(events[0], "object", "columnDefinitions")).map((entry) => fieldAt(entry, "name"))).toEqual([
      "Name",
      "Data",
      "Age",
    ]);
    expect(fieldAt(events[1], "object", "columnDefinitions")).toBeNull();
    expect(fieldAt(arrayAt(fieldAt(events[1], "object", "rows"))[0], "object", "kind")).toBe("PartialObjectMetadata");
  });

  test("the answer begins before the first event, and with its first byte", async () => {
    const response = await server.fetch("GET", `${MAPS}?watch=1&resourceVersion=${await revision()}`);
    expect(response.status).toBe(200);
    const reader = response.body?.getReader();
    await server.call("POST", MAPS, configMap("first-byte"));
    const { value } = (await reader?.read()) ?? {};
    expect(new TextDecoder().decode(value)).toStartWith('{"type":"ADDED","object":{');
    await reader?.cancel();
  });

  test("a bookmark comes shortly before the end", async () => {
    const now = await revision();
    const events = await server.watch(
      `${MAPS}?watch=1&resourceVersion=${now}&allowWatchBookmarks=1&timeoutSeconds=2`,
      99,
    );
    expect(events).toEqual([
      { type: "BOOKMARK", object: { kind: "ConfigMap", apiVersion: "v1", metadata: { resourceVersion: now } } },
    ]);
  });
});

test("a list from the future waits, then asks to come again", async () => {
  const reply = await server.call("GET", `${MAPS}?resourceVersion=99999999`);
  expect([reply.status, reply.body["reason"], reply.headers.get("retry-after")]).toEqual([504, "Timeout", "1"]);
}, 10_000);

test("a namespace in its end takes nothing new and waits for its pods", async () => {
  await server.call("POST", "/api/v1/namespaces", {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "ending" },
  });
  expect((await server.call("POST", "/api/v1/namespaces/ending/pods", pod("p", { nodeName: "n1" }))).status).toBe(201);
  const deleted = await server.call("DELETE", "/api/v1/namespaces/ending");
  expect(fieldAt(deleted.body, "status", "phase")).toBe("Terminating");
  const refused = await server.call("POST", "/api/v1/namespaces/ending/configmaps", configMap("late"));
  expect([refused.status, fieldAt(arrayAt(fieldAt(refused.body, "details", "causes"))[0], "reason")]).toEqual([
    403,
    "NamespaceTerminating",
  ]);
  const gone = server.watch("/api/v1/namespaces?watch=1&fieldSelector=metadata.name%3Dending", 2);
  const events = await server.watch("/api/v1/namespaces/ending/pods?watch=1", 2);
  expect(fieldAt(events[1], "object", "metadata", "deletionTimestamp")).toBeString();
  await server.call("DELETE", "/api/v1/namespaces/ending/pods/p", { gracePeriodSeconds: 0 });
  expect(types(await gone)).toBe("ADDED DELETED");
});

describe("requests that are refused with a message", () => {
  test("server-side apply", async () => {
    const reply = await server.call("PATCH", `${MAPS}/x?fieldManager=k`, configMap("x"), {
      type: "application/apply-patch+yaml",
    });
    expect([reply.status, stringAt(reply.body["message"]).includes("kubectl apply")]).toEqual([415, true]);
  });
  test.each(["exec", "log", "attach", "portforward"])("pods/%s", async (name) => {
    const reply = await server.call("GET", `${PODS}/some/${name}`);
    expect([reply.status, stringAt(reply.body["message"]).includes("calico-lab exec default/some")]).toEqual([
      501,
      true,
    ]);
  });
  test("a media type that is not served", async () => {
    expect((await server.call("GET", MAPS, undefined, { accept: "text/html" })).status).toBe(406);
    expect((await server.call("POST", MAPS, configMap("x"), { type: "text/plain" })).status).toBe(415);
  });
  test("a field given twice", async () => {
    const body = new TextEncoder().encode(
      '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice"},"data":{"a":"1","a":"2"}}',
    );
    const strict = await server.call("POST", `${MAPS}?fieldValidation=Strict`, body);
    expect(stringAt(strict.body["message"])).toBe(
      'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data.a"',
    );
    const warned = await server.call("POST", `${MAPS}?fieldValidation=Warn`, body);
    expect([warned.status, warned.headers.get("warning")]).toEqual([201, '299 - "duplicate field \\"data.a\\""']);
  });
});

describe("discovery", () => {
  test("is aggregated for those who ask, with an ETag", async () => {
    const accept =
      "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    const first = await server.call("GET", "/apis", undefined, { accept });
    expect([first.body["kind"], first.headers.get("content-type")]).toEqual([
      "APIGroupDiscoveryList",
      "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ]);
    const again = await server.fetch("GET", "/apis", undefined, {
      accept,
      headers: { "If-None-Match": first.headers.get("etag") ?? "" },
    });
    expect(again.status).toBe(304);
    expect((await server.call("GET", "/apis")).body["kind"]).toBe("APIGroupList");
  });
  test("lacks the kinds that nothing acts on", async () => {
    const reply = await server.call("GET", "/apis/apps/v1/deployments");
    expect([reply.status, reply.body["text"]]).toEqual([404, "404 page not found\n"]);
  });
});

describe("our kinds", () => {
  beforeAll(async () => {
    for (const definition of CRDS) {
      const reply = await server.call(
        "POST",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?fieldValidation=Strict",
        JSON.parse(JSON.stringify(definition)) as JsonObject,
      );
      expect(reply.status).toBe(201);
      expect(reply.headers.get("warning")).toBeNull();
    }
  });
  const POOLS = "/apis/projectcalico.org/v3/ippools";
  const pool = (name: string, spec: JsonObject): JsonObject => ({
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name },
    spec,
  });

  test("the status of a policy is written apart from everything else", async () => {
    const policies = "/apis/projectcalico.org/v3/globalnetworkpolicies";
    const merge = { type: "application/merge-patch+json" };
    const condition = {
      type: "Programmed",
      status: "True",
      reason: "Programmed",
      message: "",
      lastTransitionTime: "2026-11-29T22:28:06Z",
    };
    const made = await server.call("POST", policies, {
      apiVersion: "projectcalico.org/v3",
      kind: "GlobalNetworkPolicy",
      metadata: { name: "told" },
      spec: { order: 1 },
      status: { conditions: [condition] },
    });
    expect([made.status, made.body["status"]]).toEqual([201, undefined]);
    const path = `${policies}/told`;
    const revision = stringAt(fieldAt(made.body, "metadata", "resourceVersion"));
    const told = await server.call("PUT", `${path}/status`, {
      ...made.body,
      metadata: { name: "told", resourceVersion: revision, labels: { a: "b" }, annotations: { c: "d" } },
      spec: { order: 2 },
      status: { conditions: [condition] },
    });
    expect(told.body).toMatchObject({
      metadata: { generation: 1 },
      spec: { order: 1 },
      status: { conditions: [condition] },
    });
    expect(fieldAt(told.body, "metadata", "labels")).toBeUndefined();
    expect(fieldAt(told.body, "metadata", "annotations")).toBeUndefined();
    const late = { metadata: { resourceVersion: revision }, status: { conditions: [] } };
    expect((await server.call("PATCH", `${path}/status`, late, merge)).status).toBe(409);
    const changed = await server.call("PATCH", path, { spec: { order: 3 }, status: { conditions: [] } }, merge);
    expect(changed.body).toMatchObject({
      metadata: { generation: 2 },
      spec: { order: 3 },
      status: { conditions: [condition] },
    });
    await server.call("PATCH", path, { metadata: { labels: { a: "b" } } }, merge);
    expect((await server.call("GET", path)).body).toMatchObject({ metadata: { generation: 2, labels: { a: "b" } } });
  });

  test.each([
    ["IPv4", { cidr: "10.20.0.0/16" }],
    ["IPv6", { cidr: "fd20::/64", blockSize: 122, nodeSelector: "rack == 'a'" }],
  ])("a good pool, %s", async (name, spec) => {
    const reply = await server.call("POST", POOLS, pool(`good-${name.toLowerCase()}`, spec));
    expect([reply.status, fieldAt(reply.body, "spec", "assignmentMode")]).toEqual([201, "Automatic"]);
  });

  test.each([
    ["overlap", { cidr: "10.20.128.0/17" }, 'overlaps 10.20.0.0/16 of the IPPool "good-ipv4"'],
    ["overlap, IPv6", { cidr: "fd20::/60" }, 'overlaps fd20::/64 of the IPPool "good-ipv6"'],
    [
      "block size, IPv4",
      { cidr: "10.30.0.0/16", blockSize: 19 },
      "must be between 20 and 32, inclusive, for an IPv4 pool",
    ],
    [
      "block size, IPv6",
      { cidr: "fd30::/64", blockSize: 26 },
      "must be between 116 and 128, inclusive, for an IPv6 pool",
    ],
    [
      "block size, IPv4, above",
      { cidr: "10.30.0.0/16", blockSize: 33 },
      'spec.blockSize: Invalid value: "object": must be between 20 and 32',
    ],
    [
      "block size, IPv6, above 128",
      { cidr: "fd30::/64", blockSize: 129 },
      "spec.blockSize in body should be less than or equal to 128",
    ],
    [
      "pool smaller than a block",
      { cidr: "10.30.0.0/27" },
      'spec.cidr: Invalid value: "object": the pool is smaller than one block',
    ],
    [
      "pool smaller than a block, IPv6",
      { cidr: "fd30::/123" },
      'spec.cidr: Invalid value: "object": the pool is smaller than one block',
    ],
    [
      "both tunnels",
      { cidr: "10.30.0.0/16", ipipMode: "Always", vxlanMode: "CrossSubnet" },
      "spec: Forbidden: ipipMode and vxlanMode cannot both be in use",
    ],
    ["IPIP over IPv6", { cidr: "fd30::/64", ipipMode: "Always" }, "spec.ipipMode: Forbidden: IPIP carries IPv4 only"],
    ["link-local", { cidr: "169.254.0.0/20" }, "must not overlap the link-local range 169.254.0.0/16"],
    ["around link-local, IPv6", { cidr: "fe00::/8" }, "must not overlap the link-local range fe80::/10"],
    [
      "two uses",
      { cidr: "10.30.0.0/16", allowedUses: ["LoadBalancer", "Workload"] },
      "spec.allowedUses: Forbidden: LoadBalancer must be the only use",
    ],
    [
      "load balancers on some nodes",
      { cidr: "10.30.0.0/16", allowedUses: ["LoadBalancer"], nodeSelector: "a == 'b'" },
      'spec.nodeSelector: Invalid value: "object": must be all()',
    ],
    [
      "load balancers behind a tunnel",
      { cidr: "10.30.0.0/16", allowedUses: ["LoadBalancer"], vxlanMode: "Always" },
      "spec: Forbidden: ipipMode and vxlanMode must be Never",
    ],
    [
      "load balancers that nobody hears of",
      { cidr: "10.30.0.0/16", allowedUses: ["LoadBalancer"], disableBGPExport: true },
      "spec.disableBGPExport: Forbidden: must be false",
    ],
    [
      "tunnel addresses for a namespace",
      { cidr: "10.30.0.0/16", allowedUses: ["Tunnel"], namespaceSelector: "a == 'b'" },
      "spec.namespaceSelector: Forbidden: must be absent",
    ],
    [
      "global() for nodes",
      { cidr: "10.30.0.0/16", nodeSelector: "global()" },
      'spec.nodeSelector: Invalid value: "object": global() has no meaning here',
    ],
    [
      "global() for namespaces",
      { cidr: "10.30.0.0/16", namespaceSelector: "global()" },
      'spec.namespaceSelector: Invalid value: "object": global() has no meaning here',
    ],
    [
      "no range for rules to read",
      { cidr: "10.30.0.0" },
      "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid",
    ],
    [
      "too much wrong for rules to run",
      { cidr: "10.30.0.1/16", ipipMode: "Sometimes" },
      "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid",
    ],
    ["host bits", { cidr: "10.30.0.1/16" }, 'spec.cidr: Invalid value: "object": host bits must be zero'],
    ["host bits, IPv6", { cidr: "fd30::1/64" }, 'spec.cidr: Invalid value: "object": host bits must be zero'],
    ["selector", { cidr: "10.30.0.0/16", nodeSelector: "rack ==" }, "spec.nodeSelector: Invalid value"],
    ["no range", { cidr: "10.30.0.0" }, 'spec.cidr in body must be of type cidr: "10.30.0.0"'],
  ])("a bad pool: %s", async (_, spec, words) => {
    const reply = await server.call("POST", POOLS, pool("bad", spec));
    expect(reply.status).toBe(422);
    expect(stringAt(reply.body["message"])).toContain(words);
  });

  test.each([
    [
      "good-ipv4",
      { cidr: "10.21.0.0/16" },
      'spec.cidr: Invalid value: "string": the range of a pool cannot be changed',
    ],
    ["good-ipv6", { cidr: "fd21::/64" }, 'spec.cidr: Invalid value: "string": the range of a pool cannot be changed'],
    [
      "good-ipv4",
      { blockSize: 27 },
      'spec.blockSize: Invalid value: "object": the block size of a pool cannot be changed',
    ],
    [
      "good-ipv6",
      { blockSize: 123 },
      'spec.blockSize: Invalid value: "object": the block size of a pool cannot be changed',
    ],
  ])("a pool's range and block size stay: %s, %j", async (name, spec, words) => {
    const reply = await server.call("PATCH", `${POOLS}/${name}`, { spec }, { type: "application/merge-patch+json" });
    expect(reply.status).toBe(422);
    expect(stringAt(reply.body["message"])).toContain(words);
  });

  test.each([
    ["good-ipv4", { blockSize: 26, natOutgoing: true }],
    ["good-ipv4", { blockSize: 0 }],
    ["good-ipv6", { blockSize: null }],
    ["good-ipv6", { disabled: true }],
  ])("the rest of a pool may change: %s, %j", async (name, spec) => {
    const reply = await server.call("PATCH", `${POOLS}/${name}`, { spec }, { type: "application/merge-patch+json" });
    expect([reply.status, reply.body["message"]]).toEqual([200, undefined]);
  });

  test("a disabled pool may be smaller than a block, and cannot be enabled then", async () => {
    const made = await server.call("POST", POOLS, pool("small", { cidr: "10.40.0.0/28", disabled: true }));
    expect(made.status).toBe(201);
    const reply = await server.call(
      "PATCH",
      `${POOLS}/small`,
      { spec: { disabled: false } },
      { type: "application/merge-patch+json" },
    );
    expect(stringAt(reply.body["message"])).toContain("the pool is smaller than one block");
  });

  test("a block as the product writes it, and with what upstream writes beside", async () => {
    const spec = {
      cidr: "10.20.0.0/30",
      affinity: "host:n1",
      allocations: [0, null, null, null],
      unallocated: [1, 2, 3],
      attributes: [
        {
          handle_id: "h",
          secondary: { pod: "p" },
          alternateOwnerAttrs: { pod: "q" },
          releasedAt: "2026-11-26T00:00:00Z",
        },
      ],
      sequenceNumber: 1764116562000000000,
      sequenceNumberForAllocation: { "0": 1764116562000000000 },
      strictAffinity: false,
    };
    const reply = await server.call("POST", "/apis/projectcalico.org/v3/ipamblocks", {
      apiVersion: "projectcalico.org/v3",
      kind: "IPAMBlock",
      metadata: { name: "10-20-0-0-30" },
      spec,
    });
    expect(reply.status).toBe(201);
    expect(reply.body["spec"]).toEqual(spec);
    const stale = await server.call("PUT", "/apis/projectcalico.org/v3/ipamblocks/10-20-0-0-30", {
      ...reply.body,
      metadata: { name: "10-20-0-0-30", resourceVersion: "1" },
    });
    expect([stale.status, stale.body["reason"]]).toEqual([409, "Conflict"]);
  });

  test("annotations of pods may be anything, as Kubernetes lets them: the plugin judges them", async () => {
    const reply = await server.call(
      "POST",
      PODS,
      pod("any-annotation", {}, { annotations: { "cni.projectcalico.org/ipv6pools": '["10.0.0.0/8"]' } }),
    );
    expect(reply.status).toBe(201);
  });
});

describe("rules in CEL of users' kinds", () => {
  const DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  const THINGS = "/apis/example.org/v1/things";
  const definition = (rule: JsonObject, plural = "things"): JsonObject => ({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.example.org` },
    spec: {
      group: "example.org",
      names: { plural, kind: plural === "things" ? "Thing" : "Other" },
      scope: "Cluster",
      versions: [
        {
          name: "v1",
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: {
            openAPIV3Schema: {
              type: "object",
              properties: {
                spec: { type: "object", properties: { size: { type: "integer" } }, "x-kubernetes-validations": [rule] },
                status: {
                  type: "object",
                  properties: {
                    phase: {
                      type: "string",
                      "x-kubernetes-validations": [{ rule: "self != oldSelf", message: "goes on" }],
                    },
                  },
                },
              },
            },
          },
        },
      ],
    },
  });
  const thing = (name: string, size: number): JsonObject => ({
    apiVersion: "example.org/v1",
    kind: "Thing",
    metadata: { name },
    spec: { size },
  });

  test("a rule that does not compile refuses the definition", async () => {
    const reply = await server.call("POST", DEFINITIONS, definition({ rule: "self.length > 1" }, "others"));
    expect(reply.status).toBe(422);
    expect(reply.body["reason"]).toBe("Invalid");
    const field = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule";
    expect(fieldAt(arrayAt(fieldAt(reply.body, "details", "causes"))[0], "field")).toBe(field);
    expect(stringAt(reply.body["message"])).toContain(
      `CustomResourceDefinition.apiextensions.k8s.io "others.example.org" is invalid: ${field}: Invalid value: {"rule":"self.length > 1"}: compilation failed: no such key: length`,
    );
  });

  test("objects are held against them, also on PUT, PATCH and in the status", async () => {
    const made = await server.call("POST", DEFINITIONS, definition({ rule: "self.size > 1", message: "too small" }));
    expect([made.status, made.headers.get("warning")]).toEqual([201, null]);
    const refused = await server.call("POST", THINGS, thing("a", 1));
    expect([refused.status, refused.body["message"]]).toEqual([
      422,
      'Thing.example.org "a" is invalid: spec: Invalid value: "object": too small',
    ]);
    expect(arrayAt(fieldAt(refused.body, "details", "causes"))).toEqual([
      { reason: "FieldValueInvalid", message: 'Invalid value: "object": too small', field: "spec" },
    ]);
    const stored = (await server.call("POST", THINGS, thing("a", 2))).body;
    expect((await server.call("PUT", `${THINGS}/a`, { ...stored, spec: { size: 0 } })).body["message"]).toContain(
      "too small",
    );
    const merge = { type: "application/merge-patch+json" };
    expect((await server.call("PATCH", `${THINGS}/a`, { spec: { size: 0 } }, merge)).body["message"]).toContain(
      "too small",
    );
    expect((await server.call("PATCH", `${THINGS}/a/status`, { status: { phase: "one" } }, merge)).status).toBe(200);
    expect(
      (await server.call("PATCH", `${THINGS}/a/status`, { status: { phase: "one" } }, merge)).body["message"],
    ).toContain('status.phase: Invalid value: "string": goes on');
  });

  test("a status that comes with an object is not kept, so it cannot be wrong", async () => {
    const made = await server.call("POST", THINGS, { ...thing("b", 2), status: { phase: 1 } });
    expect([made.status, made.body["status"]]).toEqual([201, undefined]);
    const kept = await server.call("PUT", `${THINGS}/b`, { ...made.body, spec: { size: 3 }, status: { phase: 1 } });
    expect([kept.status, kept.body["status"]]).toEqual([200, undefined]);
    expect((await server.call("PUT", `${THINGS}/b/status`, { ...kept.body, status: { phase: 1 } })).status).toBe(422);
  });

  test("finalizers may be names without a path, against which it advises", async () => {
    const object = thing("c", 2);
    const made = await server.call("POST", THINGS, {
      ...object,
      metadata: { name: "c", finalizers: ["finalizer.example.org", "example.org/f"] },
    });
    const words =
      'metadata.finalizers: \\"finalizer.example.org\\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers';
    expect([made.status, made.headers.get("warning")]).toEqual([201, `299 - "${words}"`]);
    expect(
      (await server.call("POST", THINGS, { ...object, metadata: { name: "d", finalizers: ["a b"] } })).status,
    ).toBe(422);
  });

  test("a stricter rule refuses no object until its values change", async () => {
    const stored = (await server.call("GET", `${DEFINITIONS}/things.example.org`)).body;
    const next = {
      ...definition({ rule: "self.size > 9", message: "too small" }),
      metadata: {
        name: "things.example.org",
        resourceVersion: stringAt(fieldAt(stored, "metadata", "resourceVersion")),
      },
    };
    expect((await server.call("PUT", `${DEFINITIONS}/things.example.org`, next)).status).toBe(200);
    const merge = { type: "application/merge-patch+json" };
    expect(
      (await server.call("PATCH", `${THINGS}/a`, { metadata: { labels: { a: "b" } } }, merge)).body["message"],
    ).toContain("goes on");
    await server.call("PATCH", `${THINGS}/a/status`, { status: null }, merge);
    expect((await server.call("PATCH", `${THINGS}/a`, { metadata: { labels: { a: "b" } } }, merge)).status).toBe(200);
    expect((await server.call("PATCH", `${THINGS}/a`, { spec: { size: 3 } }, merge)).body["message"]).toContain(
      "too small",
    );
    expect((await server.call("PATCH", `${THINGS}/a`, { spec: { size: 10 } }, merge)).status).toBe(200);
  });
});
