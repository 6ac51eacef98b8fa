/**
 * Filing: under which labels a selector is filed, so that a changed pod looks at few selectors and a new selector at few pods.
 *
 * A selector is filed under its namespace (if it requires one) together with one more label that it requires (if it does): in clusters
 * where every namespace has the same applications, either alone would be shared by thousands.
 */
import { NAMESPACE_LABEL, NAMESPACE_PREFIX, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_PREFIX } from "../model/labels.ts";
import type { Selector } from "../model/selector/selector.ts";

/** Labels that a match must have. A drawer without either is open to every pod. */
export interface Drawer {
  readonly namespace: string | undefined;
  readonly term: { readonly label: string; readonly value: string } | undefined;
}

const OPEN: Drawer = { namespace: undefined, term: undefined };

/** Every pod that the selector matches has the labels of at least one of these drawers. An empty list: it matches none. */
export function drawersOf(selector: Selector): readonly Drawer[] {
  switch (selector.op) {
    case "equal":
      return [drawer(selector.label, selector.value)];
    case "in":
      return selector.values.map((value) => drawer(selector.label, value));
    case "or":
      return simplify(selector.of.flatMap(drawersOf));
    case "and":
      return combine(selector.of.map(drawersOf));
    default:
      return [OPEN];
  }
}

function drawer(label: string, value: string): Drawer {
  // Every endpoint is a pod: the label says nothing.
  if (label === ORCHESTRATOR_LABEL) return OPEN;
  if (label === NAMESPACE_LABEL) return { namespace: value, term: undefined };
  return { namespace: undefined, term: { label, value } };
}

function simplify(drawers: readonly Drawer[]): readonly Drawer[] {
  return drawers.some(isOpen) ? [OPEN] : drawers;
}

function isOpen({ namespace, term }: Drawer): boolean {
  return namespace === undefined && term === undefined;
}

/** The best conjunct, narrowed by a namespace that another one requires. */
function combine(conjuncts: readonly (readonly Drawer[])[]): readonly Drawer[] {
  const namespace = conjuncts.find((drawers) => drawers.length === 1 && drawers[0]?.namespace !== undefined)?.[0]
    ?.namespace;
  const best = conjuncts.reduce((a, b) => (cost(b) < cost(a) ? b : a), [OPEN]);
  return namespace === undefined
    ? best
    : best.map((one) => ({ namespace: one.namespace ?? namespace, term: one.term }));
}

/** Lower is more selective, as far as can be told without counting: fewer alternatives, a pod's own label before an inherited one. */
function cost(drawers: readonly Drawer[]): number {
  return drawers.reduce((sum, { namespace, term }) => {
    if (term === undefined) return sum + (namespace === undefined ? 1000 : 100);
    return sum + (term.label.startsWith(NAMESPACE_PREFIX) || term.label.startsWith(SERVICE_ACCOUNT_PREFIX) ? 10 : 1);
  }, 0);
}
