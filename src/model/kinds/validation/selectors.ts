/** Selectors: the errors of a selector in a field: its grammar, and where `global()` may stand. */
import { parseSelector } from "../../selector/parse.ts";
import { WORDS } from "../words.ts";
import type { Errors } from "./errors.ts";

/** A selector that may not say `global()`. */
export function checkSelector(text: string | undefined, field: string, errors: Errors): void {
  if (text === undefined) return;
  if (text.includes("global(")) errors.invalid(field, text, WORDS.globalElsewhere);
  else checkGrammar(text, field, errors);
}

/** The namespaceSelector of a rule, which may be `global()` and nothing else with it. */
export function checkNamespaceSelector(text: string | undefined, field: string, errors: Errors): void {
  if (text === undefined) return;
  if (text.includes("global(") && text.trim() !== "global()") errors.invalid(field, text, WORDS.globalAlone);
  else checkGrammar(text, field, errors);
}

function checkGrammar(text: string, field: string, errors: Errors): void {
  const selector = parseSelector(text);
  if (!selector.ok) errors.invalid(field, text, selector.error.wanted);
}
