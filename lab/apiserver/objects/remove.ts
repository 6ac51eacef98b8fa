/**
 * Remove: deletion in Kubernetes' phases: preconditions, grace period (Pods), finalizers, propagation to dependents.
 *
 * An object that cannot go yet gets a `deletionTimestamp`; the write that takes away its last reason to stay removes it.
 */
import { arrayAt, fieldAt, isJsonObject, type JsonValue, stringAt } from "../../../src/model/schema/json.ts";
import type { FieldError } from "../../../src/model/schema/field-error.ts";
import { badRequest, conflict, forbidden, invalidOptions, notFound } from "../errors.ts";
import { dryRunProblems } from "../http/request.ts";
import { type ApiObject, ownersOf } from "../object.ts";
import { resourceId, type ResourceType } from "../resource-type.ts";
import { type Context, timestamp } from "./context.ts";

export interface DeleteOptions {
  readonly gracePeriodSeconds: number | undefined;
  readonly propagation: "Background" | "Foreground" | "Orphan";
  readonly uid: string | undefined;
  readonly resourceVersion: string | undefined;
  readonly dryRun: boolean;
}

const PROPAGATIONS = ["Foreground", "Background", "Orphan"] as const;

/** Options from the body (a DeleteOptions object, or nothing) and the query, the body first. */
export function parseDeleteOptions(body: JsonValue, query: URLSearchParams): DeleteOptions {
  const options = isJsonObject(body) ? body : {};
  const preconditions = fieldAt(options, "preconditions");
  const grace =
    options["gracePeriodSeconds"] ??
    (query.has("gracePeriodSeconds") ? Number(query.get("gracePeriodSeconds")) : undefined);
  if (grace !== undefined && !Number.isInteger(grace))
    throw badRequest(`invalid gracePeriodSeconds ${JSON.stringify(grace)}: must be a whole number`);
  const orphanGiven = options["orphanDependents"] ?? query.get("orphanDependents") ?? undefined;
  const orphan = orphanGiven === true || orphanGiven === "true";
  const wanted = stringAt(options["propagationPolicy"]) || query.get("propagationPolicy") || "";
  const propagation =
    wanted === "" ? (orphan ? "Orphan" : "Background") : PROPAGATIONS.find((policy) => policy === wanted);
  const dryRuns = [...arrayAt(options["dryRun"]), ...query.getAll("dryRun").filter((value) => value !== "")];
  const errors: FieldError[] = [];
  if (orphanGiven !== undefined && wanted !== "")
    errors.push({
      field: "propagationPolicy",
      reason: "Invalid",
      value: wanted,
      detail: "orphanDependents and deletionPropagation cannot be both set",
    });
  if (propagation === undefined)
    errors.push({
      field: "propagationPolicy",
      reason: "NotSupported",
      value: wanted,
      detail: '"Foreground", "Background", "Orphan", "nil"',
    });
  errors.push(...dryRunProblems(dryRuns));
  if (propagation === undefined || errors.length > 0) throw invalidOptions("DeleteOptions", errors);
  const text = (field: string): string | undefined => stringAt(fieldAt(preconditions, field)) || undefined;
  return {
    gracePeriodSeconds: typeof grace === "number" ? grace : undefined,
    propagation,
    uid: text("uid"),
    resourceVersion: text("resourceVersion"),
    dryRun: dryRuns.length > 0,
  };
}

const LASTING_NAMESPACES: ReadonlySet<string> = new Set(["default", "kube-system", "kube-public"]);

export interface Removed {
  readonly object: ApiObject;
  /** False: the object stays for now, with a deletionTimestamp. */
  readonly gone: boolean;
}

export function removeObject(
  context: Context,
  type: ResourceType,
  namespace: string | undefined,
  name: string,
  options: DeleteOptions,
): Removed {
  const current = context.storage.get(resourceId(type), namespace, name)?.object;
  if (current === undefined) throw notFound(type, name);
  checkPreconditions(type, current, options);
  if (resourceId(type) === "namespaces" && LASTING_NAMESPACES.has(name))
    throw forbidden(type, name, "this namespace may not be deleted");
  if (options.propagation === "Orphan" && !options.dryRun) orphanDependents(context, current);
  const next = structuredClone(current);
  const alreadyDeleting = current.metadata.deletionTimestamp !== undefined;
  const grace = type.kind === "Pod" && type.builtIn ? podGrace(current, options) : 0;
  if (options.propagation === "Foreground" && !alreadyDeleting)
    next.metadata.finalizers = [...(next.metadata.finalizers ?? []), "foregroundDeletion"];
  if (type.kind === "CustomResourceDefinition" && type.builtIn && !alreadyDeleting) addCleanupFinalizer(next);
  if (grace === 0 && !isHeld(type, next)) return removeNow(context, type, current, options.dryRun);
  if (alreadyDeleting && grace >= (current.metadata.deletionGracePeriodSeconds ?? 0))
    return { object: current, gone: false };
  next.metadata.deletionTimestamp = timestamp(context.nowMs() + grace * 1000);
  next.metadata.deletionGracePeriodSeconds = grace;
  if (next.metadata.generation !== undefined && !alreadyDeleting) next.metadata.generation += 1;
  if (type.kind === "Namespace" && type.builtIn)
    next["status"] = { ...(isJsonObject(next["status"]) ? next["status"] : {}), phase: "Terminating" };
  if (options.dryRun) return { object: next, gone: false };
  return { object: context.storage.write(resourceId(type), next).object, gone: false };
}

/** A Pod is marked as being deleted before it goes, so that its last state says so, as Kubernetes does it. */
function removeNow(context: Context, type: ResourceType, current: ApiObject, dryRun: boolean): Removed {
  const { namespace, name, deletionTimestamp, generation } = current.metadata;
  const resource = resourceId(type);
  if (resource !== "pods")
    return { object: dryRun ? current : context.storage.remove(resource, namespace, name).object, gone: true };
  const next = structuredClone(current);
  next.metadata.deletionTimestamp = timestamp(context.nowMs());
  next.metadata.deletionGracePeriodSeconds = 0;
  if (deletionTimestamp === undefined && generation !== undefined) next.metadata.generation = generation + 1;
  if (dryRun) return { object: next, gone: true };
  context.storage.write(resource, next);
  return { object: context.storage.remove(resource, namespace, name).object, gone: true };
}

/** Kubernetes speaks here of the kind, not of the resource. */
function checkPreconditions(type: ResourceType, current: ApiObject, options: DeleteOptions): void {
  const { name, uid, resourceVersion } = current.metadata;
  const subject = { ...type, plural: type.kind };
  if (options.uid !== undefined && options.uid !== uid)
    throw conflict(
      subject,
      name,
      `the UID in the precondition (${options.uid}) does not match the UID in record (${uid}). The object might have been deleted and then recreated`,
    );
  if (options.resourceVersion !== undefined && options.resourceVersion !== resourceVersion) {
    throw conflict(
      subject,
      name,
      `the ResourceVersion in the precondition (${options.resourceVersion}) does not match the ResourceVersion in record (${resourceVersion}). The object might have been modified`,
    );
  }
}

/** A Pod that no kubelet has, or that has ended, needs no grace. */
function podGrace(pod: ApiObject, options: DeleteOptions): number {
  const phase = fieldAt(pod, "status", "phase");
  if (stringAt(fieldAt(pod, "spec", "nodeName")) === "" || phase === "Failed" || phase === "Succeeded") return 0;
  const wanted = options.gracePeriodSeconds ?? fieldAt(pod, "spec", "terminationGracePeriodSeconds");
  const grace = typeof wanted === "number" ? wanted : 30;
  return grace < 0 ? 1 : grace;
}

export const CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io";

function addCleanupFinalizer(definition: ApiObject): void {
  const finalizers = definition.metadata.finalizers ?? [];
  if (!finalizers.includes(CLEANUP_FINALIZER)) definition.metadata.finalizers = [...finalizers, CLEANUP_FINALIZER];
}

/** Whether finalizers keep the object; a Namespace has some in its spec, too. */
function isHeld(type: ResourceType, object: ApiObject): boolean {
  const inSpec = type.kind === "Namespace" && type.builtIn ? arrayAt(fieldAt(object, "spec", "finalizers")) : [];
  return (object.metadata.finalizers ?? []).length > 0 || inSpec.length > 0;
}

/** Removes an object that is being deleted and that in this state nothing holds any longer; false: something does. */
export function finishDeletion(context: Context, type: ResourceType, object: ApiObject): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds, namespace, name } = object.metadata;
  if (deletionTimestamp === undefined || (deletionGracePeriodSeconds ?? 0) > 0 || isHeld(type, object)) return false;
  if (context.storage.get(resourceId(type), namespace, name) !== undefined)
    context.storage.remove(resourceId(type), namespace, name);
  return true;
}

/** Takes the owner out of its dependents, so that they outlive it. */
function orphanDependents(context: Context, owner: ApiObject): void {
  for (const resource of context.storage.resources()) {
    for (const stored of context.storage.list(resource)) {
      if (!ownersOf(stored.object).some((entry) => entry.uid === owner.metadata.uid)) continue;
      const next = structuredClone(stored.object);
      const left = (next.metadata.ownerReferences ?? []).filter((entry) => entry["uid"] !== owner.metadata.uid);
      if (left.length === 0) delete next.metadata.ownerReferences;
      else next.metadata.ownerReferences = left;
      context.storage.write(resource, next);
    }
  }
}
