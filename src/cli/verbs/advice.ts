/**
 * Advice: what is valid in an object and will hardly do what its author means: settings and rules without effect, a port's name that looks like a range,
 * `http`, which no node enforces, a range with host bits. Each names file, object, field and value.
 */
import type { Kind } from "../../model/kind.ts";
import { formatWithoutEffect, settingsWithoutEffect } from "../../model/kinds/without-effect.ts";
import type { ObjectMeta } from "../../model/resource.ts";
import { arrayAt, fieldAt, type JsonObject, type JsonValue, objectAt, stringAt } from "../../model/schema/json.ts";
import { warningsOfLegacyPrefix } from "../../net/legacy-prefix.ts";
import { type Given, placeText } from "./given.ts";
import { objectText } from "./kinds.ts";

const POLICIES: ReadonlySet<Kind> = new Set([
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
]);
const KUBERNETES_POLICIES: ReadonlySet<Kind> = new Set(["KubernetesNetworkPolicy", "StagedKubernetesNetworkPolicy"]);
const SETTINGS: ReadonlySet<Kind> = new Set([
  "IPPool",
  "IPAMConfiguration",
  "KubeControllersConfiguration",
  "FelixConfiguration",
]);
const DIRECTIONS = ["ingress", "egress"] as const;

/** Of a valid object or not. */
export function adviceOf({ place, kind, namespace, name, object }: Given): string[] {
  const isAdvised = [POLICIES, KUBERNETES_POLICIES, SETTINGS].some((kinds) => kinds.has(kind.kind));
  if (!isAdvised) return [];
  const metadata = objectAt(object["metadata"]) as unknown as ObjectMeta;
  const spec = objectAt(object["spec"]);
  return [
    ...settingsWithoutEffect(kind.kind, { metadata, spec }).map(formatWithoutEffect),
    ...(POLICIES.has(kind.kind) ? ruleAdvice(spec) : []),
    ...(KUBERNETES_POLICIES.has(kind.kind) ? blockAdvice(spec) : []),
  ].map((text) => `${placeText(place)}: ${objectText(kind, namespace, name)}: ${text}`);
}

/** Of Calico's policies. */
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
