import { expect, test } from "bun:test";
import { kindOfWord } from "./kinds.ts";
import { completed } from "./check.ts";
import { runValidate } from "./run-files.ts";

async function validate(text: string, options: { namespace?: string; skipEmpty?: boolean; output?: "json" } = {}) {
  return runValidate(
    {
      files: ["-"],
      recursive: false,
      skipEmpty: options.skipEmpty === true,
      namespace: options.namespace,
      stdin: async () => new TextEncoder().encode(text),
      reader: "calicoctl validate -f -",
    },
    options.output ?? "text",
  );
}

const policy = (name: string, spec: string, metadata = ""): string =>
  `{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: ${name}${metadata}}, spec: ${spec}}\n`;

test("valid objects are counted by kind", async () => {
  const pool = "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0.0/16}}";
  expect(await validate(`${policy("a", "{}")}---\n${policy("b", "{}")}`)).toEqual({
    code: 0,
    out: "Successfully validated 2 'NetworkPolicy' resource(s)\n",
    error: "",
  });
  expect((await validate(`${policy("a", "{}")}---\n${pool}`)).out).toBe("Successfully validated 2 resource(s)\n");
  await expect(validate("# nothing\n")).rejects.toThrow("no resources specified in file standard input");
  expect((await validate("# nothing\n", { skipEmpty: true })).out).toBe("No resources specified\n");
});

test("lists of every form, and CalicoPolicy", async () => {
  const a = policy("a", "{}").trim();
  const b = policy("b", "{}").trim().replace("kind: NetworkPolicy", "kind: CalicoPolicy");
  const untyped = "{metadata: {name: c}, spec: {}}";
  for (const [text, count] of [
    [`{apiVersion: v1, kind: List, items: [${a}, ${b}]}`, 2],
    [`- ${a}\n- ${b}`, 2],
    [
      `{apiVersion: projectcalico.org/v3, kind: NetworkPolicyList, metadata: {resourceVersion: '1'}, items: [${untyped}]}`,
      1,
    ],
    [
      `${a}\n---\n${b}\n---\n{apiVersion: v1, kind: List, items: [${untyped.replace("{", "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, ")}]}`,
      3,
    ],
  ] as const)
    expect([text, (await validate(text)).out]).toEqual([
      text,
      `Successfully validated ${count} 'NetworkPolicy' resource(s)\n`,
    ]);
});

test("an error names file, document, object, field, value and what is allowed", async () => {
  const at = (document: number, object: string): string =>
    `standard input:${document * 2 - 1} (document ${document}): ${object}`;
  for (const [text, error] of [
    [policy("a", "{order: x}"), 'NetworkPolicy(default/a): spec.order: Invalid value: "x": '],
    [
      policy("a", "{ingres: []}"),
      "NetworkPolicy(default/a): spec.ingres: Forbidden value: []: is no field of this kind; did you mean ingress?",
    ],
    [
      policy("a", "{ingress: [{action: Allow, zzz: 1}]}"),
      "spec.ingress[0].zzz: Forbidden value: 1: is no field of this kind: there are action, ",
    ],
    [
      policy("a", "{ingress: [{action: Alow}]}"),
      'spec.ingress[0].action: Unsupported value: "Alow": supported values: "Allow", "Deny", "Log", "Pass"',
    ],
    [policy("a", "{selector: 'a = b'}"), 'spec.selector: Invalid value: "a = b": '],
    [
      policy("a", "{}", ", labls: {a: b}"),
      'metadata.labls: Forbidden value: {"a":"b"}: is no field of this kind; did you mean labels?',
    ],
    [policy("A_", "{}"), 'metadata.name: Invalid value: "A_": must be at most 253 characters'],
    [policy("''", "{}"), "metadata.name: Required value: the object needs a name"],
    [
      policy("a", "{}").replace("NetworkPolicy", "NetworkPolcy"),
      'kind: Invalid value: "NetworkPolcy": is no kind that calicoctl handles; did you mean NetworkPolicy?',
    ],
    [
      policy("a", "{}").replace("NetworkPolicy", "Zebra"),
      "is no kind that calicoctl handles: NetworkPolicy, GlobalNetworkPolicy, ",
    ],
    [
      policy("a", "{}").replace("NetworkPolicy", "BGPPeer"),
      'kind: Invalid value: "BGPPeer": is not handled by this calicoctl yet: use kubectl',
    ],
    [
      policy("a", "{}").replace("projectcalico.org/v3", "crd.projectcalico.org/v1"),
      'apiVersion: Invalid value: "crd.projectcalico.org/v1": must be projectcalico.org/v3 or networking.k8s.io/v1',
    ],
    ["{apiVersion: projectcalico.org/v3}", "kind: Invalid value: null: must be the name of a kind"],
    ["text", '<nil>: Invalid value: "text": must be an object'],
    [
      "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {order: 5}}",
      "Tier(default): spec.order: Invalid value: 5: must be 1000000 in the tier default",
    ],
    [
      "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t, namespace: x}, spec: {}}",
      "Tier is not a namespaced resource",
    ],
    [
      "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0/8}}",
      "IPPool(p): spec.cidr: Invalid value: ",
    ],
    [
      "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0.0/8, nodeSelector: '='}}",
      "spec.nodeSelector: Invalid value: ",
    ],
    [
      "{apiVersion: projectcalico.org/v3, kind: IPAMConfiguration, metadata: {name: p}, spec: {}}",
      'metadata.name: Invalid value: "p": must be default',
    ],
    [
      "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: {podselector: {}}}",
      "KubernetesNetworkPolicy(default/p): spec.podselector: Forbidden value: {}: unknown field, must be one of podSelector",
    ],
  ] as const) {
    const result = await validate(`${policy("ok", "{}")}---\n${text}`);
    expect([text, result.code, result.error]).toEqual([text, 1, expect.stringContaining(error)]);
    expect(result.error).toStartWith(at(2, ""));
    expect(result.error).toEndWith(`resources: 1 of 2 is invalid\n`);
    expect(result.out).toBe("Partial success: validated 1 out of 2 resources\n");
  }
});

test("an object that is written twice, and a namespace that is not that of -n", async () => {
  const twice = await validate(`${policy("a", "{}")}---\n${policy("a", "{}")}`);
  expect(twice.error).toContain("the same object is also in standard input:1 (document 1): keep one of them");
  const other = await validate(policy("a", "{}", ", namespace: x"), { namespace: "y" });
  expect(other.error).toContain("resource namespace does not match client namespace. x != y");
  expect((await validate(policy("a", "{}", ", namespace: x"), { namespace: "x" })).code).toBe(0);
});

test("a short text that stands for billions of values, or is too deep, is refused", async () => {
  const levels = Array.from(
    { length: 9 },
    (_, i) => `a${i + 1}: &a${i + 1} [${Array.from({ length: 10 }, () => `*a${i}`).join()}]\n`,
  );
  await expect(validate(`a0: &a0 [x]\n${levels.join("")}`)).rejects.toThrow("its aliases stand for more than");
  const deep = `{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}`;
  await expect(validate(deep)).rejects.toThrow("values are nested deeper than 1000");
});

test("text that is no YAML is an error of the whole command", async () => {
  for (const text of ["a: [", "{", "a: 1\na: 2", "\u0000", "%"])
    await expect(validate(text)).rejects.toThrow("failed to execute command: Cannot read standard input:");
});

test("for programs: JSON, of malformed files too", async () => {
  const bad = await validate(policy("a", "{order: x}"), { output: "json" });
  expect([bad.code, bad.error, JSON.parse(bad.out)]).toEqual([
    1,
    "",
    {
      valid: false,
      resources: 1,
      errors: [
        {
          file: "standard input",
          line: 1,
          document: 1,
          item: "",
          object: "NetworkPolicy(default/a)",
          field: "spec.order",
          reason: "TypeInvalid",
          value: "x",
          detail: "must be of type number",
        },
      ],
      warnings: [],
    },
  ]);
  expect(JSON.parse((await validate("a: [", { output: "json" })).out)).toMatchObject({
    valid: false,
    resources: 0,
    errors: [{ line: 1, document: 0, object: null }],
  });
  expect(JSON.parse((await validate(policy("a", "{}"), { output: "json" })).out)).toEqual({
    valid: true,
    resources: 1,
    errors: [],
    warnings: [],
  });
});

test("settings without effect are warnings", async () => {
  const pool =
    "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0.0/16, natOutgoing: true}}";
  const result = await validate(pool);
  expect(result).toMatchObject({ code: 0, out: "Successfully validated 1 'IPPool' resource(s)\n" });
  expect(result.error).toStartWith(
    "warning: standard input:1 (document 1): IPPool(p): spec.natOutgoing: true has no effect",
  );
});

test("the directions of a policy are filled in by presence", () => {
  const types = (word: string, spec: object): unknown => {
    const kind = kindOfWord(word);
    if (kind === undefined) throw new Error(word);
    const result = completed(kind, { metadata: { name: "x" }, spec: { ...spec } })["spec"] as Record<string, unknown>;
    return result["types"] ?? result["policyTypes"];
  };
  expect(types("np", {})).toEqual(["Ingress"]);
  expect(types("np", { egress: [] })).toEqual(["Egress"]);
  expect(types("gnp", { egress: [], ingress: [] })).toEqual(["Ingress", "Egress"]);
  expect(types("snp", { types: ["Egress"], ingress: [] })).toEqual(["Egress"]);
  expect(types("sgnp", { stagedAction: "Delete" })).toBeUndefined();
  expect(types("sknp", { egress: [] })).toEqual(["Ingress", "Egress"]);
  expect(types("tier", {})).toBeUndefined();
});

test("a WorkloadEndpoint needs no name: it follows from the spec; another one is refused", async () => {
  const machine = (metadata: string, workload = "db-1"): string =>
    `{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: shop${metadata}}, spec: {node: n1, orchestrator: kvm, workload: "${workload}", endpoint: eth0, interfaceName: tap0}}`;
  for (const metadata of ["", ", name: n1-kvm-db--1-eth0"])
    expect((await validate(machine(metadata))).out).toBe("Successfully validated 1 'WorkloadEndpoint' resource(s)\n");
  expect((await validate(machine(", name: db"))).error).toContain("NODE-ORCHESTRATOR-WORKLOAD-ENDPOINT");
  expect((await validate(machine("", ""))).error).toContain("metadata.name: Required value: the object needs a name");
});
