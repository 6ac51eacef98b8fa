import { expect, test } from "bun:test";
import { type PolicyType, policyTypesOf } from "./network-policy.ts";

const CASES: readonly (readonly [string, Parameters<typeof policyTypesOf>[0], readonly PolicyType[]])[] = [
  ["nothing", {}, ["Ingress"]],
  ["ingress", { ingress: [] }, ["Ingress"]],
  ["egress, an empty list too", { egress: [] }, ["Egress"]],
  ["both", { ingress: [], egress: [] }, ["Ingress", "Egress"]],
  ["null is absent", { ingress: null, egress: [] }, ["Egress"]],
  ["types as given", { types: ["Egress"], ingress: [] }, ["Egress"]],
  ["empty types are absent", { types: [], egress: [] }, ["Egress"]],
];

test.each(CASES)("the directions of a policy: %s", (_, spec, types) => {
  expect(policyTypesOf(spec)).toEqual(types);
});
