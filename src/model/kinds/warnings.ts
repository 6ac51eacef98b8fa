/**
 * Warnings: ValidatingAdmissionPolicies that warn of settings without effect, for API servers that are not ours: what `manifests/warnings.yaml`
 * holds. One policy per kind, one rule per row of the table. Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
 */
import { KINDS, type Kind } from "../kind.ts";
import { type Asks, WITHOUT_EFFECT, type WithoutEffectRow } from "./without-effect.ts";

/** Without Pods: the CNI plugin reports theirs when it wires them. */
const WARNED: readonly Kind[] = [
  "IPPool",
  "IPAMConfiguration",
  "KubeControllersConfiguration",
  "Node",
  "FelixConfiguration",
  "NetworkPolicy",
  "GlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
  "KubernetesNetworkPolicy",
];

export const WARNING_POLICIES: readonly object[] = WARNED.flatMap((kind) => {
  const { apiVersion, plural } = KINDS[kind];
  const [group = "", version = ""] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  // Kubernetes has a kind of the same name.
  const name = `settings-without-effect.${kind === "KubernetesNetworkPolicy" ? "kubernetes-" : ""}${plural}.projectcalico.org`;
  const validations = WITHOUT_EFFECT.filter((row) => row.kind === kind).map((row) => ({
    expression: ruleOf(row),
    message: `${fieldOf(row)} has no effect: ${row.instead}`,
  }));
  return [
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingAdmissionPolicy",
      metadata: { name },
      spec: {
        failurePolicy: "Ignore",
        matchConstraints: {
          resourceRules: [
            { apiGroups: [group], apiVersions: [version], operations: ["CREATE", "UPDATE"], resources: [plural] },
          ],
        },
        validations,
      },
    },
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingAdmissionPolicyBinding",
      metadata: { name },
      spec: { policyName: name, validationActions: ["Warn"] },
    },
  ];
});

function fieldOf({ spec, annotation }: WithoutEffectRow): string {
  return spec === undefined ? `metadata.annotations[${annotation}]` : `spec.${spec.join(".")}`;
}

/** A CEL expression that is true when there is nothing to warn about. */
function ruleOf({ unless, when, without, ...row }: WithoutEffectRow): string {
  const rule = ruleOfRow(row);
  if (without !== undefined) {
    const list = `object.spec.${without.field}`;
    return `${rule} || !has(${list}) || size(${list}) == 0 || '${without.word}' in ${list}`;
  }
  if (when !== undefined) {
    const value = typeof when.is === "string" ? `'${when.is}'` : String(when.is);
    return `${rule} || !has(object.spec.${when.field}) || object.spec.${when.field} != ${value}`;
  }
  return unless === undefined
    ? rule
    : `${rule} || has(object.spec.${unless.field}) && object.spec.${unless.field} == '${unless.is}'`;
}

function ruleOfRow({ spec, annotation, asks }: WithoutEffectRow): string {
  if (spec === undefined)
    return `!has(object.metadata.annotations) || !('${annotation}' in object.metadata.annotations) || !(${conditionOf(asks, `object.metadata.annotations['${annotation}']`)})`;
  const paths = spec.map((_, i) => ["object.spec", ...spec.slice(0, i + 1)].join("."));
  const absent = paths.map((path) => `!has(${path})`);
  return asks === "any" ? absent.join(" || ") : `${absent.join(" || ")} || !(${conditionOf(asks, paths.at(-1) ?? "")})`;
}

function conditionOf(asks: Asks, value: string): string {
  if (asks === "any") return "true";
  if (asks === "positive") return `${value} > 0`;
  if (asks === "filled") return `size(${value}) > 0`;
  if ("is" in asks) return `${value} == ${typeof asks.is === "string" ? `'${asks.is}'` : String(asks.is)}`;
  if ("isNot" in asks) return asks.isNot.map((each) => `${value} != '${each}'`).join(" && ");
  return `'${asks.has}' in ${value}${asks.lacks === undefined ? "" : ` && !('${asks.lacks}' in ${value})`}`;
}
