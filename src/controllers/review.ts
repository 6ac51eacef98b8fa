/**
 * review: the answer to an AdmissionReview (admission.k8s.io/v1): what the validators have against an object of the policy language that
 * the definitions' own rules cannot say, why a tier may not be deleted, and of what an accepted policy is warned, in the words of an API server.
 */
import { type Store, StoreError } from "../datastore/store.ts";
import { KINDS } from "../model/kind.ts";
import { policyAdvice } from "../model/kinds/advice.ts";
import { builtInTierProblem, TIERED_KINDS, tierHeldBy } from "../model/kinds/validation/tier-removal.ts";
import { absentTierAdvice, tierNeeded } from "../model/kinds/validation/tier-absence.ts";
import { type PolicyKind, VALIDATORS } from "../model/kinds/validation/validators.ts";
import { type FieldError, formatFieldError } from "../model/schema/field-error.ts";
import { fieldAt, isJsonObject, type JsonObject, stringAt } from "../model/schema/json.ts";

/** HTTP status of an object that is refused, and of a deletion, as of an API server. */
const UNPROCESSABLE = 422;
const FORBIDDEN = 403;

export type Review =
  | { readonly ok: true; readonly body: JsonObject }
  /** The request is not a review: what must be there. */
  | { readonly ok: false; readonly error: string };

/** Kinds that it does not know are allowed, and deletions of all but tiers. Lists policies to answer for a tier, and looks for a policy's tier. */
export async function review(request: unknown, store: Pick<Store, "pages" | "get">): Promise<Review> {
  if (!isJsonObject(request) || request["kind"] !== "AdmissionReview")
    return { ok: false, error: "the body must be an AdmissionReview of admission.k8s.io/v1" };
  const asked = request["request"];
  if (!isJsonObject(asked) || typeof asked["uid"] !== "string")
    return { ok: false, error: "request.uid must be the text by which the API server knows its question" };
  const errors = errorsOf(asked);
  const name = stringAt(asked["name"]) || stringAt(fieldAt(asked, "object", "metadata", "name"));
  const retained = await retention(asked, name, store);
  const status =
    errors.length > 0 ? refusal(asked, name, errors) : retained === undefined ? undefined : forbidden(name, retained);
  const warnings = status === undefined ? await warningsOf(asked, store) : [];
  const response: JsonObject = {
    uid: asked["uid"],
    allowed: status === undefined,
    ...(status === undefined ? {} : { status }),
    ...(warnings.length === 0 ? {} : { warnings }),
  };
  return { ok: true, body: { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", response } };
}

/** Why the deletion that is asked for is refused. What cannot be looked up is refused: nobody knows what the tier holds. */
async function retention(asked: JsonObject, name: string, store: Pick<Store, "pages">): Promise<string | undefined> {
  if (asked["operation"] !== "DELETE" || stringAt(fieldAt(asked, "kind", "kind")) !== KINDS.Tier.apiKind)
    return undefined;
  const builtIn = builtInTierProblem(name);
  if (builtIn !== undefined) return builtIn;
  try {
    for (const kind of TIERED_KINDS)
      for await (const { items } of store.pages(kind)) {
        const held = tierHeldBy(name, kind, items);
        if (held !== undefined) return held;
      }
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return `cannot tell whether this tier has policies: ${error.message}`;
  }
  return undefined;
}

function forbidden(name: string, cause: string): JsonObject {
  return {
    status: "Failure",
    reason: "Forbidden",
    code: FORBIDDEN,
    message: `tiers.projectcalico.org ${JSON.stringify(name)} is forbidden: ${cause}`,
    details: { name, group: "projectcalico.org", kind: "tiers" },
  };
}

function errorsOf(asked: JsonObject): readonly FieldError[] {
  const written = writtenPolicy(asked);
  return written === undefined ? [] : VALIDATORS[written.kind](written.object);
}

/** Of what is accepted. */
async function warningsOf(asked: JsonObject, store: Pick<Store, "get">): Promise<string[]> {
  const written = writtenPolicy(asked);
  if (written === undefined) return [];
  return [...policyAdvice(written.kind, written.object), ...(await tierWarnings(written, store))];
}

async function tierWarnings({ kind, object }: WrittenPolicy, store: Pick<Store, "get">): Promise<string[]> {
  const tier = tierNeeded(kind, object["spec"]);
  if (tier === undefined) return [];
  try {
    const found = await store.get({ kind: "Tier", namespace: undefined, name: tier });
    return found === undefined ? [absentTierAdvice(tier)] : [];
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return [`spec.tier: cannot tell whether ${JSON.stringify(tier)} exists: ${error.message}`];
  }
}

interface WrittenPolicy {
  readonly kind: PolicyKind;
  readonly object: JsonObject;
}

function writtenPolicy(asked: JsonObject): WrittenPolicy | undefined {
  const { operation, object } = asked;
  if ((operation !== "CREATE" && operation !== "UPDATE") || !isJsonObject(object)) return undefined;
  const kind = policyKind(stringAt(fieldAt(asked, "kind", "group")), stringAt(fieldAt(asked, "kind", "kind")));
  return kind === undefined ? undefined : { kind, object };
}

function policyKind(group: string, apiKind: string): PolicyKind | undefined {
  return (Object.keys(VALIDATORS) as PolicyKind[]).find(
    (kind) => KINDS[kind].apiKind === apiKind && KINDS[kind].apiVersion.startsWith(`${group}/`),
  );
}

/** As kube-apiserver says it of a built-in kind (apimachinery pkg/api/errors, NewInvalid). */
function refusal(asked: JsonObject, name: string, errors: readonly FieldError[]): JsonObject {
  const texts = errors.map(formatFieldError);
  const [group, kind] = [stringAt(fieldAt(asked, "kind", "group")), stringAt(fieldAt(asked, "kind", "kind"))];
  const list = texts.length === 1 ? (texts[0] ?? "") : `[${texts.join(", ")}]`;
  return {
    status: "Failure",
    reason: "Invalid",
    code: UNPROCESSABLE,
    message: `${kind}.${group} ${JSON.stringify(name)} is invalid: ${list}`,
    details: {
      name,
      group,
      kind,
      causes: errors.map((error, i) => ({
        reason: `FieldValue${error.reason}`,
        field: error.field,
        message: (texts[i] ?? "").slice(error.field.length + 2),
      })),
    },
  };
}
