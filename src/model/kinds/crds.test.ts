import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { load } from "js-yaml";
import type { Infer } from "../schema/schema.ts";
import { CRDS } from "./crds.ts";
import type { BLOCK_AFFINITY_SCHEMA, IPAM_BLOCK_SCHEMA, IPAM_HANDLE_SCHEMA } from "./ipam.ts";
import type { BlockAffinitySpec, IPAMBlockSpec, IPAMHandleSpec } from "./ipam.ts";
import type { IP_POOL_SCHEMA, IPPoolSpec } from "./ip-pool.ts";

test.each(CRDS.map((definition) => [definition.metadata.name, definition] as const))(
  "manifests/crds is generated from the constant: %s",
  (_, { spec, ...definition }) => {
    const file = `${spec.group}_${spec.names.plural}.yaml`;
    const path = new URL(`../../../manifests/crds/${file}`, import.meta.url).pathname;
    expect(load(readFileSync(path, "utf8"))).toEqual(JSON.parse(JSON.stringify({ ...definition, spec })));
  },
);

/** Compiles only while what the product writes fits the schemas. */
type Fits<Written, Allowed> = Written extends Allowed ? true : false;

test("what the product writes fits the schemas", () => {
  const pool: Fits<IPPoolSpec, Infer<(typeof IP_POOL_SCHEMA)["properties"]["spec"]>> = true;
  const block: Fits<IPAMBlockSpec, Infer<(typeof IPAM_BLOCK_SCHEMA)["properties"]["spec"]>> = true;
  const affinity: Fits<
    Omit<BlockAffinitySpec, "deleted" | "state">,
    Omit<Infer<(typeof BLOCK_AFFINITY_SCHEMA)["properties"]["spec"]>, "deleted" | "state">
  > = true;
  const handle: Fits<IPAMHandleSpec, Infer<(typeof IPAM_HANDLE_SCHEMA)["properties"]["spec"]>> = true;
  expect([pool, block, affinity, handle]).toEqual([true, true, true, true]);
});

/** Words by which kubectl finds kinds of Kubernetes itself that have to do with these. */
const TAKEN = ["netpol", "np", "networkpolicy", "networkpolicies", "svc", "no", "ns", "po", "sa", "ep", "crd"];

test("short names belong to one kind", () => {
  const words = CRDS.flatMap(({ spec: { names } }) => names.shortNames ?? []);
  expect(new Set([...words, ...TAKEN]).size).toBe(words.length + TAKEN.length);
  const long = CRDS.flatMap(({ spec: { names } }) => [names.plural, names.singular]);
  expect(words.filter((word) => long.includes(word))).toEqual([]);
});
