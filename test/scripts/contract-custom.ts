/** Contract, custom kinds: a CustomResourceDefinition and its objects: schema, pruning, defaults, columns, status, names. */
import type { Session } from "./kubectl-contract.ts";

export async function customKinds(session: Session): Promise<void> {
  await definitions(session);
  await objects(session);
  await ending(session);
}

function groupOf(session: Session): string {
  return `contract-${session.suffix}.example.com`;
}

function definition(session: Session, plural: string, kind: string, schema: object): string {
  const spec = { type: "object", ...schema };
  return JSON.stringify({
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${groupOf(session)}` },
    spec: {
      group: groupOf(session),
      names: { plural, kind, shortNames: [`w${session.suffix}`] },
      scope: "Namespaced",
      versions: [
        {
          name: "v1", served: true, storage: true, subresources: { status: {} },
          schema: { openAPIV3Schema: { type: "object", properties: { spec, status: { type: "object", properties: { ready: { type: "boolean" } } } } } },
          additionalPrinterColumns: [{ name: "Range", type: "string", jsonPath: ".spec.cidr" }, { name: "Size", type: "integer", jsonPath: ".spec.size" }],
        },
      ],
    },
  });
}

const SPEC = {
  required: ["cidr"],
  properties: {
    cidr: { type: "string", format: "cidr" },
    size: { type: "integer", minimum: 1, maximum: 9, default: 3 },
    mode: { type: "string", enum: ["On", "Off"] },
    ports: { type: "array", maxItems: 2, items: { "x-kubernetes-int-or-string": true } },
    labels: { type: "object", additionalProperties: { type: "string", maxLength: 3 } },
    free: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
    set: { type: "array", items: { type: "string" }, "x-kubernetes-list-type": "set" },
  },
};

function widget(session: Session, name: string, spec: object): string {
  return JSON.stringify({ apiVersion: `${groupOf(session)}/v1`, kind: "Widget", metadata: { name, namespace: session.namespace }, spec });
}

async function definitions(session: Session): Promise<void> {
  const crd = `widgets.${groupOf(session)}`;
  await session.check("apply definition", ["apply", "-f", "-"], { stdout: [`customresourcedefinition.apiextensions.k8s.io/${crd} created`] }, definition(session, "widgets", "Widget", SPEC));
  await session.check("wait until established", ["wait", "--for=condition=Established", `crd/${crd}`, "--timeout=20s"], { stdout: ["condition met"] });
  await session.check("definition without types", ["create", "-f", "-"], { exit: 1, stderr: [/is invalid: .*properties\[spec\]\.properties\[a\]\.type: Required value: must not be empty for specified object fields/] },
    definition(session, "gadgets", "Gadget", { properties: { a: {} } }));
  await session.check("definition with a wrong name", ["create", "-f", "-"], { exit: 1, stderr: ['metadata.name: Invalid value:', 'must be spec.names.plural+"."+spec.group'] }, definition(session, "gizmos", "Gizmo", SPEC).replace('"name":"gizmos.', '"name":"gizmo.'));
}

async function objects(session: Session): Promise<void> {
  const ns = session.namespace;
  const short = `w${session.suffix}`;
  const named = (name: string): readonly string[] => ["-n", ns, short, name];
  session.record("kind is served", (await session.until(["-n", ns, "get", short], "No resources found")) ? [] : ["it is not"]);
  await session.check("create custom object", ["create", "-f", "-"], { stdout: ["/one created"] }, widget(session, "one", { cidr: "10.0.0.0/8", ports: [80, "http"], free: { any: { thing: 1 } } }));
  await session.check("custom table", ["-n", ns, "get", short], { stdout: [/^NAME +RANGE +SIZE\none +10\.0\.0\.0\/8 +3/] });
  await session.checkField("default and preserved fields", named("one"), ".spec.size}{.spec.free.any.thing}{.metadata.generation", "311");
  const bad = [
    ["format", { cidr: "10.0.0.0" }, 'spec.cidr in body must be of type cidr: "10.0.0.0"'],
    ["required", {}, "spec.cidr: Required value"],
    ["maximum", { cidr: "::/0", size: 10 }, "spec.size in body should be less than or equal to 9"],
    ["enum", { cidr: "::/0", mode: "Maybe" }, 'spec.mode: Unsupported value: "Maybe": supported values: "On", "Off"'],
    ["type", { cidr: "::/0", size: "x" }, 'spec.size in body must be of type integer: "string"'],
    ["maxItems", { cidr: "::/0", ports: [1, 2, 3] }, "spec.ports: Too many: 3: must have at most 2 items"],
    ["int or string", { cidr: "::/0", ports: [true] }, "spec.ports[0] in body must be of type integer,string"],
    ["additional properties", { cidr: "::/0", labels: { a: "long" } }, "spec.labels.a: Too long: may not be more than 3 bytes"],
    ["set", { cidr: "::/0", set: ["a", "a"] }, 'spec.set[1]: Duplicate value: "a"'],
  ] as const;
  for (const [what, spec, words] of bad) await session.check(`custom object: ${what}`, ["create", "-f", "-"], { exit: 1, stderr: [words] }, widget(session, "bad", spec));
  await session.check("custom object: unknown field", ["create", "-f", "-"], { exit: 1, stderr: ['Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.colour"'] }, widget(session, "bad", { cidr: "::/0", colour: "red" }));
  await session.check("status is not written with the object", ["-n", ns, "patch", short, "one", "--type=merge", "-p", '{"status":{"ready":true}}'], {});
  await session.checkField("status is empty", named("one"), ".status.ready", "");
  await session.check("status subresource", ["-n", ns, "patch", short, "one", "--subresource=status", "--type=merge", "-p", '{"status":{"ready":true},"spec":{"size":5}}'], {});
  await session.checkField("only the status was written", named("one"), ".status.ready}{.spec.size}{.metadata.generation", "true31");
  await session.check("strategic patch of a custom object", ["-n", ns, "patch", short, "one", "--type=strategic", "-p", '{"spec":{"size":4}}'], { exit: 1, stderr: ["application/strategic-merge-patch+json is not supported|the body of the request was in an unknown format"].map((text) => new RegExp(text)) });
  await session.check("explain custom kind", ["explain", `${short}.spec`], { stdout: ["cidr", "<string>", "-required-"] });
}

async function ending(session: Session): Promise<void> {
  const crd = `widgets.${groupOf(session)}`;
  await session.check("delete definition", ["delete", "crd", crd, "--timeout=30s"], { stdout: [`"${crd}" deleted`] });
  session.record("its kind is gone", (await session.until(["get", "--raw", `/apis/${groupOf(session)}/v1/widgets`], "could not find the requested resource")) ? [] : ["it is still served"]);
  await session.check("delete namespace with content", ["delete", "namespace", session.namespace, "--timeout=60s"], { stdout: [`namespace "${session.namespace}" deleted`] });
  await session.check("its content is gone", ["-n", session.namespace, "get", "pods,configmaps,networkpolicies", "-o", "name"], { stdout: [/^$/] });
}
