/**
 * limits: what the kernel would refuse of a command for its form alone, known before it is sent, so that it stands in nobody else's way.
 *
 * Source: linux/netfilter/nf_tables.h (NFT_NAME_MAXLEN, NFT_USERDATA_MAXLEN), net/netfilter/nf_tables_api.c (NFT_RULE_MAXEXPRS).
 */
import { assertNever } from "../../lib/bug.ts";
import type { NftCommand, NftElement, NftRule, NftSet, NftVerdict } from "./objects.ts";
import { keyLength } from "./sets.ts";
import { COMMENT_MAX_BYTES } from "./wire.ts";

/** Without the NUL. */
const NAME_MAX_BYTES = 255;
const RULE_MAX_EXPRESSIONS = 128;

const text = new TextEncoder();

/** In words: the field, what it is and what is allowed; undefined when the form is good. */
export function whyNotSendable(command: NftCommand): string | undefined {
  switch (command.do) {
    case "add-table":
    case "own-table":
    case "delete-table":
      return undefined;
    case "add-chain":
    case "delete-chain":
    case "flush-chain":
    case "delete-rule":
      return whyNotName("chain", command.chain);
    case "add-rule":
    case "insert-rule":
      return whyNotName("chain", command.chain) ?? whyNotRule(command.rule);
    case "add-flowtable":
    case "delete-flowtable":
    case "delete-devices":
      return whyNotName("flowtable", command.flowtable);
    case "add-set":
    case "delete-set":
      return whyNotName("set", command.set);
    case "add-elements":
    case "delete-elements":
      return whyNotName("set", command.set) ?? whyNotElements(command.is, command.elements);
    default:
      return assertNever(command);
  }
}

function whyNotName(what: string, name: string): string | undefined {
  const bytes = text.encode(name).length;
  if (bytes === 0 || bytes > NAME_MAX_BYTES)
    return `name of ${what} ${JSON.stringify(name.slice(0, 40))}… has ${bytes} bytes, must have 1 to ${NAME_MAX_BYTES}`;
  return name.includes("\0") ? `name of ${what} ${JSON.stringify(name)} has a NUL byte, must have none` : undefined;
}

function whyNotRule({ expressions, comment }: NftRule): string | undefined {
  if (expressions.length > RULE_MAX_EXPRESSIONS)
    return `a rule has ${expressions.length} expressions, must have at most ${RULE_MAX_EXPRESSIONS}`;
  const bytes = comment === undefined ? 0 : text.encode(comment).length;
  if (bytes > COMMENT_MAX_BYTES)
    return `comment ${JSON.stringify(comment)} has ${bytes} bytes, must have at most ${COMMENT_MAX_BYTES}`;
  for (const expr of expressions) {
    const why =
      expr.op === "verdict"
        ? whyNotVerdict(expr.verdict)
        : expr.op === "lookup"
          ? whyNotName("set", expr.set)
          : expr.op === "verdict-map"
            ? whyNotName("map", expr.map)
            : expr.op === "flow-offload"
              ? whyNotName("flowtable", expr.flowtable)
              : undefined;
    if (why !== undefined) return why;
  }
  return undefined;
}

function whyNotVerdict(verdict: NftVerdict): string | undefined {
  return verdict.type === "jump" || verdict.type === "goto" ? whyNotName("chain", verdict.chain) : undefined;
}

function whyNotElements(is: NftSet, elements: readonly NftElement[]): string | undefined {
  const digits = keyLength(is.key) * 2;
  for (const { key, keyEnd, verdict } of elements) {
    for (const part of [key, keyEnd])
      if (part !== undefined && part.length !== digits)
        return `key 0x${part} of an element has ${part.length / 2} bytes, must have ${digits / 2}`;
    const why = verdict === undefined ? undefined : whyNotVerdict(verdict);
    if (why !== undefined) return why;
  }
  return undefined;
}
