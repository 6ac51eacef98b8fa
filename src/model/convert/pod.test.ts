import { expect, test } from "bun:test";
import { formatParseError } from "../../lib/result.ts";
import type { Resource } from "../resource.ts";
import { endpointOfPod } from "./pod.ts";

type Status = Resource<"Pod">["status"];

function addresses(
  status: Status,
  annotations: Record<string, string> = {},
  spec: object = { nodeName: "n1" },
): readonly string[] | string {
  const pod = endpointOfPod({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace: "a", annotations },
    spec: { containers: [], ...spec },
    ...(status === undefined ? {} : { status }),
  });
  return pod.ok ? pod.value.addresses : formatParseError(pod.error);
}

test("addresses: status.podIPs, then podIP, then the annotations; canonical and each once", () => {
  const annotations = {
    "cni.projectcalico.org/podIPs": "10.0.0.3/32,fd00::3/128",
    "cni.projectcalico.org/podIP": "10.0.0.4/32",
  };
  expect(
    addresses(
      { podIPs: [{ ip: "10.0.0.1" }, { ip: "FD00:0::1" }, { ip: "10.0.0.1" }], podIP: "10.0.0.2" },
      annotations,
    ),
  ).toEqual(["10.0.0.1", "fd00::1"]);
  expect(addresses({ podIPs: [], podIP: "10.0.0.2" }, annotations)).toEqual(["10.0.0.2"]);
  expect(addresses({}, annotations)).toEqual(["10.0.0.3", "fd00::3"]);
  expect(addresses(undefined, { "cni.projectcalico.org/podIP": "10.0.0.4" })).toEqual(["10.0.0.4"]);
  expect(addresses({ podIP: "10.0.0.999" })).toBe(
    'Cannot parse address "10.0.0.999": must be an IPv4 or IPv6 address such as 10.0.0.1 or fd00::1',
  );
});

test("the source of the addresses", () => {
  const annotations = { "cni.projectcalico.org/podIPs": "10.0.0.3/32" };
  const from = (status: Status): string => {
    const pod = endpointOfPod({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "a", annotations },
      spec: { nodeName: "n1", containers: [] },
      ...(status === undefined ? {} : { status }),
    });
    return pod.ok ? pod.value.addressesFrom : "";
  };
  expect([
    from({ podIPs: [{ ip: "10.0.0.1" }] }),
    from({ podIP: "10.0.0.1" }),
    from({ podIPs: [] }),
    from(undefined),
  ]).toEqual(["status", "status", "annotation", "annotation"]);
});

test("no addresses: finished, torn down, on the host's network, not scheduled", () => {
  const podIPs = [{ ip: "10.0.0.1" }];
  expect(addresses({ podIPs, phase: "Succeeded" })).toEqual([]);
  expect(addresses({ podIPs, phase: "Failed" })).toEqual([]);
  expect(addresses({ podIPs }, { "cni.projectcalico.org/podIP": "" })).toEqual([]);
  expect(addresses({ podIPs }, { "cni.projectcalico.org/podIPs": "" })).toEqual([]);
  expect(addresses({ podIPs }, {}, { nodeName: "n1", hostNetwork: true })).toEqual([]);
  expect(addresses({ podIPs }, {}, {})).toEqual([]);
});

test("labels: ours overwrite a pod's own, and forged inherited ones are dropped", () => {
  const labels = {
    app: "web",
    "pcns.team": "red",
    "pcsa.x": "y",
    "projectcalico.org/namespace": "b",
    "projectcalico.org/orchestrator": "x",
    "projectcalico.org/serviceaccount": "root",
  };
  const read = (spec: object): [string, string][] => {
    const pod = endpointOfPod({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "a", labels },
      spec: { containers: [], ...spec },
    });
    return pod.ok ? [...pod.value.labels].sort() : [];
  };
  expect(read({})).toEqual([
    ["app", "web"],
    ["projectcalico.org/namespace", "a"],
    ["projectcalico.org/orchestrator", "k8s"],
  ]);
  expect(read({ serviceAccountName: "robot" })).toContainEqual(["projectcalico.org/serviceaccount", "robot"]);
});

test("no content of a stored object makes the conversion throw", () => {
  for (const junk of [null, 7, "x", [], [null], [7], {}, { a: [] }]) {
    const hostile = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", labels: junk, annotations: {} },
      spec: { nodeName: "n", containers: junk, initContainers: junk },
      status: { podIPs: junk },
    } as unknown as Resource<"Pod">;
    expect(() => endpointOfPod(hostile)).not.toThrow();
  }
});
