/**
 * Advice: what is valid in the rules of a policy and will hardly do what its author means: a port's name that looks like a range, `http`, which no node
 * enforces, a range with host bits. Each names field and value.
 */
import { warningsOfLegacyPrefix } from "../../net/legacy-prefix.ts";
import type { Kind } from "../kind.ts";
import { arrayAt, fieldAt, type JsonObject, type JsonValue, objectAt, stringAt } from "../schema/json.ts";

const POLICIES: ReadonlySet<Kind> = new Set([
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
]);
const KUBERNETES_POLICIES: ReadonlySet<Kind> = new Set(["KubernetesNetworkPolicy", "StagedKubernetesNetworkPolicy"]);
const DIRECTIONS = ["ingress", "egress"] as const;

/** Of an object of a kind of policy, valid or not; of other kinds nothing. */
export function policyAdvice(kind: Kind, object: JsonObject): string[] {
  const spec = objectAt(object["spec"]);
  return [...(POLICIES.has(kind) ? ruleAdvice(spec) : []), ...(KUBERNETES_POLICIES.has(kind) ? blockAdvice(spec) : [])];
}

function ruleAdvice(spec: JsonObject): string[] {
  return DIRECTIONS.flatMap((direction) =>
    arrayAt(spec[direction]).flatMap((rule, i) => {
      const at = `spec.${direction}[${i}]`;
      const ports = ["source", "destination"].flatMap((side) =>
        ["ports", "notPorts"].flatMap((field) =>
          portAdvice(`${at}.${side}.${field}`, arrayAt(fieldAt(rule, side, field))),
        ),
      );
      const http = fieldAt(rule, "http");
      return http === undefined
        ? ports
        : [
            ...ports,
            `${at}.http: ${JSON.stringify(http)} is not enforced: the rule applies to all that its other fields match`,
          ];
    }),
  );
}

function portAdvice(field: string, ports: readonly JsonValue[]): string[] {
  return ports.flatMap((port, i) => {
    const [, from, to] = /^(\d+)-(\d+)$/.exec(typeof port === "string" ? port : "") ?? [];
    return from === undefined
      ? []
      : [`${field}[${i}]: ${JSON.stringify(port)} is the name of a port; a range is ${from}:${to}`];
  });
}

/** Of Kubernetes' policies, as their API server says it. */
function blockAdvice(spec: JsonObject): string[] {
  return DIRECTIONS.flatMap((direction) =>
    arrayAt(spec[direction]).flatMap((rule, i) => {
      const peers = direction === "ingress" ? "from" : "to";
      return arrayAt(fieldAt(rule, peers)).flatMap((peer, k) => {
        const at = `spec.${direction}[${i}].${peers}[${k}].ipBlock`;
        const block = fieldAt(peer, "ipBlock");
        return [
          ...warningsOfLegacyPrefix(`${at}.cidr`, stringAt(fieldAt(block, "cidr"))),
          ...arrayAt(fieldAt(block, "except")).flatMap((each, e) =>
            warningsOfLegacyPrefix(`${at}.except[${e}]`, stringAt(each)),
          ),
        ];
      });
    }),
  );
}
