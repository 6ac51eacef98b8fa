/** Report: what a verb tells at its end: the summary as upstream words it, and a line for each object that was not handled, with the reason. */
import type { StoreError } from "../../datastore/store.ts";
import { errorText } from "./check.ts";
import { failureText, PAST, type Refusal, type Verb } from "./failures.ts";
import { placeText, type Problem } from "./given.ts";

export interface Result {
  readonly code: 0 | 1;
  readonly out: string;
  readonly error: string;
}

/** An object of the summary. */
export interface Handled {
  readonly kind: string;
  readonly object: string;
  /** Where it is written; undefined when the command line names it. */
  readonly where: string | undefined;
  readonly failure: Refusal | StoreError | undefined;
}

export const NOTHING: Result = { code: 0, out: "No resources specified\n", error: "" };

export function summarize(verb: Verb, objects: readonly Handled[]): Result {
  const failed = objects.filter(({ failure }) => failure !== undefined);
  const kind = singleKind(objects.map((object) => object.kind));
  const count = objects.length - failed.length;
  if (failed.length === 0)
    return { code: 0, out: `Successfully ${PAST[verb]} ${count} ${kind}resource(s)\n`, error: "" };
  const lines = failed.map(({ failure, object, where, kind: own }) => {
    const reason = failure === undefined ? "" : failureText(failure, object, verb);
    return `${where === undefined ? "" : `${where}: `}Failed to ${verb} '${own}' resource: ${reason}\n`;
  });
  const end =
    count > 0
      ? `hit error: ${failed.length} out of ${objects.length} ${kind}resources failed`
      : failure(verb, objects.length, kind);
  const out = count > 0 ? `Partial success: ${PAST[verb]} ${count} out of ${objects.length} ${kind}resources\n` : "";
  return { code: 1, out, error: `${lines.join("")}calicoctl ${verb}: ${end}\n` };
}

function failure(verb: Verb, count: number, kind: string): string {
  return count === 1 ? `failed to ${verb} ${kind}resource` : `failed to ${verb} any ${kind}resources`;
}

/** `'NetworkPolicy' ` when all are of one kind, else nothing. */
function singleKind(kinds: readonly string[]): string {
  const [first] = kinds;
  return first !== undefined && first !== "" && kinds.every((kind) => kind === first) ? `'${first}' ` : "";
}

/** What is wrong with the files. `all` is the number of objects in them; nothing was sent. */
export function summarizeProblems(
  verb: Verb,
  problems: readonly Problem[],
  all: number,
  kinds: readonly string[],
): Result {
  const bad = new Set(problems.map(({ place }) => placeText(place))).size;
  const verdict = verb === "validate" ? "" : "; nothing was sent";
  const kind = singleKind(kinds);
  const isPartial = verb === "validate" && bad < all;
  const text = isPartial ? `failed to validate ${kind}resources` : failure(verb, all, kind);
  return {
    code: 1,
    out: "",
    error: `${problems.map((problem) => `${problemText(problem)}\n`).join("")}calicoctl ${verb}: ${text}: ${bad} of ${all} ${bad === 1 ? "is" : "are"} invalid${verdict}\n`,
  };
}

/** `policies.yaml:12 (document 2): NetworkPolicy(shop/web): spec.order: Invalid value: …`. */
export function problemText({ place, object, error }: Problem): string {
  return `${placeText(place)}: ${object === undefined ? "" : `${object}: `}${errorText(error)}`;
}
