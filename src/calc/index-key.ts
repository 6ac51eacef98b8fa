/**
 * Index key: the labels that a selector is indexed by, so that a changed pod is tested against few selectors and a new selector against few pods.
 *
 * A selector is indexed by the namespace that it requires (if any) together with one more label that it requires (if any). Either alone
 * would be shared by thousands of selectors in clusters where every namespace runs the same applications.
 */
import { NAMESPACE_LABEL, NAMESPACE_PREFIX, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import type { Selector } from "../model/selector/selector.ts";

/** Labels that a match must have. A key without either admits every pod. */
export interface IndexKey {
  readonly namespace: string | undefined;
  readonly term: { readonly label: string; readonly value: string } | undefined;
}

const ANY: IndexKey = { namespace: undefined, term: undefined };

/** Every pod that the selector matches has the labels of at least one of these keys. An empty list: it matches none. */
export function indexKeysOf(selector: Selector): readonly IndexKey[] {
  switch (selector.op) {
    case "equal":
      return [indexKey(selector.label, selector.value)];
    case "in":
      return selector.values.map((value) => indexKey(selector.label, value));
    case "or":
      return simplify(selector.of.flatMap(indexKeysOf));
    case "and":
      return combine(selector.of.map(indexKeysOf));
    default:
      return [ANY];
  }
}

function indexKey(label: string, value: string): IndexKey {
  // Every endpoint is a pod, so this label narrows nothing.
  if (label === ORCHESTRATOR_LABEL) return ANY;
  if (label === NAMESPACE_LABEL) return { namespace: value, term: undefined };
  return { namespace: undefined, term: { label, value } };
}

function simplify(keys: readonly IndexKey[]): readonly IndexKey[] {
  return keys.some(isAny) ? [ANY] : keys;
}

function isAny({ namespace, term }: IndexKey): boolean {
  return namespace === undefined && term === undefined;
}

/** The best conjunct, narrowed by a namespace that another one requires. */
function combine(conjuncts: readonly (readonly IndexKey[])[]): readonly IndexKey[] {
  const namespace = conjuncts.find((keys) => keys.length === 1 && keys[0]?.namespace !== undefined)?.[0]?.namespace;
  const best = conjuncts.reduce((a, b) => (cost(b) < cost(a) ? b : a), [ANY]);
  return namespace === undefined
    ? best
    : best.map((key) => ({ namespace: key.namespace ?? namespace, term: key.term }));
}

/** Lower is more selective, estimated without counting: fewer alternatives, a pod's own label before an inherited one. */
function cost(keys: readonly IndexKey[]): number {
  return keys.reduce((sum, { namespace, term }) => {
    if (term === undefined) return sum + (namespace === undefined ? 1000 : 100);
    return sum + (term.label.startsWith(NAMESPACE_PREFIX) || term.label.startsWith(SERVICE_ACCOUNT_PREFIX) ? 10 : 1);
  }, 0);
}
