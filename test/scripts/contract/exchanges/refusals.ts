/** refusals: each shape of error, as a plain request sees it. */
import { load } from "js-yaml";
import { type Recorder, textAt } from "../recorder.ts";
import { APPLY, configMap, JSON_PATCH, MERGE, NETWORKING, type Places, pod, policy, STRATEGIC } from "./places.ts";

export async function refusals(recorder: Recorder, places: Places): Promise<void> {
  await absences(recorder, places);
  await conflicts(recorder, places);
  await wrongPlaces(recorder, places);
  await wrongBodies(recorder, places);
  await wrongPatches(recorder, places);
  await wrongOptions(recorder, places);
  await selectors(recorder, places);
  await strangers(recorder, places);
}

async function absences(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  await recorder.request("get an object that does not exist", "GET", `${maps}/ghost`);
  await recorder.request(
    "get an object of a named group that does not exist",
    "GET",
    `${places.in("networkpolicies", NETWORKING)}/ghost`,
  );
  await recorder.request("delete an object that does not exist", "DELETE", `${maps}/ghost`);
  await recorder.request("patch an object that does not exist", "PATCH", `${maps}/ghost`, { type: MERGE, body: {} });
  await recorder.request(
    "replace an object that does not exist",
    "PUT",
    `${places.in("networkpolicies", NETWORKING)}/ghost`,
    { body: policy("ghost", { podSelector: {} }) },
  );
  await recorder.request("unknown resource", "GET", places.in("things"));
  await recorder.request("unknown group", "GET", "/apis/nope.example.com/v1/things");
  await recorder.request("unknown version", "GET", "/apis/networking.k8s.io/v9/networkpolicies");
  await recorder.request("unknown path", "GET", "/nope");
  await recorder.request("unknown subresource", "GET", `${maps}/ghost/nope`);
  await recorder.request("subresource of an object that does not exist", "GET", `${places.in("pods")}/ghost/status`);
  await recorder.request("create in a namespace that does not exist", "POST", "/api/v1/namespaces/nope/configmaps", {
    body: configMap("a"),
  });
  await recorder.request("list in a namespace that does not exist", "GET", "/api/v1/namespaces/nope/configmaps");
  await recorder.request(
    "a kind without namespaces in a namespace",
    "GET",
    `/api/v1/namespaces/${places.namespace}/nodes`,
  );
  await recorder.request("a namespaced object without its namespace", "GET", "/api/v1/configmaps/a");
  await recorder.request("replace a collection", "PUT", maps, { body: configMap("a") });
  await recorder.request("create at an object", "POST", `${maps}/a`, { body: configMap("a") });
  await recorder.request("patch a collection", "PATCH", maps, { type: MERGE, body: {} });
  await recorder.request("delete a status", "DELETE", `${places.in("pods")}/ghost/status`);
}

async function conflicts(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  const made = await recorder.request("create a configmap", "POST", maps, {
    body: configMap("held", { finalizers: ["example.com/hold"] }, { data: { a: "1" } }),
  });
  await recorder.request("create it again", "POST", maps, { body: configMap("held") });
  await recorder.request("replace with a stale version", "PUT", `${maps}/held`, {
    body: configMap("held", { resourceVersion: "1" }),
  });
  await recorder.request("patch with a stale version", "PATCH", `${maps}/held`, {
    type: MERGE,
    body: { metadata: { resourceVersion: "1" } },
  });
  await recorder.request("patch with a stale version that changes something", "PATCH", `${maps}/held`, {
    type: MERGE,
    body: { metadata: { resourceVersion: "1" }, data: { b: "2" } },
  });
  await recorder.request("replace with another uid", "PUT", `${maps}/held`, {
    body: configMap("held", { uid: "1b4e28ba-2fa1-11d2-883f-0016d3cca427" }),
  });
  await recorder.request("delete with another uid", "DELETE", `${maps}/held`, {
    body: { kind: "DeleteOptions", apiVersion: "v1", preconditions: { uid: "1b4e28ba-2fa1-11d2-883f-0016d3cca427" } },
  });
  await recorder.request("delete with a stale version", "DELETE", `${maps}/held`, {
    body: { kind: "DeleteOptions", apiVersion: "v1", preconditions: { resourceVersion: "1" } },
  });
  await recorder.request("delete with the right uid and version, held by a finalizer", "DELETE", `${maps}/held`, {
    body: {
      kind: "DeleteOptions",
      apiVersion: "v1",
      preconditions: {
        uid: textAt(made.object, "metadata", "uid"),
        resourceVersion: textAt(made.object, "metadata", "resourceVersion"),
      },
    },
  });
  await recorder.request("create it again while it is being deleted", "POST", maps, { body: configMap("held") });
  await recorder.request("a new finalizer while it is being deleted", "PATCH", `${maps}/held`, {
    type: MERGE,
    body: { metadata: { finalizers: ["example.com/hold", "example.com/more"] } },
  });
  await recorder.request("delete it again", "DELETE", `${maps}/held`);
  await recorder.request("a change while it is being deleted", "PATCH", `${maps}/held`, {
    type: MERGE,
    body: { data: { a: "2" } },
  });
  await recorder.request("its finalizer removed", "PATCH", `${maps}/held`, {
    type: MERGE,
    body: { metadata: { finalizers: null } },
  });
  await recorder.request("then it is gone", "GET", `${maps}/held`);
  await recorder.request("create with a version", "POST", maps, {
    body: configMap("versioned", { resourceVersion: "7" }),
  });
  await recorder.request("create without a name", "POST", maps, {
    body: { apiVersion: "v1", kind: "ConfigMap", metadata: {} },
  });
}

async function wrongPlaces(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  await recorder.request("object of another namespace", "POST", maps, {
    body: configMap("a", { namespace: "elsewhere" }),
  });
  await recorder.request("object of another version", "POST", maps, { body: { ...configMap("a"), apiVersion: "v2" } });
  await recorder.request("object of another group", "POST", maps, { body: policy("a", { podSelector: {} }) });
  await recorder.request("object of another kind", "POST", maps, { body: { ...configMap("a"), kind: "Secret" } });
  await recorder.request("object of a kind that is not served", "POST", maps, {
    body: { ...configMap("a"), kind: "Nonsense" },
  });
  await recorder.request("object without kind", "POST", maps, {
    body: { metadata: { name: "without-kind" }, data: { a: "1" } },
  });
  await recorder.request("replace under another name", "PUT", `${maps}/without-kind`, { body: configMap("other") });
  await recorder.request("replace without a name", "PUT", `${maps}/without-kind`, {
    body: { apiVersion: "v1", kind: "ConfigMap", metadata: {} },
  });
  await recorder.request("replace in another namespace", "PUT", `${maps}/without-kind`, {
    body: configMap("without-kind", { namespace: "elsewhere" }),
  });
  await recorder.request("patch of the name", "PATCH", `${maps}/without-kind`, {
    type: MERGE,
    body: { metadata: { name: "other" } },
  });
  await recorder.request("patch of the namespace", "PATCH", `${maps}/without-kind`, {
    type: MERGE,
    body: { metadata: { namespace: "elsewhere" } },
  });
  await recorder.request("patch of the kind", "PATCH", `${maps}/without-kind`, {
    type: MERGE,
    body: { kind: "Secret" },
  });
  await recorder.request("patch of the uid", "PATCH", `${maps}/without-kind`, {
    type: MERGE,
    body: { metadata: { uid: "1b4e28ba-2fa1-11d2-883f-0016d3cca427" } },
  });
  await recorder.request("patch of the creation time", "PATCH", `${maps}/without-kind`, {
    type: MERGE,
    body: { metadata: { creationTimestamp: "2020-01-01T00:00:00Z" } },
  });
}

async function wrongBodies(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  await recorder.request("body that is no JSON", "POST", maps, { body: "{nonsense" });
  await recorder.request("empty body", "POST", maps, { body: "" });
  await recorder.request("body that is a list", "POST", maps, { body: [] });
  await recorder.request("body of plain text", "POST", maps, { type: "text/plain", body: "a" });
  await recorder.request("body in YAML", "POST", maps, {
    type: "application/yaml",
    body: 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: from-yaml\ndata:\n  a: "1"\n',
  });
  await recorder.request("body in bad YAML", "POST", maps, { type: "application/yaml", body: "a: [" });
  await recorder.request("body of 4 MiB", "POST", maps, {
    body: configMap("large", {}, { data: { a: "x".repeat(4 * 1024 * 1024) } }),
  });
  await recorder.request("data of a configmap beyond 1 MiB", "POST", maps, {
    body: configMap("large", {}, { data: { a: "x".repeat(1024 * 1024 + 1) } }),
  });
  await recorder.request("a number for a text, built-in kind", "POST", maps, {
    body: configMap("typed", {}, { data: { a: 1 } }),
  });
  await recorder.request("a text for a boolean, built-in kind", "POST", places.in("pods"), {
    body: pod("typed", { hostNetwork: "yes" }),
  });
  await recorder.request("an object for a list, built-in kind", "POST", places.in("pods"), {
    body: pod("typed", { containers: {} }),
  });
  await recorder.request("a number for the whole spec, built-in kind", "POST", places.in("pods"), {
    body: { ...pod("typed"), spec: 5 },
  });
  await recorder.request("a text for labels", "POST", maps, { body: configMap("typed", { labels: "a" }) });
  await recorder.request("a number for a label", "POST", maps, { body: configMap("typed", { labels: { a: 1 } }) });
  await recorder.request("answer in a form that is not served", "GET", `${maps}/without-kind`, {
    accept: "application/xml",
  });
  await recorder.request("answer in YAML", "GET", `${maps}/without-kind`, {
    accept: "application/yaml",
    select: (body) => recorder.normalised(typeof body === "string" ? load(body) : body),
  });
  await recorder.request("answer in protobuf", "GET", `${maps}/without-kind`, {
    accept: "application/vnd.kubernetes.protobuf",
    select: () => "…",
  });
  await recorder.request("answer in protobuf or else JSON", "GET", `${maps}/ghost`, {
    accept: "application/xml, application/json",
  });
}

async function wrongPatches(recorder: Recorder, places: Places): Promise<void> {
  const map = `${places.in("configmaps")}/without-kind`;
  await recorder.request("JSON patch whose test fails", "PATCH", map, {
    type: JSON_PATCH,
    body: [{ op: "test", path: "/data/a", value: "9" }],
  });
  await recorder.request("JSON patch of a path that does not exist", "PATCH", map, {
    type: JSON_PATCH,
    body: [{ op: "replace", path: "/data/b/c", value: "9" }],
  });
  await recorder.request("JSON patch that removes what does not exist", "PATCH", map, {
    type: JSON_PATCH,
    body: [{ op: "remove", path: "/data/zzz" }],
  });
  await recorder.request("JSON patch with an unknown operation", "PATCH", map, {
    type: JSON_PATCH,
    body: [{ op: "swap", path: "/data/a" }],
  });
  await recorder.request("JSON patch that is no list", "PATCH", map, { type: JSON_PATCH, body: { op: "add" } });
  await recorder.request("JSON patch that works", "PATCH", map, {
    type: JSON_PATCH,
    body: [
      { op: "test", path: "/data/a", value: "1" },
      { op: "add", path: "/data/b", value: "2" },
      { op: "move", from: "/data/a", path: "/data/c" },
      { op: "copy", from: "/data/b", path: "/data/d" },
    ],
  });
  await recorder.request("merge patch that is a list", "PATCH", map, { type: MERGE, body: [] });
  await recorder.request("merge patch that is no JSON", "PATCH", map, { type: MERGE, body: "{" });
  await recorder.request("merge patch with null", "PATCH", map, { type: MERGE, body: { data: { c: null, e: "5" } } });
  await recorder.request("merge patch that changes nothing", "PATCH", map, { type: MERGE, body: { data: { e: "5" } } });
  await recorder.request("merge patch to a wrong type", "PATCH", map, { type: MERGE, body: { data: { e: 5 } } });
  await recorder.request("strategic patch with a wrong directive", "PATCH", map, {
    type: STRATEGIC,
    body: { data: { $patch: "nonsense" } },
  });
  await recorder.request("strategic patch of data", "PATCH", map, {
    type: STRATEGIC,
    body: { data: { e: null, f: "6" } },
  });
  await recorder.request("patch of plain JSON", "PATCH", map, { type: "application/json", body: {} });
  const applied = configMap("applied", {}, { data: { a: "1" } });
  const path = `${places.in("configmaps")}/applied`;
  await recorder.request("server-side apply of a new object", "PATCH", `${path}?fieldManager=one`, {
    type: APPLY,
    body: applied,
  });
  await recorder.request("server-side apply without a manager", "PATCH", path, { type: APPLY, body: applied });
  await recorder.request("server-side apply against another manager", "PATCH", `${path}?fieldManager=two`, {
    type: APPLY,
    body: configMap("applied", {}, { data: { a: "2" } }),
  });
  await recorder.request("server-side apply with force", "PATCH", `${path}?fieldManager=two&force=true`, {
    type: APPLY,
    body: configMap("applied", {}, { data: { a: "2" } }),
  });
}

async function wrongOptions(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  await recorder.request("dryRun that does not exist", "POST", `${maps}?dryRun=Some`, { body: configMap("a") });
  await recorder.request("fieldValidation that does not exist", "POST", `${maps}?fieldValidation=Lax`, {
    body: configMap("a"),
  });
  await recorder.request(
    "propagationPolicy that does not exist",
    "DELETE",
    `${maps}/without-kind?propagationPolicy=Sideways`,
  );
  await recorder.request("orphanDependents beside propagationPolicy", "DELETE", `${maps}/without-kind`, {
    body: { kind: "DeleteOptions", apiVersion: "v1", orphanDependents: true, propagationPolicy: "Background" },
  });
  await recorder.request("delete options with dryRun that does not exist", "DELETE", `${maps}/without-kind`, {
    body: { kind: "DeleteOptions", apiVersion: "v1", dryRun: ["Some"] },
  });
  await recorder.request("limit that is no number", "GET", `${maps}?limit=x`);
  await recorder.request("timeoutSeconds that is no number", "GET", `${maps}?watch=true&timeoutSeconds=x`);
  await recorder.request("resourceVersion that is no number", "GET", `${maps}?resourceVersion=x`);
  await recorder.request(
    "resourceVersion that is no number, one object",
    "GET",
    `${maps}/without-kind?resourceVersion=x`,
  );
  await recorder.request("resourceVersion that is no number, watch", "GET", `${maps}?watch=true&resourceVersion=x`);
  await recorder.request(
    "resourceVersionMatch that does not exist",
    "GET",
    `${maps}?resourceVersion=1&resourceVersionMatch=About`,
  );
  await recorder.request("resourceVersionMatch without resourceVersion", "GET", `${maps}?resourceVersionMatch=Exact`);
  await recorder.request("exact list of version 0", "GET", `${maps}?resourceVersion=0&resourceVersionMatch=Exact`);
  await recorder.request("continue that is no token", "GET", `${maps}?limit=2&continue=xxx`);
  await recorder.request(
    "continue beside resourceVersion",
    "GET",
    `${maps}?limit=2&resourceVersion=5&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJ4XHUwMDAwIn0`,
  );
  await recorder.request(
    "sendInitialEvents without resourceVersionMatch",
    "GET",
    `${maps}?watch=true&sendInitialEvents=true&timeoutSeconds=1`,
  );
  await recorder.request(
    "resourceVersionMatch of a watch",
    "GET",
    `${maps}?watch=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1`,
  );
  await recorder.request(
    "sendInitialEvents of a list",
    "GET",
    `${maps}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan`,
  );
  await recorder.request("includeObject that does not exist", "GET", `${maps}?includeObject=Half`, {
    accept: "application/json;as=Table;v=v1;g=meta.k8s.io",
  });
  await recorder.request("a list of a version to come", "GET", `${maps}?resourceVersion=900000000000&limit=1`);
  await recorder.request("an object of a version to come", "GET", `${maps}/without-kind?resourceVersion=900000000000`);
}

async function selectors(recorder: Recorder, places: Places): Promise<void> {
  const asked = async (name: string, plural: string, query: string): Promise<unknown> =>
    recorder.request(name, "GET", `${places.in(plural)}?${query}`);
  await asked("field that is no selector", "pods", "fieldSelector=spec.foo%3Dbar");
  await asked("field selector without operator", "pods", "fieldSelector=spec");
  await asked("field of another kind", "configmaps", "fieldSelector=status.phase%3DRunning");
  await asked(
    "field selector by name and namespace",
    "configmaps",
    `fieldSelector=metadata.name%3Dghost,metadata.namespace!%3Dother`,
  );
  for (const [what, text] of [
    ["only a value", "==x"],
    ["bad key", "a/b/c=d"],
    ["bad value", "a=b c"],
    ["empty set", "a in ()"],
    ["open set", "a in (b"],
    ["bad operator", "a ~ b"],
    ["trailing comma", "a=b,"],
    ["less than", "a<5"],
    ["less than a text", "a<b"],
    ["two equals", "a==b"],
    ["long value", `a=${"x".repeat(64)}`],
    ["not and equals", "!a=b"],
  ] as const) {
    await asked(`label selector: ${what}`, "configmaps", `labelSelector=${encodeURIComponent(text)}`);
  }
}

async function strangers(recorder: Recorder, places: Places): Promise<void> {
  for (const credentials of ["none", "wrong token"] as const) {
    await recorder.request(`list with ${credentials}`, "GET", places.in("pods"), { credentials });
    await recorder.request(
      `get of a named group with ${credentials}`,
      "GET",
      `${places.in("networkpolicies", NETWORKING)}/a`,
      { credentials },
    );
    await recorder.request(`create outside of namespaces with ${credentials}`, "POST", places.all("namespaces"), {
      credentials,
      body: {},
    });
    await recorder.request(`delete a collection with ${credentials}`, "DELETE", places.in("pods"), { credentials });
    await recorder.request(`watch with ${credentials}`, "GET", `${places.in("pods")}?watch=true`, { credentials });
    await recorder.request(`status with ${credentials}`, "PUT", `${places.in("pods")}/a/status`, {
      credentials,
      body: {},
    });
    await recorder.request(`a document with ${credentials}`, "GET", "/openapi/v2", { credentials });
    await recorder.request(`a path that does not exist with ${credentials}`, "GET", "/nope", { credentials });
    await recorder.request(`health with ${credentials}`, "GET", "/readyz", { credentials });
  }
}
