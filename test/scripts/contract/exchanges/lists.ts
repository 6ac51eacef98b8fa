/** lists: lists in pages, watches, tables, and other forms of an answer. */
import type { Json } from "../normalise.ts";
import { at, type Recorder, textAt } from "../recorder.ts";
import { configMap, DISCOVERY, MERGE, NETWORKING, type Places, pod, policy, service, TABLE } from "./places.ts";

export async function lists(recorder: Recorder, places: Places): Promise<void> {
  await pages(recorder, places);
  await watches(recorder, places);
  await tables(recorder, places);
  await otherForms(recorder, places);
}

const ITEMS = ["a", "b", "c", "d", "e"];

async function pages(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  const labels = { set: "pages" };
  for (const name of ITEMS) await recorder.send("POST", maps, { body: configMap(`page-${name}`, { labels }) });
  const list = `${maps}?labelSelector=set%3Dpages`;
  const first = await recorder.request("first page", "GET", `${list}&limit=2`);
  await recorder.send("DELETE", `${maps}/page-d`);
  const second = await recorder.request(
    "second page, one of its objects deleted meanwhile",
    "GET",
    `${list}&limit=2&continue=${textAt(first.object, "metadata", "continue")}`,
  );
  const third = await recorder.request(
    "last page",
    "GET",
    `${list}&limit=2&continue=${textAt(second.object, "metadata", "continue")}`,
  );
  recorder.fact(
    "pages are of one version",
    "resourceVersion of each page",
    new Set([first, second, third].map((page) => at(page.object, "metadata", "resourceVersion"))).size === 1,
  );
  const whole = await recorder.request("whole list", "GET", list);
  await recorder.request("whole list of any version", "GET", `${list}&resourceVersion=0`);
  await recorder.request(
    "whole list, not older than",
    "GET",
    `${list}&resourceVersion=${textAt(whole.object, "metadata", "resourceVersion")}&resourceVersionMatch=NotOlderThan`,
  );
  await recorder.request(
    "exact list of an earlier version",
    "GET",
    `${list}&resourceVersion=${textAt(first.object, "metadata", "resourceVersion")}&resourceVersionMatch=Exact`,
    { select: namesOf },
  );
  await recorder.send("POST", places.in("services"), { body: service("change-too", { ports: [{ port: 80 }] }) });
  await recorder.request("page without selector", "GET", `${places.in("services")}?limit=1`, {
    select: (body) => JSON.parse(JSON.stringify(at(body, "metadata"))),
  });
  await recorder.request("list by name", "GET", `${maps}?fieldSelector=metadata.name%3Dpage-a`, { select: namesOf });
  await recorder.request("list by what is not its name", "GET", `${list}&fieldSelector=metadata.name!%3Dpage-a`, {
    select: namesOf,
  });
  await recorder.request(
    "list by several requirements",
    "GET",
    `${maps}?labelSelector=${encodeURIComponent("set in (pages,x),!nope,set!=y")}`,
    { select: namesOf },
  );
  await recorder.request(
    "list of all namespaces",
    "GET",
    `${places.all("configmaps")}?labelSelector=set%3Dpages&fieldSelector=metadata.namespace%3D${places.namespace}`,
    { select: namesOf },
  );
  await recorder.request("empty list", "GET", `${maps}?labelSelector=set%3Dnothing`);
  await recorder.request("head of a list", "HEAD", list);
}

function namesOf(body: Json): Json {
  const items = at(body, "items");
  return Array.isArray(items) ? items.map((item: unknown) => textAt(item, "metadata", "name")) : body;
}

/** An event by its type and what tells it from others. */
function brief(event: Json): Json {
  const object = at(event, "object");
  return `${textAt(event, "type")} ${textAt(object, "kind")} ${textAt(object, "metadata", "name")} ${JSON.stringify(at(object, "data") ?? at(object, "metadata", "annotations") ?? null)}`;
}

async function watches(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  const labels = { set: "watch" };
  const start = await recorder.send("GET", `${maps}?labelSelector=set%3Dwatch`);
  const from = textAt(start.object, "metadata", "resourceVersion");
  await recorder.send("POST", maps, { body: configMap("w", { labels }, { data: { a: "0" } }) });
  await recorder.send("PATCH", `${maps}/w`, { type: MERGE, body: { data: { a: "1" } } });
  await recorder.send("PATCH", `${maps}/w`, { type: MERGE, body: { data: { a: "1" } } });
  await recorder.send("PATCH", `${maps}/w`, { type: MERGE, body: { metadata: { labels: { set: "other" } } } });
  await recorder.send("PATCH", `${maps}/w`, { type: MERGE, body: { data: { a: "2" } } });
  await recorder.send("PATCH", `${maps}/w`, { type: MERGE, body: { metadata: { labels: { set: "watch" } } } });
  await recorder.send("PATCH", `${maps}/w`, { type: MERGE, body: { metadata: { finalizers: ["example.com/hold"] } } });
  await recorder.send("DELETE", `${maps}/w`);
  await recorder.send("PATCH", `${maps}/w`, { type: MERGE, body: { metadata: { finalizers: null } } });
  await recorder.send("POST", maps, { body: configMap("watch-end", { labels }) });
  const watch = `${maps}?watch=true&labelSelector=set%3Dwatch`;
  const all = `${maps}?watch=true&labelSelector=set%3Dpages`;
  await Promise.all([
    recorder.watch(
      "a watch tells what enters and leaves a selection",
      `${watch}&resourceVersion=${from}&timeoutSeconds=30`,
      { until: "watch-end" },
    ),
    recorder.watch("the same as tables", `${watch}&resourceVersion=${from}&timeoutSeconds=30`, {
      until: "watch-end",
      accept: TABLE,
    }),
    recorder.watch(
      "the same of one object by name",
      `${maps}?watch=true&fieldSelector=metadata.name%3Dw&resourceVersion=${from}&timeoutSeconds=2`,
      { select: brief },
    ),
    recorder.watch("a watch of one object by its path", `${maps}/watch-end?watch=true&timeoutSeconds=2`, {
      select: brief,
    }),
    recorder.watch("a watch without version begins with what there is", `${all}&timeoutSeconds=2`, { select: brief }),
    recorder.watch("a watch from 0 begins with what there is", `${all}&resourceVersion=0&timeoutSeconds=2`, {
      select: brief,
    }),
    recorder.watch(
      "a watch from 0 with bookmarks marks the end of the beginning",
      `${all}&resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=5`,
      { until: "k8s.io/initial-events-end" },
    ),
    recorder.watch(
      "sendInitialEvents",
      `${all}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=5`,
      { until: "k8s.io/initial-events-end", select: brief },
    ),
    recorder.watch(
      "sendInitialEvents without bookmarks",
      `${all}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=2`,
      { select: brief },
    ),
    recorder.watch(
      "sendInitialEvents false",
      `${all}&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&timeoutSeconds=2`,
      { select: brief },
    ),
    recorder.watch(
      "a watch of a version to come waits and ends",
      `${watch}&resourceVersion=900000000000&timeoutSeconds=2`,
    ),
    recorder.watch(
      "a watch at the old path",
      `/api/v1/watch/namespaces/${places.namespace}/configmaps?labelSelector=set%3Dpages&timeoutSeconds=2`,
      { select: (event) => (at(event, "type") === undefined ? event : brief(event)) },
    ),
    recorder.watch("a watch in metadata alone", `${all}&timeoutSeconds=2`, {
      accept: "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    }),
    live(recorder, places),
    statuses(recorder, places),
  ]);
}

/** Changes while the watch is open. */
async function live(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  const labels = { set: "live" };
  await recorder.watch("a watch tells what happens", `${maps}?watch=true&labelSelector=set%3Dlive&timeoutSeconds=30`, {
    until: "live-end",
    select: brief,
    during: async () => {
      await recorder.send("POST", maps, { body: configMap("live", { labels }) });
      await recorder.send("PATCH", `${maps}/live`, { type: MERGE, body: { data: { a: "1" } } });
      await recorder.send("DELETE", `${maps}/live`);
      await recorder.send("POST", maps, { body: configMap("live-end", { labels }) });
    },
  });
}

/** Deletion of a bound Pod is two events before the last one. */
async function statuses(recorder: Recorder, places: Places): Promise<void> {
  const pods = places.in("pods");
  const metadata = { labels: { set: "pods" } };
  const shown = (event: Json): Json =>
    `${textAt(event, "type")} ${textAt(event, "object", "metadata", "name")} ${textAt(event, "object", "spec", "nodeName")} ${textAt(event, "object", "status", "phase")} ${textAt(event, "object", "metadata", "deletionGracePeriodSeconds")} ${textAt(event, "object", "metadata", "generation")}`;
  await recorder.watch("the life of a pod", `${pods}?watch=true&labelSelector=set%3Dpods&timeoutSeconds=30`, {
    until: "pod-end",
    select: shown,
    during: async () => {
      await recorder.send("POST", pods, { body: pod("bound", { nodeName: "nowhere" }, metadata) });
      await recorder.send("PATCH", `${pods}/bound/status`, { type: MERGE, body: { status: { phase: "Running" } } });
      await recorder.send("DELETE", `${pods}/bound`);
      await recorder.send("DELETE", `${pods}/bound?gracePeriodSeconds=5`);
      await recorder.send("DELETE", `${pods}/bound?gracePeriodSeconds=0`);
      await recorder.send("POST", pods, { body: pod("unbound-too", {}, metadata) });
      await recorder.send("DELETE", `${pods}/unbound-too`);
      await recorder.send("POST", pods, { body: pod("pod-end", {}, metadata) });
    },
  });
}

async function tables(recorder: Recorder, places: Places): Promise<void> {
  const shown = async (name: string, path: string, body: object): Promise<unknown> =>
    recorder.request(`table: ${name}`, "POST", `${path}?dryRun=All`, { accept: TABLE, body });
  const container = { name: "main", image: "x:1" };
  await shown("pod", places.in("pods"), pod("t", { containers: [container, { ...container, name: "more" }] }));
  await shown(
    "pod on a node",
    places.in("pods"),
    pod("t", { nodeName: "nowhere", readinessGates: [{ conditionType: "example.com/a" }] }),
  );
  await shown(
    "service",
    places.in("services"),
    service("t", {
      selector: { b: "2", a: "1" },
      ports: [
        { name: "a", port: 80 },
        { name: "b", port: 53, protocol: "UDP" },
      ],
    }),
  );
  await shown("headless service", places.in("services"), service("t", { clusterIP: "None" }));
  await shown(
    "service of an external name",
    places.in("services"),
    service("t", { type: "ExternalName", externalName: "example.com" }),
  );
  await shown(
    "load balancer",
    places.in("services"),
    service("t", { type: "LoadBalancer", externalIPs: ["192.0.2.1"], ports: [{ port: 80, nodePort: 31999 }] }),
  );
  await shown(
    "policy",
    places.in("networkpolicies", NETWORKING),
    policy("t", {
      podSelector: {
        matchLabels: { b: "2", a: "1" },
        matchExpressions: [
          { key: "c", operator: "NotIn", values: ["x", "y"] },
          { key: "d", operator: "DoesNotExist" },
          { key: "e", operator: "Exists" },
        ],
      },
    }),
  );
  await shown("policy for all", places.in("networkpolicies", NETWORKING), policy("t", { podSelector: {} }));
  await shown(
    "configmap",
    places.in("configmaps"),
    configMap("t", {}, { data: { a: "1" }, binaryData: { b: "AAE=" } }),
  );
  await shown("secret", places.in("secrets"), {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "t" },
    data: { a: "AAE=" },
  });
  await shown("service account", places.in("serviceaccounts"), {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "t" },
  });
  await shown("namespace", places.all("namespaces"), {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: `t-${recorder.suffix}` },
  });
  await shown("node", places.all("nodes"), {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `t-${recorder.suffix}`, labels: { "node-role.kubernetes.io/worker": "" } },
    spec: { unschedulable: true },
    status: {
      addresses: [{ type: "InternalIP", address: "192.0.2.1" }],
      conditions: [{ type: "Ready", status: "True" }],
    },
  });
  await shown("slice", places.in("endpointslices", DISCOVERY), {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "t" },
    addressType: "IPv4",
    endpoints: ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map((address) => ({ addresses: [address] })),
    ports: [{ port: 80 }],
  });
  await shown("event", places.in("events"), {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: "t" },
    involvedObject: { kind: "Pod", name: "a", namespace: places.namespace, fieldPath: "spec.containers{main}" },
    reason: "Tested",
    message: "m",
    type: "Normal",
    count: 3,
    source: { component: "c", host: "h" },
    firstTimestamp: "2020-01-01T00:00:00Z",
    lastTimestamp: "2020-01-01T00:00:00Z",
  });
  const list = `${places.in("configmaps")}?labelSelector=set%3Dpages`;
  await recorder.request("table of a list", "GET", list, { accept: TABLE });
  await recorder.request("table of a page", "GET", `${list}&limit=2`, { accept: TABLE });
  await recorder.request("table of an empty list", "GET", `${places.in("configmaps")}?labelSelector=set%3Dnothing`, {
    accept: TABLE,
  });
  await recorder.request("table without objects", "GET", `${list}&includeObject=None`, { accept: TABLE });
  await recorder.request("table with whole objects", "GET", `${list}&includeObject=Object`, { accept: TABLE });
  await recorder.request("table in the older version", "GET", list, {
    accept: "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
  });
  await recorder.request("table of one object", "GET", `${places.in("configmaps")}/page-a`, { accept: TABLE });
  await recorder.request("table of what does not exist", "GET", `${places.in("configmaps")}/ghost`, { accept: TABLE });
  await recorder.request("table in a version that is not served", "GET", list, {
    accept: "application/json;as=Table;v=v9;g=meta.k8s.io",
  });
  await recorder.request("table of a patch", "PATCH", `${places.in("configmaps")}/page-a?dryRun=All`, {
    accept: TABLE,
    type: MERGE,
    body: { data: { a: "1" } },
  });
  await recorder.request("table of a deletion", "DELETE", `${places.in("configmaps")}/page-a?dryRun=All`, {
    accept: TABLE,
  });
}

async function otherForms(recorder: Recorder, places: Places): Promise<void> {
  const maps = places.in("configmaps");
  const metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
  await recorder.request("metadata of one object", "GET", `${maps}/page-a`, { accept: metadata });
  await recorder.request("metadata of a list", "GET", `${maps}?labelSelector=set%3Dpages`, {
    accept: metadata.replace("PartialObjectMetadata", "PartialObjectMetadataList"),
  });
  await recorder.request("the second choice of a client", "GET", `${maps}/page-a`, {
    accept: "application/xml;q=0.9, application/json;as=Table;v=v9;g=meta.k8s.io, application/json",
  });
  await recorder.request("any form", "GET", `${maps}/page-a`, { accept: "*/*" });
  await recorder.request("pretty printing", "GET", `${maps}/page-a?pretty=true`, { select: () => "…" });
}
