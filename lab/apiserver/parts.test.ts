import { describe, expect, test } from "bun:test";
import { formatParseError } from "../../src/lib/result.ts";
import { parseJsonPath, readJsonPath } from "./crd/json-path.ts";
import { compareVersions } from "./crd/custom-type.ts";
import { parseTokenFile } from "./http/authenticate.ts";
import { duplicateFields } from "./http/duplicates.ts";
import { negotiate } from "./http/negotiate.ts";
import { parseTarget } from "./http/request.ts";
import { POD } from "./kinds/pod.ts";
import { formatUrl, parseListenAddress } from "./listen.ts";
import { nameProblems, qualifiedNameProblems } from "./objects/metadata.ts";
import { parseFieldSelector, parseLabelSelector } from "./objects/selectors.ts";
import type { ApiObject } from "./object.ts";
import { formatDuration } from "./table/age.ts";

const labelled = (labels: { [name: string]: string }): ApiObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "p", namespace: "n", labels },
  spec: { nodeName: "n1" },
});

test.each([
  ["a=b", { a: "b" }, true],
  ["a==b", { a: "c" }, false],
  ["a!=b", {}, true],
  ["a!=b", { a: "b" }, false],
  ["a", { a: "" }, true],
  ["!a", { a: "" }, false],
  ["a in (b,c)", { a: "c" }, true],
  ["a in (b, c),d", { a: "c" }, false],
  ["a notin (b,c)", {}, true],
  ["a>5", { a: "6" }, true],
  ["a<5", { a: "6" }, false],
  ["a<5", {}, false],
  ["a in ()", { a: "" }, true],
  ["!a,b", { b: "1" }, true],
  ["", {}, undefined],
  ["a notin (b,c)", { a: "b" }, false],
  ["example.com/a=b", { "example.com/a": "b" }, true],
])("label selector %s on %j: %p", (text, labels, expected) =>
  expect(parseLabelSelector(text)?.(labelled(labels as never))).toBe(expected),
);

test.each(["==x", "a in b", "a=b=c", "-a=b", "a in (b", "a b", "a,", "a<b"])("label selector %j is refused", (text) =>
  expect(() => parseLabelSelector(text)).toThrow(/^unable to parse requirement: |^found '.*', expected: /),
);

test.each([
  ["metadata.name=p", true],
  ["metadata.namespace!=n", false],
  ["spec.nodeName=n1,metadata.name=p", true],
  ["spec.nodeName=", false],
])("field selector %s: %p", (text, expected) => expect(parseFieldSelector(text, POD)?.(labelled({}))).toBe(expected));

test.each([
  [0, "0s"],
  [119, "119s"],
  [120, "2m"],
  [125, "2m5s"],
  [600, "10m"],
  [10799, "179m"],
  [10800, "3h"],
  [11100, "3h5m"],
  [28800, "8h"],
  [172799, "47h"],
  [172800, "2d"],
  [180000, "2d2h"],
  [691200, "8d"],
  [63072000, "2y"],
  [-5, "<invalid>"],
])("age of %d seconds is %s", (seconds, expected) => expect(formatDuration(seconds)).toBe(expected));

test.each([
  [".spec.cidr", ["10.0.0.0/8"]],
  [".items[1].n", [2]],
  [".items[*].n", [1, 2]],
  ['.status[?(@.type=="Ready")].status', ["True"]],
  [".status[?(@.type=='Ready')].status", ["True"]],
  [".labels.a\\.b/c", ["x"]],
  [".labels['a.b/c']", ["x"]],
  [".nothing.here", []],
  ["{.spec.cidr}", ["10.0.0.0/8"]],
])("JSON path %s", (text, expected) => {
  const path = parseJsonPath(text);
  expect(path.ok).toBeTrue();
  const root = {
    spec: { cidr: "10.0.0.0/8" },
    items: [{ n: 1 }, { n: 2 }],
    status: [
      { type: "Ready", status: "True" },
      { type: "X", status: "False" },
    ],
    labels: { "a.b/c": "x" },
  };
  if (path.ok) expect(readJsonPath(path.value, root)).toEqual(expected);
});

test.each(["spec", ".a[", ".a[x]"])("JSON path %j is refused", (text) => expect(parseJsonPath(text).ok).toBeFalse());

test.each([
  ['{"a":1,"b":{"c":[{"d":1,"d":2}]}}', ["b.c[0].d"]],
  ['{"a":1,"a":{"x":1,"x":2}}', ["a", "a.x"]],
  ['{"a":"\\"b\\",","b":"}"}', []],
  ['[ {"k" : [ ] , "k":null} ]', ["[0].k"]],
  ["{}", []],
])("duplicates in %s", (text, expected) => expect(duplicateFields(text)).toEqual(expected));

test.each([
  ["/api/v1/namespaces", { resource: "namespaces", namespace: undefined, name: undefined }],
  ["/api/v1/namespaces/n", { resource: "namespaces", namespace: undefined, name: "n" }],
  ["/api/v1/namespaces/n/status", { resource: "namespaces", name: "n", subresource: "status" }],
  ["/api/v1/namespaces/n/pods", { resource: "pods", namespace: "n", name: undefined }],
  ["/api/v1/namespaces/n/pods/p/binding", { resource: "pods", namespace: "n", name: "p", subresource: "binding" }],
  [
    "/apis/projectcalico.org/v3/ippools/a%2Fb",
    { group: "projectcalico.org", version: "v3", resource: "ippools", name: "a/b" },
  ],
])("path %s", (path, expected) => expect(parseTarget(path)).toMatchObject(expected));

test.each(["/api", "/api/v1", "/apis/g", "/apis/g/v1", "/healthz"])("path %s is no resource", (path) =>
  expect(parseTarget(path)).toBeUndefined(),
);

test.each([
  ["application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "table"],
  ["application/vnd.kubernetes.protobuf,application/json", "object"],
  ["*/*", "object"],
  [
    "application/json;as=Table;v=v9;g=meta.k8s.io,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    "metadata",
  ],
])("Accept: %s", (accept, as) => expect(negotiate(accept).as as string).toBe(as));

describe("listen addresses", () => {
  test.each([
    ["127.0.0.1:0", "https://127.0.0.1:0"],
    ["[fd00::1]:6443", "https://[fd00::1]:6443"],
    ["netns:/run/netns/a@10.0.0.1:6443", "https://10.0.0.1:6443"],
    ["0.0.0.0:1", "https://127.0.0.1:1"],
  ])("%s", (text, url) => {
    const parsed = parseListenAddress(text);
    expect(parsed.ok ? formatUrl(parsed.value.addr, parsed.value.port) : formatParseError(parsed.error)).toBe(url);
  });
  test.each(["127.0.0.1", "localhost:1", "1.2.3.4:65536", "fd00::1:80", "netns:@1.2.3.4:1"])("%s is refused", (text) =>
    expect(parseListenAddress(text).ok).toBeFalse(),
  );
});

test.each([
  ["subdomain", "a.b-c", 0],
  ["subdomain", "A", 1],
  ["subdomain", "a".repeat(254), 1],
  ["label", "a.b", 1],
  ["label", "0a", 0],
  ["service", "0a", 1],
  ["label", "-a", 1],
] as const)("name under the rule %s: %s", (rule, name, problems) =>
  expect(nameProblems(rule, name)).toHaveLength(problems),
);

test.each([
  ["a", 0],
  ["example.com/a_b.C", 0],
  ["/a", 1],
  ["a/b/c", 1],
  ["a/", 2],
  ["x".repeat(64), 1],
])("label key %s", (key, problems) => expect(qualifiedNameProblems(key)).toHaveLength(problems));

test("token file", () => {
  expect(parseTokenFile('t1,alice,u1,"g1,g2"\n\n# comment\nt2,bob,u2\n')).toEqual([
    { token: "t1", user: { name: "alice", groups: ["g1", "g2"] } },
    { token: "t2", user: { name: "bob", groups: [] } },
  ]);
  expect(() => parseTokenFile("only-a-token\n")).toThrow("line 1 of the token file");
});

test("versions by preference", () =>
  expect(["v1alpha1", "v1", "foo", "v2", "v1beta2", "v10"].sort(compareVersions)).toEqual([
    "v10",
    "v2",
    "v1",
    "v1beta2",
    "v1alpha1",
    "foo",
  ]));
