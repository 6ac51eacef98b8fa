import { expect, test } from "bun:test";
import type { JsonValue } from "../../model/schema/json.ts";
import { decodeProtobuf } from "./protobuf.ts";

/** Bodies that kubectl 1.32 sent for the command in the name. */
const CAPTURED: readonly (readonly [string, string, JsonValue])[] = [
  [
    "create namespace foo",
    "k8s\0\n\u000f\n\u0002v1\u0012\tNamespace\u0012\u001b\n\u0013\n\u0003foo\u0012\0\u001a\0\"\0*\u00002\u00008\0B\0\u0012\0\u001a\u0002\n\0\u001a\0\"\0",
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "foo" }, spec: {} },
  ],
  [
    "create configmap c --from-literal=a=b --from-literal=e=",
    "k8s\0\n\u000f\n\u0002v1\u0012\tConfigMap\u0012\"\n\u0011\n\u0001c\u0012\0\u001a\0\"\0*\u00002\u00008\0B\0\u0012\u0006\n\u0001a\u0012\u0001b\u0012\u0005\n\u0001e\u0012\0\u001a\0\"\0",
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c" }, data: { a: "b", e: "" } },
  ],
  [
    "create service clusterip web --tcp=80:http",
    "k8s\0\n\r\n\u0002v1\u0012\u0007Service\u0012l\n\u001f\n\u0003web\u0012\0\u001a\0\"\0*\u00002\u00008\0B\0Z\n\n\u0003app\u0012\u0003web\u0012E\n\u001e\n\u000780-http\u0012\u0003TCP\u0018P\"\n\b\u0001\u0010\0\u001a\u0004http(\0\u0012\n\n\u0003app\u0012\u0003web\u001a\0\"\tClusterIP:\0B\0R\0Z\0`\0h\0\u001a\u0002\n\0\u001a\0\"\0",
    {
      apiVersion: "v1", kind: "Service", metadata: { name: "web", labels: { app: "web" } },
      spec: { ports: [{ name: "80-http", protocol: "TCP", port: 80, targetPort: "http" }], selector: { app: "web" }, type: "ClusterIP" },
    },
  ],
  [
    "create secret generic s --from-literal=p=w",
    "k8s\0\n\f\n\u0002v1\u0012\u0006Secret\u0012\u001d\n\u0011\n\u0001s\u0012\0\u001a\0\"\0*\u00002\u00008\0B\0\u0012\u0006\n\u0001p\u0012\u0001w\u001a\0\u001a\0\"\0",
    { apiVersion: "v1", kind: "Secret", metadata: { name: "s" }, data: { p: "dw==" } },
  ],
];

test.each(CAPTURED)("kubectl %s", (_, text, expected) => expect(decodeProtobuf(Buffer.from(text, "latin1"))).toEqual(expected as never));

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
  expect(() => decodeProtobuf(Buffer.from("k8s\0\n\x10\n\x02v1\x12\nDeployment\x12\0", "latin1"))).toThrow("a v1 Deployment is not read from protobuf");
});
