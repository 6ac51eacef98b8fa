/** Admission over HTTPS answers as the validators do, in the words of an API server. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { POLICY_CASES } from "../../test/kinds/policies.ts";
import { RULE_CASES } from "../../test/kinds/rules.ts";
import { SETTINGS_CASES } from "../../test/kinds/settings.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { StoreError } from "../datastore/store.ts";
import { openHost } from "../host/bun/host.ts";
import { KINDS } from "../model/kind.ts";
import { formatFieldError } from "../model/schema/field-error.ts";
import { VALIDATORS } from "../model/kinds/validation/validators.ts";
import { review } from "./review.ts";
import { serveReviews, webhookConfiguration } from "./webhooks.ts";

const directory = mkdtempSync(join(tmpdir(), "calico-webhooks-"));
const [certFile, keyFile] = [join(directory, "tls.crt"), join(directory, "tls.key")];
const stop = new AbortController();
let url = "";
let ca = "";
let served: Promise<void>;
const store = new MemoryStore();

beforeAll(async () => {
  const made = Bun.spawnSync([
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-keyout",
    keyFile,
    "-out",
    certFile,
    "-days",
    "1",
    "-subj",
    "/CN=webhooks",
    "-addext",
    "subjectAltName=IP:127.0.0.1",
  ]);
  expect(made.exitCode).toBe(0);
  ca = await Bun.file(certFile).text();
  const host = openHost();
  const listening = Promise.withResolvers<number>();
  served = serveReviews({
    ...host,
    address: { host: "127.0.0.1", port: 0 },
    store,
    certFile,
    keyFile,
    report: (_message, fields) => typeof fields["port"] === "number" && listening.resolve(fields["port"]),
    signal: stop.signal,
  });
  url = `https://127.0.0.1:${await listening.promise}`;
});

afterAll(async () => {
  stop.abort();
  await served;
  rmSync(directory, { recursive: true });
});

function post(body: string): Promise<Response> {
  return fetch(`${url}/admission`, { method: "POST", body, tls: { ca } });
}

interface Answer {
  readonly response: {
    readonly uid: string;
    readonly allowed: boolean;
    readonly warnings?: readonly string[];
    readonly status?: {
      readonly code: number;
      readonly message: string;
      readonly details: { readonly causes: readonly object[] };
    };
  };
}

async function ask(
  kind: keyof typeof VALIDATORS,
  object: unknown,
  operation = "CREATE",
  name = "x",
): Promise<Answer["response"]> {
  const [group = "", version] = KINDS[kind].apiVersion.split("/");
  const request = { uid: "u-1", operation, name, kind: { group, version, kind: KINDS[kind].apiKind }, object };
  const answer = await post(JSON.stringify({ apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", request }));
  expect(answer.status).toBe(200);
  return ((await answer.json()) as Answer).response;
}

test("every case has the validator's answer", async () => {
  let refused = 0;
  for (const { kind, object } of [...RULE_CASES, ...POLICY_CASES, ...SETTINGS_CASES]) {
    const sent: unknown = JSON.parse(JSON.stringify(object));
    if (typeof sent !== "object" || sent === null) continue;
    const errors = VALIDATORS[kind](sent);
    const { uid, allowed, status } = await ask(kind, sent);
    expect([uid, allowed]).toEqual(["u-1", errors.length === 0]);
    for (const error of errors) expect(status?.message).toContain(formatFieldError(error));
    refused += errors.length === 0 ? 0 : 1;
  }
  expect(refused).toBeGreaterThan(150);
});

test("a refusal reads as an API server's", async () => {
  const { status } = await ask("GlobalNetworkPolicy", {
    apiVersion: "projectcalico.org/v3",
    kind: "GlobalNetworkPolicy",
    metadata: { name: "x" },
    spec: { selector: "app = 'x'" },
  });
  expect(status?.code).toBe(422);
  expect(status?.message).toStartWith(
    'GlobalNetworkPolicy.projectcalico.org "x" is invalid: spec.selector: Invalid value: "app = \'x\'": at character 5',
  );
  expect(status?.details.causes).toHaveLength(1);
});

test("a tier that is built in or has policies is not deleted", async () => {
  const forbidden = async (name: string): Promise<string | undefined> => {
    const { allowed, status } = await ask("Tier", null, "DELETE", name);
    expect([allowed, status?.code]).toEqual(status === undefined ? [true, undefined] : [false, 403]);
    return status?.message;
  };
  expect(await forbidden("kube-baseline")).toBe(
    'tiers.projectcalico.org "kube-baseline" is forbidden: this tier is built in and may not be deleted',
  );
  expect(await forbidden("security")).toBeUndefined();
  const key = { kind: "NetworkPolicy", namespace: "prod", name: "web" } as const;
  await store.create("NetworkPolicy", {
    apiVersion: "projectcalico.org/v3",
    kind: "NetworkPolicy",
    metadata: { namespace: key.namespace, name: key.name },
    spec: { tier: "security" },
  });
  expect(await forbidden("security")).toBe(
    'tiers.projectcalico.org "security" is forbidden: this tier has policies, among them NetworkPolicy prod/web: delete them or move them to another tier first',
  );
  expect(await forbidden("security-2")).toBeUndefined();
  await store.delete(key);
  expect(await forbidden("security")).toBeUndefined();
});

test("a tier is not deleted while its policies cannot be listed", async () => {
  const pages = (): never => {
    throw new StoreError("unavailable", "NetworkPolicy", undefined, "Cannot list NetworkPolicy: connection refused");
  };
  const request = { uid: "u", operation: "DELETE", name: "x", kind: { kind: "Tier" }, object: null };
  const reviewed = await review({ kind: "AdmissionReview", request }, { pages, get: (key) => store.get(key) });
  expect(JSON.stringify(reviewed)).toContain("cannot tell whether this tier has policies: Cannot list NetworkPolicy");
});

test("a policy in a tier that is not there is accepted with a warning", async () => {
  const warned = async (kind: "GlobalNetworkPolicy" | "StagedNetworkPolicy", tier?: string): Promise<unknown> => {
    const namespace = kind === "StagedNetworkPolicy" ? "prod" : undefined;
    const name = tier === undefined ? "web" : `${tier}.web`;
    const { allowed, warnings } = await ask(kind, {
      apiVersion: "projectcalico.org/v3",
      kind,
      metadata: { name, namespace },
      spec: { tier },
    });
    return allowed && warnings;
  };
  const words =
    'spec.tier: "absent" does not exist: until it does, the policy comes after all other tiers, and denies what it does not allow';
  expect(await warned("GlobalNetworkPolicy", "absent")).toEqual([words]);
  expect(await warned("StagedNetworkPolicy", "absent")).toEqual([words]);
  for (const tier of [undefined, "default", "kube-admin"])
    expect(await warned("GlobalNetworkPolicy", tier)).toBeUndefined();
  const [apiVersion, metadata] = ["projectcalico.org/v3", { name: "absent" }];
  await store.create("Tier", { apiVersion, kind: "Tier", metadata, spec: {} });
  expect(await warned("GlobalNetworkPolicy", "absent")).toBeUndefined();
  await store.delete({ kind: "Tier", namespace: undefined, name: "absent" });
});

test("a tier that cannot be looked up is told as such", async () => {
  const get = (): never => {
    throw new StoreError("unavailable", "Tier", undefined, "Cannot read Tier x: connection refused");
  };
  const object = { metadata: { name: "x.web" }, spec: { tier: "x" } };
  const kind = { group: "projectcalico.org", kind: "GlobalNetworkPolicy" };
  const request = { uid: "u", operation: "CREATE", name: "x.web", kind, object };
  const reviewed = await review({ kind: "AdmissionReview", request }, { pages: (each) => store.pages(each), get });
  expect(JSON.stringify(reviewed)).toContain('cannot tell whether \\"x\\" exists: Cannot read Tier x');
});

test("other deletions and other kinds are allowed", async () => {
  expect((await ask("GlobalNetworkPolicy", null, "DELETE")).allowed).toBe(true);
  const request = { uid: "u", operation: "CREATE", kind: { group: "", version: "v1", kind: "Pod" }, object: {} };
  const answer = await post(JSON.stringify({ kind: "AdmissionReview", request }));
  expect(((await answer.json()) as Answer).response.allowed).toBe(true);
});

test.each([
  "",
  "{",
  "[]",
  "null",
  '{"kind":"Pod"}',
  '{"kind":"AdmissionReview"}',
  '{"kind":"AdmissionReview","request":{"uid":5}}',
])("garbage is refused: %s", async (body) => {
  expect((await post(body)).status).toBe(400);
});

test("what is no certificate is refused by the names of its files", async () => {
  const options = { ...openHost(), store, address: { host: "127.0.0.1", port: 0 }, certFile: keyFile, keyFile };
  const running = serveReviews({ ...options, report: () => {}, signal: stop.signal });
  expect(await running.catch((error: Error) => error.message)).toStartWith(
    `${keyFile} and ${keyFile} are no certificate`,
  );
});

test("a readiness, and nothing else", async () => {
  expect((await fetch(`${url}/readiness`, { tls: { ca } })).status).toBe(200);
  expect((await fetch(`${url}/other`, { tls: { ca } })).status).toBe(404);
  expect((await fetch(`${url}/admission`, { tls: { ca } })).status).toBe(404);
});

test("the configuration names every kind with a validator, once", () => {
  const [webhook] = (webhookConfiguration(url, ca) as { webhooks: { rules: { resources: string[] }[] }[] }).webhooks;
  const resources = webhook?.rules.flatMap((rule) => rule.resources) ?? [];
  expect(resources.length).toBe(Object.keys(VALIDATORS).length);
});
