/** Selection: one selector out of the fields by which Calico's kinds select: labels, namespaces and service accounts. */
import { unwrap } from "../../lib/result.ts";
import { NAMESPACE_LABEL, NAMESPACE_PREFIX, SERVICE_ACCOUNT_LABEL, SERVICE_ACCOUNT_PREFIX } from "../labels.ts";
import { parseSelector } from "../selector/parse.ts";
import type { Selector } from "../selector/selector.ts";

/** All that is given must hold; empty texts and lists are not given. The texts are valid selectors. */
export interface Selection {
  readonly selector?: string | undefined;
  readonly notSelector?: string | undefined;
  /** The one namespace. */
  readonly namespace?: string | undefined;
  /** `global()` alone: what is in no namespace. */
  readonly namespaceSelector?: string | undefined;
  readonly serviceAccountSelector?: string | undefined;
  readonly serviceAccountNames?: readonly string[] | undefined;
}

export function selectorOf(selection: Selection): Selector {
  const { selector, notSelector, namespace, serviceAccountSelector, serviceAccountNames = [] } = selection;
  const of: Selector[] = [];
  if (namespace !== undefined) of.push({ op: "equal", label: NAMESPACE_LABEL, value: namespace });
  if (selection.namespaceSelector) of.push(...inNamespaces(selection.namespaceSelector));
  if (serviceAccountSelector)
    of.push({ op: "has", label: SERVICE_ACCOUNT_LABEL }, inherited(serviceAccountSelector, SERVICE_ACCOUNT_PREFIX));
  if (serviceAccountNames.length > 0) of.push({ op: "in", label: SERVICE_ACCOUNT_LABEL, values: serviceAccountNames });
  if (selector) of.push(unwrap(parseSelector(selector)));
  if (notSelector) of.push({ op: "not", of: unwrap(parseSelector(notSelector)) });
  const [only] = of;
  return of.length === 1 && only !== undefined ? only : { op: "and", of };
}

const IN_A_NAMESPACE: Selector = { op: "has", label: NAMESPACE_LABEL };

function inNamespaces(text: string): readonly Selector[] {
  if (/^\s*global\(\s*\)\s*$/.test(text)) return [{ op: "not", of: IN_A_NAMESPACE }];
  const selector = inherited(text, NAMESPACE_PREFIX);
  return selector.op === "all" ? [IN_A_NAMESPACE] : [IN_A_NAMESPACE, selector];
}

/** The selector as one of inherited labels. */
function inherited(text: string, prefix: string): Selector {
  return withPrefix(unwrap(parseSelector(text)), prefix);
}

function withPrefix(selector: Selector, prefix: string): Selector {
  switch (selector.op) {
    case "all":
      return selector;
    case "not":
      return { op: "not", of: withPrefix(selector.of, prefix) };
    case "and":
    case "or":
      return { op: selector.op, of: selector.of.map((term) => withPrefix(term, prefix)) };
    default:
      return { ...selector, label: prefix + selector.label };
  }
}
