import { expect, test } from "bun:test";
import { rowsFor } from "../model/convert/rows.ts";
import type { Update } from "../model/update.ts";
import { PodRequestIndex } from "./pod-requests.ts";

const POD = { kind: "Pod", namespace: "a", name: "p" } as const;
const ORIGIN = { revision: "1", generation: undefined, seenAt: 0 };
const P = "cni.projectcalico.org/";

function pod(annotations: Record<string, string>, spec: object = {}): Update {
  const value = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace: "a", uid: "u1", resourceVersion: "7", annotations },
    spec: { containers: [], ...spec },
  };
  return { kind: "Pod", key: POD, value, origin: ORIGIN };
}

function namespace(annotations: Record<string, string>, labels: Record<string, string> = {}): Update {
  return {
    kind: "Namespace",
    key: { kind: "Namespace", namespace: undefined, name: "a" },
    value: { apiVersion: "v1", kind: "Namespace", metadata: { name: "a", annotations, labels } },
    origin: ORIGIN,
  };
}

function indexOf(...updates: readonly Update[]): PodRequestIndex {
  const index = new PodRequestIndex();
  index.observe(updates.map((update) => rowsFor("n1")(update)));
  return index;
}

test("a Pod that asks for nothing, before its Namespace is known", () => {
  expect(indexOf(pod({})).get(POD)).toEqual({
    metadata: { uid: "u1", resourceVersion: "7" },
    staticUid: undefined,
    ignored: [],
    namespaceLabels: {},
    requests: {
      ok: true,
      value: { addresses: undefined, families: undefined, ipv4Pools: undefined, ipv6Pools: undefined, mac: undefined },
    },
  });
});

test("each annotation of the Pod comes before its Namespace's; one that is empty counts as absent", () => {
  const own = {
    [`${P}ipv4pools`]: '["own"]',
    [`${P}ipv6pools`]: "",
    [`${P}hwAddr`]: "02-00-00-00-00-0A",
    [`${P}ipAddrs`]: '["10.0.0.1", "FD00::1"]',
  };
  const spaces = {
    [`${P}ipv4pools`]: '["theirs4"]',
    [`${P}ipv6pools`]: '["theirs6"]',
    [`${P}ipFamilies`]: '["IPv6","IPv4"]',
  };
  const found = indexOf(pod(own), namespace(spaces, { team: "x" })).get(POD);
  const value = {
    addresses: ["10.0.0.1", "fd00::1"] as never,
    families: [4, 6] as const,
    ipv4Pools: ["own"],
    ipv6Pools: ["theirs6"],
    mac: "02:00:00:00:00:0a",
  };
  expect(found?.requests).toEqual({ ok: true, value });
  expect(found?.namespaceLabels).toEqual({ team: "x" });
  expect(found?.ignored).toEqual([]);
});

test.each([
  [
    pod({ [`${P}ipFamilies`]: '["v4"]' }),
    namespace({}),
    'pod a/p: metadata.annotations[cni.projectcalico.org/ipFamilies]: Invalid value: "[\\"v4\\"]": must be a JSON list of "IPv4" and "IPv6"',
  ],
  [
    pod({}),
    namespace({ [`${P}ipFamilies`]: "[]" }),
    'namespace a: metadata.annotations[cni.projectcalico.org/ipFamilies]: Invalid value: "[]": must be a JSON list of "IPv4" and "IPv6"',
  ],
  [
    pod({ [`${P}floatingIPs`]: '["192.0.2.1"]' }),
    namespace({}),
    'pod a/p: metadata.annotations[cni.projectcalico.org/floatingIPs]: Invalid value: "[\\"192.0.2.1\\"]": must be absent: floating addresses are not supported',
  ],
])("what is malformed or not supported fails, naming object, annotation and value", (one, other, error) => {
  expect(indexOf(one, other).get(POD)?.requests).toEqual({ ok: false, error });
});

test("annotations without effect are named; those that the plugin writes are not", () => {
  const own = {
    [`${P}podIP`]: "10.0.0.1/32",
    [`${P}podIPs`]: "10.0.0.1/32",
    [`${P}containerID`]: "c",
    other: "x",
    [`${P}ipv4Pools`]: '["a"]',
    "qos.projectcalico.org/dscp": "3",
  };
  expect(indexOf(pod(own), namespace({ [`${P}hwAddr`]: "02:00:00:00:00:01" })).get(POD)?.ignored).toEqual([
    'annotation cni.projectcalico.org/ipv4Pools="[\\"a\\"]" of pod a/p: it is not known',
    'annotation qos.projectcalico.org/dscp="3" of pod a/p: limits by annotation are not supported',
    'annotation cni.projectcalico.org/hwAddr="02:00:00:00:00:01" of namespace a: it is not known',
  ]);
});

test("a static pod is known by the kubelet's uid too; another node's Pods, and those that are gone, are not known", () => {
  expect(indexOf(pod({ "kubernetes.io/config.mirror": "s1" })).get(POD)?.staticUid).toBe("s1");
  expect(indexOf(pod({}), pod({}, { nodeName: "n2" })).get(POD)).toBeUndefined();
  expect(indexOf(pod({}), { kind: "Pod", key: POD, value: undefined, origin: ORIGIN }).get(POD)).toBeUndefined();
  expect(indexOf(pod({}, { nodeName: "n1" })).get(POD)).toBeDefined();
});

test("what the plugin wrote of the Pod is known, for pods that are here or may come to be", () => {
  const written = { [`${P}podIP`]: "10.0.0.1/32", [`${P}podIPs`]: "10.0.0.1/32", [`${P}containerID`]: "c" };
  const index = indexOf(pod({ ...written, [`${P}hwAddr`]: "02-00-00-00-00-0A", other: "x" }, { nodeName: "n1" }));
  expect(index.written(POD)).toEqual(written);
  index.observe([rowsFor("n1")(pod(written, { nodeName: "n2" }))]);
  expect([index.written(POD), index.get(POD)]).toEqual([{}, undefined]);
});
