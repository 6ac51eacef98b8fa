/** saved: what `iptables-save` tells, as rows of ours: our chains with their rules, and the rules of the kernel's chains that lead to them. */
import { EPROTO, KernelError } from "../../kernel/errno.ts";
import type { Rule } from "../../kernel/iptables/rule.ts";
import { parseSaveInSteps, type Saved } from "../../kernel/iptables/save.ts";
import type { Family } from "../../net/addr.ts";
import { isOurChain } from "./names.ts";
import { chainId, type IptRow, jumpId } from "./rows.ts";

/** By id. Throws KernelError when it cannot be read. */
export function* readRows(family: Family, text: string): Generator<undefined, ReadonlyMap<string, IptRow>> {
  const parsed = yield* parseSaveInSteps(text);
  if (parsed.ok) return new Map(ownRows(family, parsed.value));
  const { found, wanted } = parsed.error;
  throw new KernelError("read rules by", "iptables-save", EPROTO, `${found}: ${wanted}`);
}

function* ownRows(family: Family, saved: Saved): Generator<[string, IptRow]> {
  for (const [table, chains] of saved)
    for (const [chain, rules] of chains) {
      if (isOurChain(chain)) {
        yield [chainId(family, table, chain), { type: "chain", family, table, chain, rules }];
        continue;
      }
      const own = rules.filter(isOurs);
      if (own.length === 0) continue;
      const row: IptRow = { type: "jump", family, table, builtIn: chain, rules: own, isFirst: rules[0] === own[0] };
      yield [jumpId(family, table, chain), row];
    }
}

/** A jump to a chain of ours, or a rule of upstream's, which marks its own by a comment. */
function isOurs({ chain, text }: Rule): boolean {
  return (chain !== undefined && isOurChain(chain)) || / --comment "cali:[\w-]{16}" /.test(text);
}
