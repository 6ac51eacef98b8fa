import { expect, test } from "bun:test";
import type { JsonValue } from "../../../src/model/schema/json.ts";
import { decodeProtobuf } from "./protobuf.ts";

/** Bodies that kubectl 1.32 sent for the command in the name. */
const CAPTURED: readonly (readonly [string, string, JsonValue])[] = [
  [
    "create namespace foo",
    'k8s\0\n\u000f\n\u0002v1\u0012\tNamespace\u0012\u001b\n\u0013\n\u0003foo\u0012\0\u001a\0"\0*\u00002\u00008\0B\0\u0012\0\u001a\u0002\n\0\u001a\0"\0',
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "foo" }, spec: {}, status: {} },
  ],
  [
    "create configmap c --from-literal=a=b --from-literal=e=",
    'k8s\0\n\u000f\n\u0002v1\u0012\tConfigMap\u0012"\n\u0011\n\u0001c\u0012\0\u001a\0"\0*\u00002\u00008\0B\0\u0012\u0006\n\u0001a\u0012\u0001b\u0012\u0005\n\u0001e\u0012\0\u001a\0"\0',
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c" }, data: { a: "b", e: "" } },
  ],
  [
    "create service clusterip web --tcp=80:http",
    'k8s\0\n\r\n\u0002v1\u0012\u0007Service\u0012l\n\u001f\n\u0003web\u0012\0\u001a\0"\0*\u00002\u00008\0B\0Z\n\n\u0003app\u0012\u0003web\u0012E\n\u001e\n\u000780-http\u0012\u0003TCP\u0018P"\n\b\u0001\u0010\0\u001a\u0004http(\0\u0012\n\n\u0003app\u0012\u0003web\u001a\0"\tClusterIP:\0B\0R\0Z\0`\0h\0\u001a\u0002\n\0\u001a\0"\0',
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", labels: { app: "web" } },
      spec: {
        ports: [{ name: "80-http", protocol: "TCP", port: 80, targetPort: "http" }],
        selector: { app: "web" },
        type: "ClusterIP",
      },
      status: { loadBalancer: {} },
    },
  ],
  [
    "create secret generic s --from-literal=p=w",
    'k8s\0\n\f\n\u0002v1\u0012\u0006Secret\u0012\u001d\n\u0011\n\u0001s\u0012\0\u001a\0"\0*\u00002\u00008\0B\0\u0012\u0006\n\u0001p\u0012\u0001w\u001a\0\u001a\0"\0',
    { apiVersion: "v1", kind: "Secret", metadata: { name: "s" }, data: { p: "dw==" } },
  ],
];

test.each(CAPTURED)("kubectl %s", (_, text, expected) =>
  expect(decodeProtobuf(Buffer.from(text, "latin1"))).toEqual(expected as never),
);

/** Bodies that client-go 0.34 encodes of objects, and the same objects as it writes them in JSON, without nulls and empty texts. */
const ENCODED: readonly (readonly [string, string, JsonValue])[] = [
  [
    "NetworkPolicy",
    "azhzAAolChRuZXR3b3JraW5nLms4cy5pby92MRINTmV0d29ya1BvbGljeRJ4ChgKAW4SABoAIgAqADIAOABCAFoFCgFhEgASXAoPEg0KAWsSAkluGgF4GgF5EgASPgoRCgNVRFASCggBEAAaBGh0dHAKChIGCAAQUBoAGFoSAgoAEhkaFwoIZmQwMDo6LzgSC2ZkMDA6MTo6LzMyIgdJbmdyZXNzGgAiAA==",
    {
      kind: "NetworkPolicy",
      apiVersion: "networking.k8s.io/v1",
      metadata: { name: "n", labels: { a: "" } },
      spec: {
        podSelector: { matchExpressions: [{ key: "k", operator: "In", values: ["x", "y"] }] },
        ingress: [
          {},
          {
            ports: [
              { protocol: "UDP", port: "http" },
              { port: 80, endPort: 90 },
            ],
            from: [{ podSelector: {} }, { ipBlock: { cidr: "fd00::/8", except: ["fd00:1::/32"] } }],
          },
        ],
        policyTypes: ["Ingress"],
      },
    },
  ],
  [
    "Pod",
    "azhzAAoJCgJ2MRIDUG9kEvEBCjoKAXASABoAIgAqADIAOABCCAiAt6rJBhAAUABqHQoKUmVwbGljYVNldBoBciIBdSoHYXBwcy92MTAAEp0BChAKAXYSCxIJCgASBQoDMUdpEmUKAWMSA2k6MSoAMg4KBGh0dHAQABhQIgAqADoFCgFFEgBCDwoNCgNjcHUSBgoEMTAwbVIhChUSEwoBLxIKCAEQABoEaHR0cBoAIgAQABgAIAUoADAAagByAIABAIgBAJABAKIBABoAIAAyAEIASgBSAFgAYABoAHIEIAAgB4IBAIoBAJoBAMIBABoTCgAaACIAKgAyAEoAWgByAIgBABoAIgA=",
    {
      kind: "Pod",
      apiVersion: "v1",
      metadata: {
        name: "p",
        creationTimestamp: "2025-11-29T07:06:40Z",
        deletionGracePeriodSeconds: 0,
        ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "r", uid: "u", controller: false }],
      },
      spec: {
        volumes: [{ name: "v", emptyDir: { sizeLimit: "1Gi" } }],
        containers: [
          {
            name: "c",
            image: "i:1",
            ports: [{ name: "http", containerPort: 80 }],
            env: [{ name: "E" }],
            resources: { limits: { cpu: "100m" } },
            livenessProbe: { httpGet: { path: "/", port: "http" }, periodSeconds: 5 },
          },
        ],
        terminationGracePeriodSeconds: 0,
        securityContext: { supplementalGroups: [0, 7] },
      },
      status: {},
    },
  ],
  [
    "EndpointSlice",
    "azhzAAokChNkaXNjb3ZlcnkuazhzLmlvL3YxEg1FbmRwb2ludFNsaWNlEi4KEQoBZRIAGgAiACoAMgA4AEIAEg0KB2ZkMDA6OjESAggAGgQKABhQIgRJUHY2GgAiAA==",
    {
      kind: "EndpointSlice",
      apiVersion: "discovery.k8s.io/v1",
      metadata: { name: "e" },
      addressType: "IPv6",
      endpoints: [{ addresses: ["fd00::1"], conditions: { ready: false } }],
      ports: [{ name: "", port: 80 }],
    },
  ],
  [
    "Event",
    "azhzAAoLCgJ2MRIFRXZlbnQSSAoRCgF4EgAaACIAKgAyADgAQgASDgoAEgAaACIAKgAyADoAGgAiACoECgASADIAOgBAAkoAUgsIgLeqyQYQgJTvOmIAcgB6ABoAIgA=",
    {
      kind: "Event",
      apiVersion: "v1",
      metadata: { name: "x" },
      involvedObject: {},
      source: {},
      count: 2,
      eventTime: "2025-11-29T07:06:40.123456Z",
    },
  ],
];

test.each(ENCODED)("client-go: %s", (_, base64, expected) =>
  expect(decodeProtobuf(Buffer.from(base64, "base64"))).toEqual(expected as never),
);

test.each(CAPTURED)("every truncation is refused with 400 or read: kubectl %s", (_, text) => {
  const bytes = Buffer.from(text, "latin1");
  for (let length = 0; length < bytes.length; length++) {
    try {
      decodeProtobuf(bytes.subarray(0, length));
    } catch (error) {
      expect(error).toMatchObject({ code: 400 });
    }
  }
});

test("a kind that is not read from protobuf is named", () => {
  expect(() => decodeProtobuf(Buffer.from("k8s\0\n\x10\n\x02v1\x12\nDeployment\x12\0", "latin1"))).toThrow(
    "a v1 Deployment is not read from protobuf",
  );
});
