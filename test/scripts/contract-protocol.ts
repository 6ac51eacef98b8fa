/** Contract, protocol: lists in pages, watches, tables and errors as raw requests see them. */
import type { Session } from "./kubectl-contract.ts";

interface Listing {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string; readonly remainingItemCount?: number };
  readonly items: readonly { readonly metadata: { readonly name: string } }[];
}

interface Event {
  readonly type: string;
  readonly object: { readonly kind: string; readonly code?: number; readonly reason?: string; readonly metadata: { readonly name?: string; readonly resourceVersion?: string; readonly annotations?: Record<string, string> } };
}

function parseEvents(text: string): Event[] {
  return text.split("\n").filter((line) => line.trim() !== "").map((line) => JSON.parse(line) as Event);
}

export async function protocol(session: Session): Promise<void> {
  await paging(session);
  await watching(session);
  await refusals(session);
  await discovery(session);
}

async function list(session: Session, query: string): Promise<Listing> {
  const outcome = await session.run(["get", "--raw", `/api/v1/namespaces/${session.namespace}/configmaps?labelSelector=set%3Dpages${query}`]);
  return JSON.parse(outcome.stdout) as Listing;
}

async function paging(session: Session): Promise<void> {
  const ns = session.namespace;
  const maps = ["a", "b", "c", "d", "e"].map((name) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: `page-${name}`, labels: { set: "pages" } } }));
  await session.check("create a list", ["-n", ns, "create", "-f", "-"], { stdout: ["configmap/page-e created"] }, JSON.stringify({ apiVersion: "v1", kind: "List", items: maps }));
  const first = await list(session, "&limit=2");
  await session.run(["-n", ns, "delete", "configmap", "page-d"]);
  const second = await list(session, `&limit=2&continue=${first.metadata.continue}`);
  const third = await list(session, `&limit=2&continue=${second.metadata.continue}`);
  const names = [first, second, third].map((page) => page.items.map((item) => item.metadata.name.slice(5)).join(""));
  session.record("pages show one moment", names.join(" ") === "ab cd e" && third.metadata.continue === undefined ? [] : [`pages are ${names.join(" ")}`]);
  session.record("pages carry one version", new Set([first, second, third].map((page) => page.metadata.resourceVersion)).size === 1 ? [] : ["versions differ"]);
  await session.check("bad continue token", ["get", "--raw", `/api/v1/namespaces/${ns}/configmaps?limit=2&continue=xxx`], { exit: 1, stderr: ["continue key is not valid"] });
}

async function watching(session: Session): Promise<void> {
  const ns = session.namespace;
  const base = `/api/v1/namespaces/${ns}/configmaps?watch=true&labelSelector=set%3Dwatch`;
  const start = await list(session, "");
  const labels = { set: "watch" };
  await session.run(["-n", ns, "create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "w", labels } }));
  await session.run(["-n", ns, "patch", "configmap", "w", "--type=merge", "-p", '{"data":{"a":"1"}}']);
  await session.run(["-n", ns, "label", "configmap", "w", "set=other", "--overwrite"]);
  await session.run(["-n", ns, "label", "configmap", "w", "set=watch", "--overwrite"]);
  await session.run(["-n", ns, "delete", "configmap", "w"]);
  const outcome = await session.run(["get", "--raw", `${base}&resourceVersion=${start.metadata.resourceVersion}&timeoutSeconds=2`]);
  const types = parseEvents(outcome.stdout).map((event) => event.type).join(" ");
  session.record("a watch tells what enters and leaves a selection", types === "ADDED MODIFIED DELETED ADDED DELETED" ? [] : [`events are ${types}`]);
  const initial = await session.run(["get", "--raw", `/api/v1/namespaces/${ns}/configmaps?watch=true&labelSelector=set%3Dpages&resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=3`]);
  const events = parseEvents(initial.stdout);
  const marked = events.findIndex((event) => event.type === "BOOKMARK" && event.object.metadata.annotations?.["k8s.io/initial-events-end"] === "true");
  session.record("a watch from 0 begins with what there is, then marks its end", marked === 4 && events.slice(0, 4).every((event) => event.type === "ADDED") ? [] : [`events are ${events.map((event) => event.type).join(" ")}`]);
  const streamed = await session.run(["get", "--raw", `/api/v1/namespaces/${ns}/configmaps?watch=true&labelSelector=set%3Dpages&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=3`]);
  session.record("sendInitialEvents", streamed.stdout.includes('"k8s.io/initial-events-end":"true"') ? [] : [`answer is ${streamed.stdout.slice(0, 300)} ${streamed.stderr}`]);
  await session.check("sendInitialEvents without match", ["get", "--raw", `${base}&sendInitialEvents=true&timeoutSeconds=1`], { exit: 1, stderr: ["sendInitialEvents"] });
}

async function refusals(session: Session): Promise<void> {
  const ns = session.namespace;
  await session.check("unknown path", ["get", "--raw", "/apis/nope.example.com/v1/things"], { exit: 1, stderr: ["the server could not find the requested resource"] });
  await session.check("bad label selector", ["get", "--raw", `/api/v1/namespaces/${ns}/pods?labelSelector=%3D%3Dx`], { exit: 1, stderr: ["unable to parse requirement"] });
  const map = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "other", namespace: "elsewhere" } };
  await session.check("namespace of another place", ["create", "--raw", `/api/v1/namespaces/${ns}/configmaps`, "-f", "-"], { exit: 1, stderr: ["the namespace of the provided object does not match the namespace sent on the request"] }, JSON.stringify(map));
  await session.check("apiVersion of another place", ["create", "--raw", `/api/v1/namespaces/${ns}/configmaps`, "-f", "-"], { exit: 1, stderr: [/does not match the expected API version|cannot be handled as a ConfigMap|no kind "ConfigMap"/] }, JSON.stringify({ ...map, apiVersion: "v2" }));
  await session.check("table without objects", ["-n", ns, "get", "events"], { stderr: [`No resources found in ${ns} namespace.`] });
}

async function discovery(session: Session): Promise<void> {
  await session.check("healthz", ["get", "--raw", "/healthz"], { stdout: [/^ok$/] });
  await session.check("readyz", ["get", "--raw", "/readyz"], { stdout: [/^ok$/] });
  await session.check("api versions", ["api-versions"], { stdout: ["networking.k8s.io/v1", "apiextensions.k8s.io/v1", "discovery.k8s.io/v1", /^v1$/m] });
  await session.check("short names", ["api-resources", "--no-headers"], { stdout: [/^pods +po +v1 +true +Pod$/m, /^networkpolicies +netpol +networking\.k8s\.io\/v1 +true +NetworkPolicy$/m, /^namespaces +ns +v1 +false +Namespace$/m] });
}
