/** kubectl: an operator's session: each verb, with what it prints. In a namespace of its own. */
import type { Recorder, Typing } from "../recorder.ts";
import { configMap, type Places, pod, policy } from "./places.ts";

type Verb = (name: string, args: readonly string[], typing?: Typing) => Promise<unknown>;

export async function kubectlSessions(recorder: Recorder, places: Places): Promise<void> {
  const ns = places.kubectlNamespace;
  const within: Verb = (name, args, typing) => recorder.kubectl(`kubectl: ${name}`, ["-n", ns, ...args], typing);
  const outside: Verb = (name, args, typing) => recorder.kubectl(`kubectl: ${name}`, args, typing);
  await creations(recorder, ns, outside, within);
  await reading(within, outside);
  await applying(within);
  await changing(within);
  await nodes(recorder, outside);
  await watching(recorder, ns, within);
  await refused(within, outside);
  await ending(recorder, ns, within, outside);
}

const input = (object: object): Typing => ({ input: JSON.stringify(object) });

/** Their bodies are protobuf. */
async function creations(recorder: Recorder, ns: string, outside: Verb, within: Verb): Promise<void> {
  await outside("create namespace", ["create", "namespace", ns]);
  await outside("create namespace again", ["create", "namespace", ns]);
  await recorder.until(`/api/v1/namespaces/${ns}/serviceaccounts/default`, 200);
  await within("create configmap", ["create", "configmap", "c", "--from-literal=a=b"]);
  await within("create secret", ["create", "secret", "generic", "s", "--from-literal=a=b"]);
  await within("create serviceaccount", ["create", "serviceaccount", "robot"]);
  await within("create service", ["create", "service", "clusterip", "web", "--tcp=80:8080"]);
  await within("create service, headless", ["create", "service", "clusterip", "bare", "--clusterip=None"]);
  await within("create service, node port", ["create", "service", "nodeport", "node", "--tcp=80", "--dry-run=server"]);
  await within("create service, external name", [
    "create",
    "service",
    "externalname",
    "far",
    "--external-name=example.com",
  ]);
  await within("create from a file", ["create", "-f", "-"], input(pod("made")));
  await within(
    "create a list",
    ["create", "-f", "-"],
    input({
      apiVersion: "v1",
      kind: "List",
      items: ["x", "y"].map((name) => configMap(`list-${name}`, { labels: { set: "list" } })),
    }),
  );
  await within(
    "create with generateName",
    ["create", "-f", "-", "-o", "name"],
    input(configMap("x", { name: undefined, generateName: "made-" })),
  );
  await within("create, dry run at the server", ["create", "--dry-run=server", "-f", "-"], input(pod("dry")));
  await within("run", [
    "run",
    "ran",
    "--image=registry.example/app:1",
    "--overrides",
    '{"spec":{"schedulerName":"nobody","automountServiceAccountToken":false}}',
  ]);
  await within("expose", ["expose", "pod", "ran", "--port=80", "--name=ran"]);
  await within("create, known already", ["create", "configmap", "c"]);
}

async function reading(within: Verb, outside: Verb): Promise<void> {
  await within("get pods", ["get", "pods"]);
  await within("get pods, wide", ["get", "pods", "-o", "wide"]);
  await within("get pod as YAML", ["get", "pod", "made", "-o", "yaml"]);
  await within("get service as JSON", ["get", "service", "web", "-o", "json"]);
  await within("get several kinds", ["get", "configmap/c", "secret/s", "-o", "name"]);
  await within("get by label", ["get", "configmaps", "-l", "set in (list),!x", "-o", "name"]);
  await within("get by field", [
    "get",
    "pods",
    "--field-selector",
    "status.phase=Pending,spec.nodeName=,metadata.name=made",
    "-o",
    "name",
  ]);
  await within("get labels", ["get", "pods", "--show-labels"]);
  await within("get sorted", ["get", "configmaps", "-l", "set=list", "--sort-by=.metadata.name", "--no-headers"]);
  await within("get custom columns", [
    "get",
    "pod",
    "made",
    "-o",
    "custom-columns=NAME:.metadata.name,IMAGE:.spec.containers[*].image",
  ]);
  await within("get in pages", ["get", "configmaps", "-l", "set=list", "--chunk-size=1", "-o", "name"]);
  await within("get from a file", ["get", "-f", "-", "-o", "name"], input(pod("made")));
  await within("get what does not exist", ["get", "pod", "ghost"]);
  await within("get what does not exist, ignored", ["get", "pod", "ghost", "--ignore-not-found"]);
  await within("get nothing", ["get", "events", "--field-selector=reason=Nothing"]);
  await within("get all", ["get", "all"]);
  await within("get services", ["get", "services", "-o", "wide"]);
  await within("get service accounts", ["get", "serviceaccount", "robot"]);
  await within("get configmap", ["get", "configmap", "c"]);
  await within("get secret", ["get", "secret", "s"]);
  await within("get a kind that is not served", ["get", "nonsense"]);
  await within("describe pod", ["describe", "pod", "made"]);
  await within("describe service", ["describe", "service", "bare"], {
    selectError: (text) => text.replace(/^Warning: v1 Endpoints is deprecated.*\n/m, ""),
  });
  await within("describe configmap", ["describe", "configmap", "c"]);
  await within("describe secret", ["describe", "secret", "s"]);
  await outside("describe namespace", ["describe", "namespace", "default"], {
    select: (text) =>
      text
        .split("\n")
        .filter((line) => /^(Name|Status):/.test(line))
        .join("\n"),
  });
  await outside("api-versions", ["api-versions"], {
    select: (text) =>
      text
        .split("\n")
        .filter((line) => /^(v1|discovery|networking|apiextensions)/.test(line))
        .join("\n"),
  });
  await outside("api-resources", ["api-resources", "--no-headers"], {
    select: (text) =>
      text
        .split("\n")
        .filter(
          (line) =>
            /^(namespaces|nodes|pods|services|serviceaccounts|configmaps|secrets|endpointslices|networkpolicies|customresourcedefinitions) /.test(
              line,
            ) && !line.includes("projectcalico.org"),
        )
        .map((line) => line.replace(/ +/g, " "))
        .join("\n"),
  });
  for (const field of [
    "pod.spec.containers.ports",
    "networkpolicy.spec.ingress",
    "service.spec",
    "node.spec",
    "ippool.spec",
  ])
    await outside(`explain ${field}`, ["explain", field], { select: fieldLines });
  await outside("explain what does not exist", ["explain", "pod.spec.nonsense"]);
}

/** Fields and their types, without the words about them. */
function fieldLines(text: string): string {
  return text
    .split("\n")
    .filter((line) => /^(KIND|VERSION|GROUP):|^ {2}\S+\s*<|^FIELD/.test(line))
    .map((line) => line.replace(/\s+/g, " "))
    .join("\n");
}

const RULE = {
  podSelector: { matchLabels: { app: "a" } },
  ingress: [
    {
      from: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } }],
      ports: [{ protocol: "TCP", port: 80, endPort: 90 }],
    },
  ],
};

async function applying(within: Verb): Promise<void> {
  await within("apply a pod", ["apply", "-f", "-"], input(pod("a")));
  await within("apply it again", ["apply", "-f", "-"], input(pod("a")));
  await within("apply a change", ["apply", "-f", "-"], input(pod("a", {}, { labels: { app: "a", tier: "front" } })));
  await within("apply what may not change", ["apply", "-f", "-"], {
    ...input(pod("a", { hostNetwork: true })),
    selectError: (text) => text.replace(/: spec: Forbidden.*$/s, ": spec: Forbidden …"),
  });
  await within("apply a policy", ["apply", "-f", "-"], input(policy("p", RULE)));
  await within("apply a policy, changed", ["apply", "-f", "-"], input(policy("p", { ...RULE, egress: [{}] })));
  await within("get the policy", ["get", "networkpolicy", "p", "-o", "yaml"]);
  await within("get policies", ["get", "networkpolicy"]);
  await within("describe the policy", ["describe", "networkpolicy", "p"]);
  await within("diff", ["diff", "-f", "-"], {
    ...input(policy("p", RULE)),
    select: (text) =>
      text
        .split("\n")
        .filter((line) => /^[-+] /.test(line) && !/^[-+] +f:/.test(line))
        .join("\n"),
  });
  await within("diff without difference", ["diff", "-f", "-"], input(policy("p", { ...RULE, egress: [{}] })));
  await within(
    "apply at the server",
    ["apply", "--server-side", "-f", "-"],
    input(configMap("served", {}, { data: { a: "1" } })),
  );
  await within("apply, dry run at the server", ["apply", "--dry-run=server", "-f", "-"], input(pod("b")));
  await within("apply with an unknown field", ["apply", "-f", "-"], input(pod("b", { nodeNaem: "x" })));
  await within(
    "create with an unknown field, warned",
    ["create", "--validate=warn", "-f", "-"],
    input(pod("b", { nodeNaem: "x" })),
  );
  await within("replace", ["replace", "-f", "-"], input(configMap("c", {}, { data: { a: "2" } })));
  await within("replace what does not exist", ["replace", "-f", "-"], input(configMap("ghost")));
  await within("replace with a stale version", ["replace", "-f", "-"], input(configMap("c", { resourceVersion: "1" })));
}

async function changing(within: Verb): Promise<void> {
  await within("label", ["label", "pod", "a", "colour=red"]);
  await within("label that is there", ["label", "pod", "a", "colour=red"]);
  await within("label with another value", ["label", "pod", "a", "colour=blue"]);
  await within("label with another value, overwritten", ["label", "pod", "a", "colour=blue", "--overwrite"]);
  await within("label removed", ["label", "pod", "a", "colour-"]);
  await within("annotate", ["annotate", "pod", "a", "note=x"]);
  await within("set image", ["set", "image", "pod/a", "main=registry.example/app:2"]);
  await within("strategic patch", ["patch", "pod", "a", "-p", '{"metadata":{"labels":{"b":"c"}}}']);
  await within("JSON patch", [
    "patch",
    "pod",
    "a",
    "--type=json",
    "-p",
    '[{"op":"test","path":"/metadata/labels/b","value":"c"},{"op":"remove","path":"/metadata/labels/b"}]',
  ]);
  await within("JSON patch whose test fails", [
    "patch",
    "pod",
    "a",
    "--type=json",
    "-p",
    '[{"op":"test","path":"/metadata/labels/app","value":"z"}]',
  ]);
  await within("merge patch of nothing", ["patch", "pod", "a", "--type=merge", "-p", "{}"]);
  await within("patch of the status", [
    "patch",
    "pod",
    "a",
    "--subresource=status",
    "-p",
    '{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}',
  ]);
  await within("get of the status", ["get", "pod", "a", "--subresource=status", "-o", "name"]);
  await within("wait for a condition", ["wait", "--for=condition=Ready", "pod/a", "--timeout=10s"]);
  await within("wait for a value", ["wait", "--for=jsonpath={.status.phase}=Running", "pod/a", "--timeout=10s"]);
  await within("wait in vain", ["wait", "--for=condition=Nonsense", "pod/a", "--timeout=1s"]);
  await within("scale", ["scale", "pod", "a", "--replicas=2"]);
}

async function nodes(recorder: Recorder, outside: Verb): Promise<void> {
  const name = `contract-${recorder.suffix}`;
  await recorder.send("POST", "/api/v1/nodes", {
    body: { apiVersion: "v1", kind: "Node", metadata: { name, labels: { set: name } } },
  });
  await outside("get a node", ["get", "node", name], {
    select: (text) => text.replace(/ +(NotReady|Unknown)/, " STATUS"),
  });
  await outside("cordon", ["cordon", name]);
  await outside("cordon again", ["cordon", name]);
  await outside("uncordon", ["uncordon", name]);
  await outside("taint", ["taint", "node", name, "dedicated=x:NoSchedule"]);
  await outside("taint again", ["taint", "node", name, "dedicated=y:NoSchedule"]);
  await outside("taint removed", ["taint", "node", name, "dedicated-"]);
  await outside("drain", ["drain", name, "--timeout=10s"]);
  await outside("describe a node", ["describe", "node", name], {
    select: (text) =>
      text
        .split("\n")
        .filter((line) => /^(Name|Unschedulable|PodCIDR|System Info|Non-terminated Pods):/.test(line))
        .join("\n"),
  });
  await outside("delete a node", ["delete", "node", name]);
}

async function watching(recorder: Recorder, ns: string, within: Verb): Promise<void> {
  await within("create for a watch", ["create", "configmap", "seen"]);
  const watch = within("get -w", ["get", "configmap", "seen", "-w", "--request-timeout=4s"], { selectError: () => "" });
  await Bun.sleep(1500);
  await recorder.send("PATCH", `/api/v1/namespaces/${ns}/configmaps/seen`, {
    type: "application/merge-patch+json",
    body: { data: { a: "1" } },
  });
  await watch;
}

async function refused(within: Verb, outside: Verb): Promise<void> {
  await outside("namespace with a bad name", ["create", "namespace", "E_1"]);
  await within("pod without containers", ["create", "-f", "-"], input(pod("bad", { containers: [] })));
  await within(
    "configmap with a bad key",
    ["create", "-f", "-"],
    input(configMap("bad", {}, { data: { "a b": "c" } })),
  );
  await within(
    "policy with a bad protocol",
    ["create", "-f", "-"],
    input(policy("bad", { podSelector: {}, ingress: [{ ports: [{ protocol: "FOO", port: 70000 }] }] })),
  );
  await within("strange field selector", ["get", "pods", "--field-selector", "spec.foo=bar"]);
  await outside("raw path that does not exist", ["get", "--raw", "/apis/nope.example.com/v1/things"]);
  await outside("list in a namespace that does not exist", ["-n", "no-such-namespace", "get", "pods"]);
  await outside("create in a namespace that does not exist", ["-n", "no-such-namespace", "create", "configmap", "c"]);
  await within("logs of a pod without node", ["logs", "a"]);
  await within("exec in a pod without node", ["exec", "a", "--", "true"]);
  await outside("auth can-i", ["auth", "can-i", "create", "pods"]);
  await outside("auth whoami", ["auth", "whoami"], {
    select: (text) =>
      text
        .split("\n")
        .filter((line) => !line.startsWith("Extra:"))
        .map((line) => line.replace(/ +/g, " "))
        .join("\n"),
  });
  await within("create token", ["create", "token", "robot"], {
    select: (text) => (text.length > 100 ? "TOKEN" : text),
  });
  await within("create deployment", ["create", "deployment", "d", "--image=x", "--replicas=0"]);
}

async function ending(recorder: Recorder, ns: string, within: Verb, outside: Verb): Promise<void> {
  await within("delete a pod without node", ["delete", "pod", "b", "--timeout=20s"]);
  await within("delete again", ["delete", "pod", "b"]);
  await within("delete by label", ["delete", "configmap", "-l", "set=list"]);
  await within("finalizer", [
    "patch",
    "configmap",
    "c",
    "--type=merge",
    "-p",
    '{"metadata":{"finalizers":["example.com/hold"]}}',
  ]);
  await within("delete what is held", ["delete", "configmap", "c", "--wait=false"]);
  await within("wait for deletion in vain", ["wait", "--for=delete", "configmap/c", "--timeout=1s"]);
  await within("finalizer removed", [
    "patch",
    "configmap",
    "c",
    "--type=merge",
    "-p",
    '{"metadata":{"finalizers":null}}',
  ]);
  await within("wait for deletion", ["wait", "--for=delete", "configmap/c", "--timeout=20s"]);
  await within("delete with cascade", ["delete", "service", "web", "--cascade=foreground"]);
  await within("delete from a file", ["delete", "-f", "-"], input(policy("p", {})));
  await outside("delete the namespace", ["delete", "namespace", ns, "--timeout=60s"]);
  await recorder.until(`/api/v1/namespaces/${ns}`, 404);
  await within("its content is gone", ["get", "pods,configmaps,networkpolicies", "-o", "name"]);
}
