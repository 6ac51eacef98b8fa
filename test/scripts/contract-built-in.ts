/** Contract, built-in kinds: create, apply, patch, defaults, validation, deletion, as kubectl shows them. */
import type { Session } from "./kubectl-contract.ts";

const pod = (name: string, extra: object = {}): string =>
  JSON.stringify({
    apiVersion: "v1", kind: "Pod", metadata: { name, labels: { app: name } },
    spec: { schedulerName: "nobody", containers: [{ name: "main", image: "registry.example/app:1", ports: [{ containerPort: 80, name: "http" }] }], ...extra },
  });

const policy = (spec: object): string => JSON.stringify({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name: "p" }, spec });

export async function builtInKinds(session: Session): Promise<void> {
  await namespacesAndConfiguration(session);
  await pods(session);
  await patches(session);
  await policies(session);
  await deletion(session);
}

async function namespacesAndConfiguration(session: Session): Promise<void> {
  const ns = session.namespace;
  await session.check("create namespace", ["create", "namespace", ns], { stdout: [`namespace/${ns} created`] });
  await session.check("create namespace again", ["create", "namespace", ns], { exit: 1, stderr: [`Error from server (AlreadyExists): namespaces "${ns}" already exists`] });
  await session.check("namespace with a bad name", ["create", "namespace", "E_1"], { exit: 1, stderr: [/The Namespace "E_1" is invalid: metadata\.name: Invalid value: "E_1": a lowercase RFC 1123 label must consist of/] });
  await session.check("get namespace table", ["get", "namespace", ns], { stdout: [/^NAME +STATUS +AGE\n/, new RegExp(`\n?${ns} +Active +\\d+s`)] });
  await session.checkField("namespace label", ["namespace", ns], ".metadata.labels.kubernetes\\.io/metadata\\.name", ns);
  if (!(await session.until(["-n", ns, "get", "serviceaccount", "default", "-o", "name"], "serviceaccount/default"))) session.record("default service account", ["there is none"]);
  await session.check("create configmap", ["-n", ns, "create", "configmap", "c", "--from-literal=a=b"], { stdout: ["configmap/c created"] });
  await session.check("create secret", ["-n", ns, "create", "secret", "generic", "s", "--from-literal=a=b"], { stdout: ["secret/s created"] });
  await session.checkField("secret data", ["-n", ns, "secret", "s"], ".data.a", "Yg==");
  await session.check("create serviceaccount", ["-n", ns, "create", "serviceaccount", "robot"], { stdout: ["serviceaccount/robot created"] });
  await session.check("create service", ["-n", ns, "create", "service", "clusterip", "web", "--tcp=80:8080"], { stdout: ["service/web created"] });
  await session.checkField("service target port", ["-n", ns, "service", "web"], ".spec.ports[0].targetPort", "8080");
  await session.check("get service table", ["-n", ns, "get", "service", "web", "-o", "wide"], { stdout: [/^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE +SELECTOR\n/, /web +ClusterIP +\S+ +<none> +80\/TCP +\d+s +app=web/] });
  await session.check("configmap with a bad key", ["-n", ns, "create", "-f", "-"], { exit: 1, stderr: [/ConfigMap "bad" is invalid: data\[a b\]: Invalid value: "a b": a valid config key must consist of/] },
    JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "bad" }, data: { "a b": "c" } }));
  await session.check("create in a namespace that does not exist", ["-n", `no-${ns}`, "create", "configmap", "c"], { exit: 1, stderr: [`namespaces "no-${ns}" not found`] });
  await session.check("list in a namespace that does not exist", ["-n", `no-${ns}`, "get", "pods"], { stderr: [`No resources found in no-${ns} namespace.`] });
}

async function pods(session: Session): Promise<void> {
  const ns = session.namespace;
  await session.check("apply pod", ["-n", ns, "apply", "-f", "-"], { stdout: ["pod/a created"] }, pod("a"));
  await session.check("apply pod again", ["-n", ns, "apply", "-f", "-"], { stdout: ["pod/a unchanged"] }, pod("a"));
  await session.checkField("pod defaults", ["-n", ns, "pod", "a"], ".spec.restartPolicy .spec.dnsPolicy .spec.terminationGracePeriodSeconds .spec.containers[0].ports[0].protocol .spec.containers[0].imagePullPolicy .spec.serviceAccountName .status.phase .status.qosClass".replaceAll(" .", "}{.").replace(/^/, ""),
    "AlwaysClusterFirst30TCPIfNotPresentdefaultPendingBestEffort");
  await session.check("get pods wide", ["-n", ns, "get", "pods", "-o", "wide"], { stdout: [/^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES\n/, /a +0\/1 +Pending +0 +\d+s +<none> +<none> +<none> +<none>/] });
  await session.check("get by label", ["-n", ns, "get", "pods", "-l", "app in (a,b),!x", "-o", "name"], { stdout: ["pod/a"] });
  await session.check("get by field", ["-n", ns, "get", "pods", "--field-selector", "status.phase=Pending,spec.nodeName=", "-o", "name"], { stdout: ["pod/a"] });
  await session.check("field selector that is not served", ["-n", ns, "get", "pods", "--field-selector", "spec.foo=bar"], { exit: 1, stderr: ["field label not supported: spec.foo"] });
  await session.check("pod without containers", ["-n", ns, "create", "-f", "-"], { exit: 1, stderr: ['The Pod "b" is invalid: spec.containers: Required value'] }, pod("b", { containers: [] }));
  await session.check("pod with a bad port", ["-n", ns, "create", "-f", "-"], { exit: 1, stderr: ["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"] },
    pod("b", { containers: [{ name: "main", image: "x", ports: [{ containerPort: 70000 }] }] }));
  await session.check("pod with a bad restart policy", ["-n", ns, "create", "-f", "-"], { exit: 1, stderr: ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"'] }, pod("b", { restartPolicy: "Sometimes" }));
  await session.check("unknown field", ["-n", ns, "create", "-f", "-"], { exit: 1, stderr: ['Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.nodeNaem"'] }, pod("b", { nodeNaem: "x" }));
  await session.check("unknown field, warned of", ["-n", ns, "create", "--validate=warn", "-f", "-"], { stdout: ["pod/b created"], stderr: ['Warning: unknown field "spec.nodeNaem"'] }, pod("b", { nodeNaem: "x" }));
  await session.checkField("unknown field is dropped", ["-n", ns, "pod", "b"], ".spec.nodeNaem", "");
  await session.check("wrong type", ["-n", ns, "create", "--validate=false", "-f", "-"], { exit: 1, stderr: ['Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal'] }, pod("c", { hostNetwork: "yes" }));
  await session.check("pod with an unknown service account", ["-n", ns, "create", "-f", "-"], { exit: 1, stderr: [/pods "c" is forbidden: error looking up service account .*: serviceaccount "ghost" not found/] }, pod("c", { serviceAccountName: "ghost" }));
  await session.check("immutable pod spec", ["-n", ns, "patch", "pod", "a", "--type=merge", "-p", '{"spec":{"hostNetwork":true}}'], { exit: 1, stderr: ["spec: Forbidden: pod updates may not change fields other than"] });
  await session.check("dry run creates nothing", ["-n", ns, "create", "--dry-run=server", "-f", "-"], { stdout: ["pod/d created (server dry run)"] }, pod("d"));
  await session.check("dry run left nothing", ["-n", ns, "get", "pod", "d"], { exit: 1, stderr: ['Error from server (NotFound): pods "d" not found'] });
  await session.check("generateName", ["-n", ns, "create", "-f", "-", "-o", "name"], { stdout: [/^pod\/made-[a-z0-9]{5}\n$/] }, pod("x").replace('"name":"x"', '"generateName":"made-"'));
  await session.check("describe pod", ["-n", ns, "describe", "pod", "a"], { stdout: [/Name: +a\n/, /Status: +Pending\n/, /Image: +registry\.example\/app:1\n/] });
  await session.check("explain", ["explain", "pod.spec.containers.ports"], { stdout: ["containerPort", "<integer>", "-required-"] });
}

async function patches(session: Session): Promise<void> {
  const ns = session.namespace;
  await session.check("label", ["-n", ns, "label", "pod", "a", "tier=front"], { stdout: ["pod/a labeled"] });
  await session.check("annotate", ["-n", ns, "annotate", "pod", "a", "note=x"], { stdout: ["pod/a annotated"] });
  await session.check("strategic patch of an image", ["-n", ns, "set", "image", "pod/a", "main=registry.example/app:2"], { stdout: ["pod/a image updated"] });
  await session.checkField("strategic merge by container name keeps ports", ["-n", ns, "pod", "a"], ".spec.containers[0].image} {.spec.containers[0].ports[0].containerPort", "registry.example/app:2 80");
  await session.check("JSON patch", ["-n", ns, "patch", "pod", "a", "--type=json", "-p", '[{"op":"test","path":"/metadata/labels/tier","value":"front"},{"op":"replace","path":"/metadata/labels/tier","value":"back"}]'], { stdout: ["pod/a patched"] });
  await session.check("JSON patch with a failing test", ["-n", ns, "patch", "pod", "a", "--type=json", "-p", '[{"op":"test","path":"/metadata/labels/tier","value":"front"}]'], { exit: 1, stderr: ["The request is invalid: the server rejected our request due to an error in our request"] });
  await session.check("merge patch removes with null", ["-n", ns, "patch", "pod", "a", "--type=merge", "-p", '{"metadata":{"labels":{"tier":null}}}'], { stdout: ["pod/a patched"] });
  await session.checkField("label is gone", ["-n", ns, "pod", "a"], ".metadata.labels", '{"app":"a"}');
  await session.check("status of two conditions", ["-n", ns, "patch", "pod", "a", "--subresource=status", "-p", '{"status":{"phase":"Running","podIP":"10.1.2.3","podIPs":[{"ip":"10.1.2.3"}],"conditions":[{"type":"Ready","status":"False"},{"type":"Initialized","status":"True"}]}}'], { stdout: ["pod/a patched"] });
  await session.check("strategic merge of conditions by type", ["-n", ns, "patch", "pod", "a", "--subresource=status", "-p", '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'], { stdout: ["pod/a patched"] });
  await session.checkField("conditions merged", ["-n", ns, "pod", "a"], '.status.conditions[?(@.type=="Ready")].status}{.status.conditions[?(@.type=="Initialized")].status', "TrueTrue");
  await session.check("wait for the condition", ["-n", ns, "wait", "--for=condition=Ready", "pod/a", "--timeout=10s"], { stdout: ["pod/a condition met"] });
  const before = await session.object(["-n", ns, "pod", "a"]);
  await session.check("a label that is there already", ["-n", ns, "label", "pod", "a", "app=a", "--overwrite"], { stdout: [/pod\/a not labeled/] });
  const after = await session.object(["-n", ns, "pod", "a"]);
  session.record("a change of nothing makes no version", JSON.stringify(before?.["metadata"]) === JSON.stringify(after?.["metadata"]) ? [] : ["metadata changed"]);
  const stale = { ...before, metadata: { ...(before?.["metadata"] as object), resourceVersion: "1" } };
  await session.check("stale resourceVersion", ["-n", ns, "replace", "-f", "-"], { exit: 1, stderr: ['Operation cannot be fulfilled on pods "a": the object has been modified; please apply your changes to the latest version and try again'] }, JSON.stringify(stale));
}

async function policies(session: Session): Promise<void> {
  const ns = session.namespace;
  await session.check("apply policy", ["-n", ns, "apply", "-f", "-"], { stdout: ["networkpolicy.networking.k8s.io/p created"] },
    policy({ podSelector: { matchLabels: { app: "a" } }, ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } }], ports: [{ protocol: "TCP", port: 80, endPort: 90 }] }] }));
  await session.checkField("policyTypes inferred", ["-n", ns, "networkpolicy", "p"], ".spec.policyTypes} {.metadata.generation", '["Ingress"] 1');
  await session.check("get policy table", ["-n", ns, "get", "networkpolicy"], { stdout: [/^NAME +POD-SELECTOR +AGE\np +app=a +\d+s/] });
  await session.check("describe policy", ["-n", ns, "describe", "networkpolicy", "p"], { stdout: ["CIDR: 10.0.0.0/8", "Except: 10.1.0.0/16", "Not affecting egress traffic"] });
  await session.check("label does not raise generation", ["-n", ns, "label", "networkpolicy", "p", "x=y"], {});
  await session.checkField("generation stays", ["-n", ns, "networkpolicy", "p"], ".metadata.generation", "1");
  await session.check("spec raises generation", ["-n", ns, "patch", "networkpolicy", "p", "--type=merge", "-p", '{"spec":{"podSelector":{"matchLabels":{"app":"z"}}}}'], {});
  await session.checkField("generation rose", ["-n", ns, "networkpolicy", "p"], ".metadata.generation", "2");
  await session.check("bad protocol and port", ["-n", ns, "create", "-f", "-"], { exit: 1, stderr: ['.protocol: Unsupported value: "FOO": supported values: ', ".port: Invalid value: 70000: must be between 1 and 65535, inclusive"] },
    policy({ podSelector: {}, ingress: [{ ports: [{ protocol: "FOO", port: 70000 }] }] }).replace('"name":"p"', '"name":"q"'));
  await session.check("except outside of cidr", ["-n", ns, "create", "-f", "-"], { exit: 1, stderr: ["spec.ingress[0].from[0].ipBlock.except[0]: Invalid value:"] },
    policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["11.0.0.0/16"] } }] }] }).replace('"name":"p"', '"name":"q"'));
}

async function deletion(session: Session): Promise<void> {
  const ns = session.namespace;
  await session.check("delete pod without node", ["-n", ns, "delete", "pod", "b", "--timeout=20s"], { stdout: ['pod "b" deleted'] });
  await session.check("finalizer", ["-n", ns, "patch", "configmap", "c", "--type=merge", "-p", '{"metadata":{"finalizers":["example.com/hold"]}}'], {});
  await session.check("delete held object", ["-n", ns, "delete", "configmap", "c", "--wait=false"], { stdout: ['configmap "c" deleted'] });
  await session.check("held object is still there", ["-n", ns, "get", "configmap", "c", "-o", "jsonpath={.metadata.deletionTimestamp}"], { stdout: [/^\d{4}-/] });
  await session.check("no new finalizer while deleting", ["-n", ns, "patch", "configmap", "c", "--type=merge", "-p", '{"metadata":{"finalizers":["example.com/hold","example.com/more"]}}'], { exit: 1, stderr: ["metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"] });
  await session.check("finalizer removed", ["-n", ns, "patch", "configmap", "c", "--type=merge", "-p", '{"metadata":{"finalizers":null}}'], {});
  await session.check("then it is gone", ["-n", ns, "get", "configmap", "c"], { exit: 1, stderr: ['configmaps "c" not found'] });
  const owner = await session.object(["-n", ns, "secret", "s"]);
  const uid = String((owner?.["metadata"] as Record<string, unknown> | undefined)?.["uid"]);
  const owned = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "owned", ownerReferences: [{ apiVersion: "v1", kind: "Secret", name: "s", uid }] } };
  await session.check("create owned object", ["-n", ns, "create", "-f", "-"], { stdout: ["configmap/owned created"] }, JSON.stringify(owned));
  await session.check("delete owner", ["-n", ns, "delete", "secret", "s"], {});
  session.record("owned object follows", (await session.until(["-n", ns, "get", "configmap", "owned"], '"owned" not found')) ? [] : ["it is still there"]);
}
