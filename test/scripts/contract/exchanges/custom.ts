/** custom: a CustomResourceDefinition and its objects, and those of the product. */
import { readdirSync, readFileSync } from "node:fs";
import { load } from "js-yaml";
import type { Json } from "../normalise.ts";
import { at, type Recorder, textAt } from "../recorder.ts";
import { APPLY, DEFINITIONS, JSON_PATCH, MERGE, type Places, STRATEGIC, TABLE } from "./places.ts";

const MANIFESTS = new URL("../../../../manifests/crds/", import.meta.url).pathname;
const PRODUCT = "projectcalico.org/v3";

interface Definition {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly group: string;
    readonly names: { readonly plural: string };
    readonly versions: readonly { readonly name: string }[];
  };
}

export async function customKinds(recorder: Recorder, places: Places): Promise<void> {
  await definitions(recorder, places);
  await objects(recorder, places);
  await refusedObjects(recorder, places);
  await productKinds(recorder, places);
  await ending(recorder, places);
}

interface Shape {
  readonly plural: string;
  readonly kind: string;
  readonly spec: object;
  readonly version?: object;
  readonly definition?: object;
}

function definition(places: Places, shape: Shape): object {
  const { plural, kind, spec } = shape;
  const schema = {
    openAPIV3Schema: {
      type: "object",
      properties: {
        spec: { type: "object", ...spec },
        status: { type: "object", properties: { ready: { type: "boolean" }, size: { type: "integer" } } },
      },
    },
  };
  const columns = [
    { name: "Range", type: "string", jsonPath: ".spec.cidr" },
    { name: "Size", type: "integer", jsonPath: ".spec.size", priority: 1, description: "how large" },
    { name: "Since", type: "date", jsonPath: ".metadata.creationTimestamp" },
  ];
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${places.group}` },
    spec: {
      group: places.group,
      names: { plural, kind },
      scope: "Namespaced",
      versions: [
        {
          name: "v1",
          served: true,
          storage: true,
          subresources: { status: {} },
          schema,
          additionalPrinterColumns: columns,
          ...shape.version,
        },
      ],
      ...shape.definition,
    },
  };
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
    map: {
      type: "array",
      items: {
        type: "object",
        required: ["key"],
        properties: { key: { type: "string" }, value: { type: "string", default: "none" } },
      },
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": ["key"],
    },
    maybe: { type: "string", nullable: true },
    word: { type: "string", pattern: "^[a-z]+$", minLength: 2 },
    ratio: { type: "number", exclusiveMinimum: true, minimum: 0 },
    nested: { type: "object", default: {}, properties: { depth: { type: "integer", default: 1 } } },
    moment: { type: "string", format: "date-time" },
    address: { type: "string", format: "ipv4" },
    address6: { type: "string", format: "ipv6" },
    few: { type: "array", minItems: 1, items: { type: "string" } },
    either: {
      type: "object",
      properties: { a: { type: "string" }, b: { type: "string" } },
      oneOf: [{ required: ["a"] }, { required: ["b"] }],
    },
  },
};
const WIDGET: Shape = { plural: "widgets", kind: "Widget", spec: SPEC };

async function definitions(recorder: Recorder, places: Places): Promise<void> {
  const path = places.all("customresourcedefinitions", DEFINITIONS);
  await recorder.request("create a definition", "POST", path, {
    body: definition(places, WIDGET),
    select: withoutConditions,
  });
  await recorder.until(`${path}/widgets.${places.group}`, 200);
  await recorder.until(places.in("widgets", `${places.group}/v1`), 200);
  await recorder.request("the definition is established", "GET", `${path}/widgets.${places.group}`);
  const tried = async (
    name: string,
    shape: Partial<Shape>,
    edit: (body: object) => object = (body) => body,
  ): Promise<unknown> =>
    recorder.request(`definition refused: ${name}`, "POST", `${path}?dryRun=All`, {
      body: edit(definition(places, { plural: "gadgets", kind: "Gadget", spec: {}, ...shape })),
      select: withoutConditions,
    });
  const edited =
    (change: object) =>
    (body: object): object => ({ ...body, ...change });
  await tried("field without type", { spec: { properties: { a: {} } } });
  await tried("name unlike plural and group", {}, edited({ metadata: { name: `gizmos.${places.group}` } }));
  await tried("default outside of its bounds", {
    spec: { properties: { a: { type: "integer", minimum: 5, default: 1 } } },
  });
  await tried("no stored version", { version: { storage: false } });
  await tried("no schema", { version: { schema: null } });
  await tried("unknown scope", { definition: { scope: "Worldwide" } });
  await tried("bad plural", { definition: { names: { plural: "Gadgets", kind: "Gadget" } } });
  await tried("pattern that is none", { spec: { properties: { a: { type: "string", pattern: "(" } } } });
  await tried("column without path", { version: { additionalPrinterColumns: [{ name: "A", type: "string" }] } });
  await tried("column of an unknown type", {
    version: { additionalPrinterColumns: [{ name: "A", type: "text", jsonPath: ".a" }] },
  });
  await tried("additional properties beside properties", {
    spec: { properties: { a: { type: "string" } }, additionalProperties: { type: "string" } },
  });
  await tried("map without keys", {
    spec: { properties: { a: { type: "array", items: { type: "object" }, "x-kubernetes-list-type": "map" } } },
  });
  await tried("uniqueItems", {
    spec: { properties: { a: { type: "array", items: { type: "string" }, uniqueItems: true } } },
  });
  await tried("no spec", {}, edited({ spec: null }));
}

/** Conditions appear one after the other. */
function withoutConditions(body: unknown): ReturnType<typeof JSON.parse> {
  const copy = JSON.parse(JSON.stringify(body)) as { status?: unknown };
  if (typeof copy.status === "object") delete copy.status;
  return copy;
}

function widget(places: Places, name: string, spec: unknown, rest: object = {}): object {
  return { apiVersion: `${places.group}/v1`, kind: "Widget", metadata: { name }, spec, ...rest };
}

async function objects(recorder: Recorder, places: Places): Promise<void> {
  const path = places.in("widgets", `${places.group}/v1`);
  await recorder.request("create a custom object", "POST", path, {
    body: widget(
      places,
      "one",
      { cidr: "10.0.0.0/8", ports: [80, "http"], free: { any: { thing: 1 } }, map: [{ key: "a" }], maybe: null },
      { status: { ready: true } },
    ),
  });
  await recorder.request("it exists", "POST", path, { body: widget(places, "one", { cidr: "10.0.0.0/8" }) });
  await recorder.request("custom table", "GET", `${path}/one`, { accept: TABLE });
  await recorder.request("custom list", "GET", path);
  // Kubernetes keeps the history of a kind from its first moment on; that of built-in kinds reaches back to 1 on a young server.
  await recorder.watch("a watch before the kept history", `${path}?watch=true&resourceVersion=1&timeoutSeconds=5`);
  await recorder.request("custom object that does not exist", "GET", `${path}/ghost`);
  await recorder.request("subresource that the definition lacks", "GET", `${path}/one/scale`);
  await recorder.request("status is not written with the object", "PATCH", `${path}/one`, {
    type: MERGE,
    body: { status: { ready: false }, spec: { mode: "On" } },
  });
  await recorder.request("the status alone is written", "PATCH", `${path}/one/status`, {
    type: MERGE,
    body: { status: { ready: true, size: 4 }, spec: { size: 5 }, metadata: { labels: { a: "b" } } },
  });
  await recorder.request("a status of a wrong type", "PATCH", `${path}/one/status`, {
    type: MERGE,
    body: { status: { ready: "yes" } },
  });
  await recorder.request("a label leaves the generation", "PATCH", `${path}/one`, {
    type: MERGE,
    body: { metadata: { labels: { c: "d" } } },
  });
  await recorder.request("a null for a default", "PATCH", `${path}/one`, {
    type: MERGE,
    body: { spec: { size: null, nested: null } },
  });
  await recorder.request("strategic patch of a custom object", "PATCH", `${path}/one`, {
    type: STRATEGIC,
    body: { spec: { size: 4 } },
  });
  await recorder.request("JSON patch of a custom object", "PATCH", `${path}/one`, {
    type: JSON_PATCH,
    body: [
      { op: "add", path: "/spec/ports/-", value: 9 },
      { op: "remove", path: "/spec/ports/0" },
    ],
  });
  await recorder.request("plain text to a custom kind", "POST", path, { type: "text/plain", body: "a" });
  await recorder.request("custom object in a form that is not served", "GET", `${path}/one`, {
    accept: "application/xml",
  });
  await recorder.request("custom object in protobuf", "GET", `${path}/one`, {
    accept: "application/vnd.kubernetes.protobuf",
  });
  await recorder.request("replace a custom object without a version", "PUT", `${path}/one`, {
    body: widget(places, "one", { cidr: "::/0" }),
  });
  await recorder.request("replace a custom object with a stale version", "PUT", `${path}/one`, {
    body: widget(places, "one", { cidr: "::/0" }, { metadata: { name: "one", resourceVersion: "1" } }),
  });
  const now = await recorder.send("GET", `${path}/one`);
  await recorder.request("replace a custom object", "PUT", `${path}/one`, {
    body: { ...now.object, spec: { cidr: "fd00::/8" } },
    saying: "as it was answered, the spec replaced by a cidr",
  });
  await recorder.request("apply a custom object", "PATCH", `${path}/two?fieldManager=one`, {
    type: APPLY,
    body: widget(places, "two", { cidr: "::/0" }),
  });
  await recorder.request("field selector of a custom kind", "GET", `${path}?fieldSelector=spec.size%3D3`);
  await recorder.request("custom object of another group", "POST", path, {
    body: { ...widget(places, "x", {}), apiVersion: "other.example.com/v1" },
  });
  await recorder.request("custom object of another kind", "POST", path, {
    body: { ...widget(places, "x", {}), kind: "Gadget" },
  });
  await recorder.request("custom object without kind", "POST", path, { body: { metadata: { name: "x" } } });
  await recorder.request(
    "foreground deletion of a custom object",
    "DELETE",
    `${path}/one?dryRun=All&propagationPolicy=Foreground`,
  );
  await recorder.request("delete a custom object", "DELETE", `${path}/one`);
}

async function refusedObjects(recorder: Recorder, places: Places): Promise<void> {
  const path = `${places.in("widgets", `${places.group}/v1`)}?dryRun=All`;
  const cidr = "::/0";
  const bad: Readonly<Record<string, unknown>> = {
    format: { cidr: "10.0.0.0" },
    required: {},
    maximum: { cidr, size: 10 },
    minimum: { cidr, size: 0 },
    enum: { cidr, mode: "Maybe" },
    type: { cidr, size: "x" },
    "a fraction for an integer": { cidr, size: 1.5 },
    "too many items": { cidr, ports: [1, 2, 3] },
    "int or string": { cidr, ports: [true] },
    "additional properties": { cidr, labels: { a: "long" } },
    "additional properties of a wrong type": { cidr, labels: { a: 1 } },
    set: { cidr, set: ["a", "a"] },
    map: { cidr, map: [{ key: "a" }, { key: "a" }] },
    "map without key": { cidr, map: [{ value: "a" }] },
    pattern: { cidr, word: "UPPER" },
    "too short": { cidr, word: "a" },
    "exclusive minimum": { cidr, ratio: 0 },
    "a null that is not allowed": { cidr, mode: null },
    "null items": { cidr, ports: [null] },
    moment: { cidr, moment: "yesterday" },
    "IPv4 address": { cidr, address: "::1" },
    "IPv6 address": { cidr, address6: "10.0.0.1" },
    "too few items": { cidr, few: [] },
    "neither of two": { cidr, either: {} },
    "both of two": { cidr, either: { a: "x", b: "y" } },
    "spec that is a text": "text",
    "spec that is null": null,
  };
  for (const [name, spec] of Object.entries(bad))
    await recorder.request(`custom object refused: ${name}`, "POST", path, { body: widget(places, "bad", spec) });
  await recorder.request("custom object refused: several errors", "POST", path, {
    body: widget(places, "bad", { cidr: "x", size: 10, mode: "Maybe", word: "A" }),
    select: causesInOrder,
  });
  await recorder.request("custom object refused: no spec at all", "POST", path, {
    body: widget(places, "bad", undefined),
  });
  await recorder.request("custom object refused: name", "POST", path, { body: widget(places, "E_1", { cidr }) });
  await recorder.request("custom object refused: name that is too long", "POST", path, {
    body: widget(places, "x".repeat(254), { cidr }),
  });
  await recorder.request("custom object refused: labels of a wrong type", "POST", path, {
    body: widget(places, "bad", { cidr }, { metadata: { name: "bad", labels: { a: 1 } } }),
  });
  for (const mode of ["Strict", "Warn", "Ignore"])
    await recorder.request(`unknown fields, custom kind, ${mode}`, "POST", `${path}&fieldValidation=${mode}`, {
      body: widget(places, "odd", { cidr, colour: "red", nested: { deep: 1 } }, { extra: 1 }),
    });
  await recorder.request("unknown fields, custom kind, by default", "POST", path, {
    body: widget(places, "x", { cidr, colour: "red" }),
  });
  await recorder.request("fields given twice, custom kind, Strict", "POST", `${path}&fieldValidation=Strict`, {
    body: `{"apiVersion":"${places.group}/v1","kind":"Widget","metadata":{"name":"x"},"spec":{"cidr":"::/0","cidr":"::/1"}}`,
  });
  await recorder.send("POST", places.in("widgets", `${places.group}/v1`), { body: widget(places, "three", { cidr }) });
  const three = `${places.in("widgets", `${places.group}/v1`)}/three`;
  for (const mode of ["Strict", "Warn"])
    await recorder.request(
      `unknown field in a merge patch, custom kind, ${mode}`,
      "PATCH",
      `${three}?dryRun=All&fieldValidation=${mode}`,
      { type: MERGE, body: { spec: { colour: "red" } } },
    );
  await recorder.request("a bad value in a merge patch, custom kind", "PATCH", `${three}?dryRun=All`, {
    type: MERGE,
    body: { spec: { size: 10 } },
  });
}

/** Kubernetes tells errors in the random order of its maps. */
function causesInOrder(body: Json): Json {
  const causes = at(body, "details", "causes");
  return Array.isArray(causes)
    ? causes
        .map((cause: unknown) => `${textAt(cause, "field")}: ${textAt(cause, "reason")}: ${textAt(cause, "message")}`)
        .sort()
    : body;
}

/** Objects of the product, as tables, and what its definitions fill in; as dry runs. */
async function productKinds(recorder: Recorder, places: Places): Promise<void> {
  const path = places.all("customresourcedefinitions", DEFINITIONS);
  for (const file of readdirSync(MANIFESTS).sort()) {
    const body = load(readFileSync(`${MANIFESTS}${file}`, "utf8")) as Definition;
    if ((await recorder.send("GET", `${path}/${body.metadata.name}`)).status === 404)
      await recorder.send("POST", path, { body });
    const { group, names, versions } = body.spec;
    await recorder.until(places.all(names.plural, `${group}/${versions[0]?.name}`), 200);
    await recorder.request(`product: names of ${body.metadata.name}`, "GET", `${path}/${body.metadata.name}`, {
      select: (answered) =>
        JSON.parse(
          JSON.stringify({
            names: at(answered, "status", "acceptedNames"),
            stored: at(answered, "status", "storedVersions"),
            scope: at(answered, "spec", "scope"),
          }),
        ),
    });
  }
  const object = (kind: string, name: string, spec: object): object => ({
    apiVersion: PRODUCT,
    kind,
    metadata: { name },
    spec,
  });
  const shown: readonly (readonly [string, string, object])[] = [
    ["pool, IPv4", "ippools", object("IPPool", "contract", { cidr: "10.99.0.0/16" })],
    [
      "pool, IPv6",
      "ippools",
      object("IPPool", "contract", { cidr: "fd00:99::/48", blockSize: 122, nodeSelector: "all()" }),
    ],
    [
      "block affinity",
      "blockaffinities",
      object("BlockAffinity", "contract", {
        cidr: "10.99.0.0/26",
        node: "n",
        state: "confirmed",
        type: "host",
        deleted: false,
      }),
    ],
    ["handle", "ipamhandles", object("IPAMHandle", "contract", { handleID: "h", block: { "10.99.0.0/26": 1 } })],
    [
      "block",
      "ipamblocks",
      object("IPAMBlock", "contract", {
        cidr: "10.99.0.0/30",
        affinity: "host:n",
        allocations: [0, null, null, null],
        unallocated: [1, 2, 3],
        attributes: [{ handle_id: "h", secondary: { pod: "p" } }],
        sequenceNumber: 1764116562,
        strictAffinity: false,
        deleted: false,
      }),
    ],
  ];
  for (const [name, plural, body] of shown) {
    await recorder.request(
      `product: ${name}`,
      "POST",
      `${places.all(plural, PRODUCT)}?dryRun=All&fieldValidation=Strict`,
      { body },
    );
    await recorder.request(`product table: ${name}`, "POST", `${places.all(plural, PRODUCT)}?dryRun=All`, {
      accept: TABLE,
      body,
    });
  }
  const pools = `${places.all("ippools", PRODUCT)}?dryRun=All&fieldValidation=Strict`;
  for (const [name, spec] of Object.entries({
    "no range": {},
    "bad range": { cidr: "10.99.0.0" },
    "unknown mode": { cidr: "10.99.0.0/16", assignmentMode: "Sometimes" },
    "unknown field": { cidr: "10.99.0.0/16", blocksize: 26 },
    "block size of a wrong type": { cidr: "10.99.0.0/16", blockSize: "26" },
    "host bits": { cidr: "10.99.0.1/16" },
    selector: { cidr: "10.99.0.0/16", nodeSelector: "rack ==" },
    "block size out of range": { cidr: "10.99.0.0/16", blockSize: 5 },
  })) {
    await recorder.request(`product: pool, ${name}`, "POST", pools, { body: object("IPPool", "contract", spec) });
  }
  const policies = `${places.all("globalnetworkpolicies", PRODUCT)}?dryRun=All&fieldValidation=Strict`;
  for (const [name, spec] of Object.entries({
    "the least": {},
    "a port without protocol": { egress: [{ action: "Allow", destination: { ports: [80] } }] },
    "a flag alone": { preDNAT: true },
    selector: { selector: "rack ==" },
    "host bits": { ingress: [{ action: "Deny", source: { nets: ["10.99.0.1/16"] } }] },
  })) {
    const body = object("GlobalNetworkPolicy", "contract", spec);
    await recorder.request(`product: policy, ${name}`, "POST", policies, { body });
  }
}

async function ending(recorder: Recorder, places: Places): Promise<void> {
  const path = `${places.all("customresourcedefinitions", DEFINITIONS)}/widgets.${places.group}`;
  await recorder.request("delete a definition", "DELETE", path, {
    select: (body) =>
      JSON.parse(JSON.stringify({ kind: at(body, "kind"), finalizers: at(body, "metadata", "finalizers") })),
  });
  await recorder.until(path, 404);
  await recorder.until(places.in("widgets", `${places.group}/v1`), 404);
  await recorder.request("then its kind is gone", "GET", places.in("widgets", `${places.group}/v1`));
}
