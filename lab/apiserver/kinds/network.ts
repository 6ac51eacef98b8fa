/** Network: NetworkPolicy and EndpointSlice. */
import { validateNetworkPolicy } from "../../../src/model/kubernetes/network-policy-validation.ts";
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { arrayAt, fieldAt, jsonEquals, objectAt, stringAt } from "../../../src/model/schema/json.ts";
import type { ApiObject } from "../object.ts";
import { familyOf, parseAddr } from "../../../src/net/addr.ts";
import { warningsOfLegacyPrefix } from "../../../src/net/legacy-prefix.ts";
import { builtIn } from "./built-in.ts";
import { column, formatLabelSelector } from "./columns.ts";

/** What policyTypes means when it is left out: Ingress, and Egress if there are egress rules. */
function fillPolicyTypes(policy: ApiObject): void {
  const spec = objectAt(policy["spec"]);
  policy["spec"] = spec;
  spec["podSelector"] ??= {};
  if (arrayAt(spec["policyTypes"]).length > 0) return;
  spec["policyTypes"] = arrayAt(spec["egress"]).length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
}

/** What Kubernetes says about ranges that it takes although they are not as they should be. */
function rangeWarnings(policy: ApiObject): string[] {
  const sides = [
    ["ingress", "from"],
    ["egress", "to"],
  ] as const;
  return sides.flatMap(([direction, side]) =>
    arrayAt(fieldAt(policy, "spec", direction)).flatMap((rule, r) =>
      arrayAt(fieldAt(rule, side)).flatMap((peer, p) => {
        const block = fieldAt(peer, "ipBlock");
        const at = `spec.${direction}[${r}].${side}[${p}].ipBlock`;
        const ranges = [
          [`${at}.cidr`, fieldAt(block, "cidr")] as const,
          ...arrayAt(fieldAt(block, "except")).map((entry, index) => [`${at}.except[${index}]`, entry] as const),
        ];
        return ranges.flatMap(([field, value]) => warningsOfLegacyPrefix(field, stringAt(value)));
      }),
    ),
  );
}

export const NETWORK_POLICY = builtIn({
  kind: "NetworkPolicy",
  plural: "networkpolicies",
  group: "networking.k8s.io",
  shape: "networking.v1.NetworkPolicy",
  namespaced: true,
  shortNames: ["netpol"],
  hasGeneration: true,
  middle: [
    column("Pod-Selector", "The pods that the policy applies to", (policy) => {
      const selector = objectAt(fieldAt(policy, "spec", "podSelector"));
      return formatLabelSelector(objectAt(selector["matchLabels"]), arrayAt(selector["matchExpressions"]));
    }),
  ],
  prepareCreate: fillPolicyTypes,
  prepareUpdate: fillPolicyTypes,
  validate: (policy) => validateNetworkPolicy(policy),
  warn: rangeWarnings,
});

function portsText(slice: ApiObject): string {
  const ports = arrayAt(slice["ports"]).map((entry) => fieldAt(entry, "port"));
  if (ports.length === 0) return "<unset>";
  return shorten(ports.map((port) => (port === undefined || port === null ? "*" : String(port))));
}

function endpointsText(slice: ApiObject): string {
  const addresses = arrayAt(slice["endpoints"]).flatMap((entry) => arrayAt(fieldAt(entry, "addresses")).map(stringAt));
  return addresses.length === 0 ? "<unset>" : shorten(addresses);
}

function shorten(texts: readonly string[]): string {
  return texts.length > 3 ? `${texts.slice(0, 3).join(",")} + ${texts.length - 3} more...` : texts.join(",");
}

function validateSlice(slice: ApiObject, current: ApiObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  if (stringAt(slice["addressType"]) === "")
    errors.push({ field: "addressType", reason: "Required", value: undefined, detail: "" });
  if (current !== undefined && !jsonEquals(current["addressType"], slice["addressType"]))
    errors.push({ field: "addressType", reason: "Invalid", value: slice["addressType"], detail: "field is immutable" });
  arrayAt(slice["endpoints"]).forEach((entry, index) => {
    for (const address of arrayAt(fieldAt(entry, "addresses"))) {
      const family = slice["addressType"];
      const parsed = parseAddr(stringAt(address));
      if (
        (family !== "IPv4" && family !== "IPv6") ||
        (parsed.ok && familyOf(parsed.value) === (family === "IPv4" ? 4 : 6))
      )
        continue;
      errors.push({
        field: `endpoints[${index}].addresses`,
        reason: "Invalid",
        value: address,
        detail: family === "IPv4" ? "must be an IPv4 address" : "must be an IPv6 address",
      });
    }
    if (arrayAt(fieldAt(entry, "addresses")).length === 0)
      errors.push({
        field: `endpoints[${index}].addresses`,
        reason: "Required",
        value: undefined,
        detail: "must contain at least 1 address",
      });
  });
  return errors;
}

export const ENDPOINT_SLICE = builtIn({
  kind: "EndpointSlice",
  plural: "endpointslices",
  group: "discovery.k8s.io",
  shape: "discovery.v1.EndpointSlice",
  namespaced: true,
  hasGeneration: true,
  middle: [
    column("AddressType", "Kind of the addresses", (slice) => stringAt(slice["addressType"])),
    column("Ports", "Ports of the endpoints", portsText),
    column("Endpoints", "Addresses", endpointsText),
  ],
  validate: validateSlice,
});
