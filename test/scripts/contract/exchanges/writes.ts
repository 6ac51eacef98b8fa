/** writes: what a write does besides storing: dry run, field validation, generation, finalizers, owners, deletion of collections. */
import { at, type Recorder, textAt } from "../recorder.ts";
import { APPLY, configMap, JSON_PATCH, MERGE, NETWORKING, type Places, pod, policy, STRATEGIC } from "./places.ts";

export async function writes(recorder: Recorder, places: Places): Promise<void> {
  await dryRuns(recorder, places);
  await fieldValidation(recorder, places);
  await metadataRules(recorder, places);
  await generations(recorder, places);
  await podPatches(recorder, places);
  await deletions(recorder, places);
  await collections(recorder, places);
}

async function dryRuns(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  await recorder.request("dry run of a create", "POST", `${maps}?dryRun=All`, {
    body: configMap("dry", {}, { data: { a: "1" } }),
  });
  await recorder.request("it left nothing", "GET", `${maps}/dry`);
  await recorder.request("create what was only tried", "POST", maps, {
    body: configMap("dry", {}, { data: { a: "1" } }),
  });
  await recorder.request("dry run of a create that conflicts", "POST", `${maps}?dryRun=All`, {
    body: configMap("dry"),
  });
  await recorder.request("dry run of a replace", "PUT", `${maps}/dry?dryRun=All`, {
    body: configMap("dry", {}, { data: { a: "2" } }),
  });
  await recorder.request("dry run of a patch", "PATCH", `${maps}/dry?dryRun=All`, {
    type: MERGE,
    body: { data: { a: "3" } },
  });
  await recorder.request("dry run of a delete", "DELETE", `${maps}/dry?dryRun=All`);
  await recorder.request("dry run of a delete, in the body", "DELETE", `${maps}/dry`, {
    body: { kind: "DeleteOptions", apiVersion: "v1", dryRun: ["All"] },
  });
  await recorder.request("it is as it was", "GET", `${maps}/dry`);
  await recorder.request("replace without a version", "PUT", `${maps}/dry`, {
    body: configMap("dry", {}, { data: { a: "4" } }),
  });
  const now = await recorder.send("GET", `${maps}/dry`);
  await recorder.request("replace by the same", "PUT", `${maps}/dry`, {
    body: now.object,
    saying: "as it was answered",
  });
  const after = await recorder.send("GET", `${maps}/dry`);
  recorder.fact(
    "a replace by the same makes no version",
    "resourceVersion before and after",
    at(now.object, "metadata", "resourceVersion") === at(after.object, "metadata", "resourceVersion"),
  );
  await recorder.request("patch that changes nothing", "PATCH", `${maps}/dry`, {
    type: MERGE,
    body: { data: { a: "4" } },
  });
  const third = await recorder.send("GET", `${maps}/dry`);
  recorder.fact(
    "a patch of nothing makes no version",
    "resourceVersion before and after",
    at(third.object, "metadata", "resourceVersion") === at(after.object, "metadata", "resourceVersion"),
  );
}

async function fieldValidation(recorder: Recorder, places: Places): Promise<void> {
  const pods = places.in("pods");
  const wrong = pod("strange", { nodeNaem: "x", containers: [{ name: "main", image: "x:1", prots: [] }] });
  for (const mode of ["Strict", "Warn", "Ignore"])
    await recorder.request(
      `unknown fields, built-in kind, ${mode}`,
      "POST",
      `${pods}?dryRun=All&fieldValidation=${mode}`,
      { body: wrong },
    );
  await recorder.request("unknown fields, built-in kind, by default", "POST", `${pods}?dryRun=All`, { body: wrong });
  const twice =
    '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice","name":"twice"},"data":{"a":"1","a":"2"}}';
  for (const mode of ["Strict", "Warn", "Ignore"])
    await recorder.request(
      `fields given twice, ${mode}`,
      "POST",
      `${places.in("configmaps")}?dryRun=All&fieldValidation=${mode}`,
      { body: twice },
    );
  const twiceYaml = 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: twice\ndata:\n  a: "1"\n  a: "2"\n';
  for (const mode of ["Strict", "Warn"])
    await recorder.request(
      `fields given twice in YAML, ${mode}`,
      "POST",
      `${places.in("configmaps")}?dryRun=All&fieldValidation=${mode}`,
      { type: "application/yaml", body: twiceYaml },
    );
  await recorder.request(
    "unknown field in metadata, Strict",
    "POST",
    `${places.in("configmaps")}?dryRun=All&fieldValidation=Strict`,
    { body: configMap("m", { lables: { a: "b" } }) },
  );
  await recorder.request(
    "unknown field at the top, Strict",
    "POST",
    `${places.in("configmaps")}?dryRun=All&fieldValidation=Strict`,
    { body: configMap("m", {}, { dat: { a: "b" } }) },
  );
  await recorder.request(
    "a field in another case, Strict",
    "POST",
    `${places.in("configmaps")}?dryRun=All&fieldValidation=Strict`,
    { body: configMap("m", {}, { Data: { a: "b" } }) },
  );
  const map = `${places.in("configmaps")}/dry`;
  for (const [what, type, body] of [
    ["merge", MERGE, { dat: { a: "1" } }],
    ["strategic", STRATEGIC, { dat: { a: "1" } }],
    ["JSON", JSON_PATCH, [{ op: "add", path: "/dat", value: "1" }]],
  ] as const) {
    for (const mode of ["Strict", "Warn", "Ignore"])
      await recorder.request(
        `unknown field in a ${what} patch, ${mode}`,
        "PATCH",
        `${map}?dryRun=All&fieldValidation=${mode}`,
        { type, body },
      );
  }
  await recorder.request("unknown field in a replace, Strict", "PUT", `${map}?dryRun=All&fieldValidation=Strict`, {
    body: configMap("dry", {}, { dat: {} }),
  });
  await recorder.request("unknown field in an apply", "PATCH", `${map}?dryRun=All&fieldManager=one&force=true`, {
    type: APPLY,
    body: configMap("dry", {}, { dat: {} }),
  });
}

async function metadataRules(recorder: Recorder, places: Places): Promise<void> {
  const maps = `${places.in("configmaps")}?dryRun=All`;
  const tried = async (name: string, metadata: object, path = maps, kind = "ConfigMap"): Promise<unknown> =>
    recorder.request(name, "POST", path, {
      body: { apiVersion: "v1", kind, metadata, ...(kind === "Service" ? { spec: { ports: [{ port: 80 }] } } : {}) },
    });
  await tried("name with capitals", { name: "E_1" });
  await tried("name that is too long", { name: "x".repeat(254) });
  await tried("namespace with a dot", { name: "a.b" }, `${places.all("namespaces")}?dryRun=All`, "Namespace");
  await tried("service that begins with a digit", { name: "1a" }, `${places.in("services")}?dryRun=All`, "Service");
  await tried("label with a bad key", { name: "m", labels: { "a b": "c" } });
  await tried("label with a bad prefix", { name: "m", labels: { "A_/b": "c" } });
  await tried("label with a bad value", { name: "m", labels: { a: "b c" } });
  await tried("label that is too long", { name: "m", labels: { a: "x".repeat(64) } });
  await tried("label with a long key", { name: "m", labels: { ["x".repeat(64)]: "a" } });
  await tried("annotation with a bad key", { name: "m", annotations: { "a b": "c" } });
  await tried("annotations beyond 256 KiB", { name: "m", annotations: { a: "x".repeat(256 * 1024) } });
  await tried("finalizer without a domain", { name: "m", finalizers: ["hold"] });
  await tried("finalizer with a bad name", { name: "m", finalizers: ["a b/c"] });
  await tried("owner without fields", { name: "m", ownerReferences: [{}] });
  await tried("owner that is an Event", {
    name: "m",
    ownerReferences: [{ apiVersion: "v1", kind: "Event", name: "a", uid: "b" }],
  });
  await tried("two controllers", {
    name: "m",
    ownerReferences: ["a", "b"].map((name) => ({
      apiVersion: "v1",
      kind: "Secret",
      name,
      uid: name,
      controller: true,
    })),
  });
  await tried("generateName", { generateName: "made-" });
  await tried("generateName with capitals", { generateName: "E_" });
  await tried("fields that only the server sets", {
    name: "m",
    uid: "x",
    generation: 7,
    creationTimestamp: "2020-01-01T00:00:00Z",
    deletionTimestamp: "2020-01-01T00:00:00Z",
    deletionGracePeriodSeconds: 3,
    selfLink: "/x",
  });
  await tried("empty maps and lists", { name: "m", labels: {}, annotations: {}, finalizers: [], ownerReferences: [] });
  await tried("nulls in metadata", { name: "m", labels: null, annotations: { a: null }, finalizers: null });
}

async function generations(recorder: Recorder, places: Places): Promise<void> {
  const policies = places.in("networkpolicies", NETWORKING);
  await recorder.request("create a policy", "POST", policies, { body: policy("generations", { podSelector: {} }) });
  await recorder.request("a label does not raise generation", "PATCH", `${policies}/generations`, {
    type: MERGE,
    body: { metadata: { labels: { a: "b" } } },
  });
  await recorder.request("spec raises generation", "PATCH", `${policies}/generations`, {
    type: MERGE,
    body: { spec: { podSelector: { matchLabels: { a: "b" } } } },
  });
  await recorder.request("generation cannot be set", "PATCH", `${policies}/generations`, {
    type: MERGE,
    body: { metadata: { generation: 40 } },
  });
  await recorder.request("replace of a policy", "PUT", `${policies}/generations`, {
    body: policy("generations", { podSelector: {}, egress: [{}] }),
  });
  await recorder.request("strategic patch of a policy replaces rules", "PATCH", `${policies}/generations`, {
    type: STRATEGIC,
    body: { spec: { egress: [{ ports: [{ port: 53, protocol: "UDP" }] }] } },
  });
  await recorder.request("delete a policy", "DELETE", `${policies}/generations`);
}

async function podPatches(recorder: Recorder, places: Places): Promise<void> {
  const pods = places.in("pods");
  await recorder.request("create a pod", "POST", pods, { body: pod("a") });
  await recorder.request("a pod's label", "PATCH", `${pods}/a`, {
    type: STRATEGIC,
    body: { metadata: { labels: { tier: "front" } } },
  });
  await recorder.request("a pod's image", "PATCH", `${pods}/a`, {
    type: STRATEGIC,
    body: { spec: { containers: [{ name: "main", image: "registry.example/app:2" }] } },
  });
  await recorder.request("a pod's host network cannot change", "PATCH", `${pods}/a`, {
    type: MERGE,
    body: { spec: { hostNetwork: true } },
  });
  await recorder.request("a pod's containers cannot grow", "PATCH", `${pods}/a`, {
    type: STRATEGIC,
    body: { spec: { containers: [{ name: "more", image: "x:1" }] } },
  });
  await recorder.request("a pod's tolerations may grow", "PATCH", `${pods}/a`, {
    type: JSON_PATCH,
    body: [{ op: "add", path: "/spec/tolerations/-", value: { key: "a", operator: "Exists" } }],
  });
  await recorder.request("a pod's tolerations cannot shrink", "PATCH", `${pods}/a`, {
    type: MERGE,
    body: { spec: { tolerations: [] } },
  });
  await recorder.request("a pod's deadline", "PATCH", `${pods}/a`, {
    type: MERGE,
    body: { spec: { activeDeadlineSeconds: 600 } },
  });
  await recorder.request("status beside the pod is ignored", "PATCH", `${pods}/a`, {
    type: MERGE,
    body: { status: { phase: "Running" } },
  });
  const status = {
    phase: "Running",
    podIP: "10.1.2.3",
    podIPs: [{ ip: "10.1.2.3" }, { ip: "fd00::3" }],
    conditions: [
      { type: "Ready", status: "False" },
      { type: "Initialized", status: "True" },
    ],
  };
  await recorder.request("a pod's status", "PATCH", `${pods}/a/status`, { type: STRATEGIC, body: { status } });
  await recorder.request("conditions merge by type", "PATCH", `${pods}/a/status`, {
    type: STRATEGIC,
    body: { status: { conditions: [{ type: "Ready", status: "True" }] } },
  });
  await recorder.request("a status write leaves the spec", "PATCH", `${pods}/a/status`, {
    type: MERGE,
    body: { spec: { activeDeadlineSeconds: 5 }, status: { message: "m" } },
  });
  await recorder.request("a status with a bad address", "PATCH", `${pods}/a/status`, {
    type: MERGE,
    body: { status: { podIP: "nonsense", podIPs: [{ ip: "nonsense" }] } },
  });
  await recorder.request("get a pod's status", "GET", `${pods}/a/status`);
  const current = await recorder.send("GET", `${pods}/a`);
  await recorder.request("replace a pod's status", "PUT", `${pods}/a/status`, {
    body: { ...current.object, status: { phase: "Running" } },
    saying: "as it was answered, the status replaced by phase Running",
  });
  await recorder.request("replace a pod without a version", "PUT", `${pods}/a`, { body: pod("a") });
  await recorder.request("bind a pod", "POST", `${pods}/a/binding`, {
    body: {
      apiVersion: "v1",
      kind: "Binding",
      metadata: { name: "a" },
      target: { apiVersion: "v1", kind: "Node", name: `nowhere-${recorder.suffix}` },
    },
  });
  await recorder.request("bind a pod twice", "POST", `${pods}/a/binding`, {
    body: {
      apiVersion: "v1",
      kind: "Binding",
      metadata: { name: "a" },
      target: { apiVersion: "v1", kind: "Node", name: "other" },
    },
  });
  await recorder.request("bind a pod that does not exist", "POST", `${pods}/ghost/binding`, {
    body: {
      apiVersion: "v1",
      kind: "Binding",
      metadata: { name: "ghost" },
      target: { apiVersion: "v1", kind: "Node", name: "other" },
    },
  });
  await recorder.request("bind to nothing", "POST", `${pods}/a/binding`, {
    body: { apiVersion: "v1", kind: "Binding", metadata: { name: "a" }, target: {} },
  });
  await recorder.request("delete a bound pod", "DELETE", `${pods}/a`);
  await recorder.request("delete a bound pod at once", "DELETE", `${pods}/a?gracePeriodSeconds=0`);
  await recorder.request("delete with a negative grace period", "DELETE", `${pods}/a?gracePeriodSeconds=-5`);
}

async function deletions(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  await recorder.request("create a pod without node", "POST", pods(places), { body: pod("unbound") });
  await recorder.request("delete a pod without node", "DELETE", `${pods(places)}/unbound`);
  await recorder.request("delete answers what was deleted", "DELETE", `${maps}/dry`);
  await recorder.request("create a service", "POST", places.in("services"), {
    body: { apiVersion: "v1", kind: "Service", metadata: { name: "gone" }, spec: { ports: [{ port: 80 }] } },
  });
  await recorder.request("delete a service", "DELETE", `${places.in("services")}/gone`);
  const owner = await recorder.send("POST", maps, { body: configMap("owner") });
  const reference = {
    apiVersion: "v1",
    kind: "ConfigMap",
    name: "owner",
    uid: textAt(owner.object, "metadata", "uid"),
    blockOwnerDeletion: true,
  };
  await recorder.request("create a dependent", "POST", maps, {
    body: configMap("dependent", { ownerReferences: [reference] }),
  });
  await recorder.request("delete the owner", "DELETE", `${maps}/owner`);
  await recorder.until(`${maps}/dependent`, 404);
  recorder.fact("the dependent follows its owner", "404 in the end", true);
  const second = await recorder.send("POST", maps, { body: configMap("owner2") });
  await recorder.send("POST", maps, {
    body: configMap("orphan", {
      ownerReferences: [{ ...reference, name: "owner2", uid: textAt(second.object, "metadata", "uid") }],
    }),
  });
  await recorder.request("delete the owner and orphan its dependents", "DELETE", `${maps}/owner2`, {
    body: { kind: "DeleteOptions", apiVersion: "v1", propagationPolicy: "Orphan" },
    select: (body) =>
      at(body, "kind") === "Status"
        ? "gone at once"
        : JSON.parse(JSON.stringify({ finalizers: at(body, "metadata", "finalizers") })),
  });
  await recorder.until(`${maps}/owner2`, 404);
  await recorder.request("the orphan stays, without owner", "GET", `${maps}/orphan`);
  const third = await recorder.send("POST", maps, { body: configMap("owner3") });
  await recorder.send("POST", maps, {
    body: configMap("blocker", {
      finalizers: ["example.com/hold"],
      ownerReferences: [{ ...reference, name: "owner3", uid: textAt(third.object, "metadata", "uid") }],
    }),
  });
  await recorder.request("delete in the foreground", "DELETE", `${maps}/owner3`, {
    body: { kind: "DeleteOptions", apiVersion: "v1", propagationPolicy: "Foreground" },
  });
  await recorder.request("the owner waits for its dependent", "GET", `${maps}/owner3`);
  await recorder.send("PATCH", `${maps}/blocker`, { type: MERGE, body: { metadata: { finalizers: null } } });
  await recorder.until(`${maps}/owner3`, 404);
  recorder.fact("the owner goes after its dependent", "404 in the end", true);
}

function pods(places: Places): string {
  return places.in("pods");
}

async function collections(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  const labels = { set: "many" };
  for (const name of ["many-a", "many-b", "many-c"])
    await recorder.send("POST", maps, {
      body: configMap(name, { labels, ...(name === "many-c" ? { finalizers: ["example.com/hold"] } : {}) }),
    });
  await recorder.request(
    "dry run of the deletion of a collection",
    "DELETE",
    `${maps}?labelSelector=set%3Dmany&dryRun=All`,
  );
  await recorder.request("delete a collection", "DELETE", `${maps}?labelSelector=set%3Dmany`);
  await recorder.request("what is left of a collection", "GET", `${maps}?labelSelector=set%3Dmany`);
  await recorder.request("delete a collection by a bad selector", "DELETE", `${maps}?labelSelector=%3D%3Dx`);
  await recorder.send("PATCH", `${maps}/many-c`, { type: MERGE, body: { metadata: { finalizers: null } } });
  await recorder.request("delete a collection of nothing", "DELETE", `${maps}?labelSelector=set%3Dmany`);
}
