/** send: a plan as one transaction, and when the kernel refuses it, the units whose fault that is, as far as it says so. */
import { EACCES, EINVAL, ENAMETOOLONG, ENOBUFS, ENOENT, EPERM, EPROTO, KernelError } from "../../kernel/errno.ts";
import { type NftablesClient, NftCommitError, type RefusedCommand } from "../../kernel/nftables/client.ts";
import { describeCommand } from "../../kernel/nftables/encode.ts";
import { whyNotSendable } from "../../kernel/nftables/limits.ts";
import type { RuleHandles } from "./handles.ts";
import { TABLE } from "./names.ts";
import type { NftRow } from "./rows.ts";
import { commandsOf, type Plan, type PlannedCommand } from "./plan.ts";
import type { TableState } from "../table-state.ts";
import type { Unit } from "../units.ts";

/** No other chain is called so. */
const PROBE = "cali-probe";

export interface Refused {
  readonly error: KernelError;
  /** Those whose commands the kernel named, each with its error. */
  readonly units: ReadonlyMap<Unit, KernelError>;
  /** Chains in which the kernel has not the rules that were to be edited: somebody else has changed them. */
  readonly lost: ReadonlySet<string>;
}

/** undefined: it is in the kernel now. Throws KernelError when the kernel cannot be asked. */
export function sendPlan(
  client: NftablesClient,
  handles: RuleHandles,
  state: TableState<NftRow>,
  plan: Plan,
): Refused | undefined {
  const planned = commandsOf(plan, (chain, rules) => handles.of(chain, rules));
  const malformed = malformedIn(planned);
  if (malformed !== undefined) return malformed;
  try {
    const inserted = client.commit(planned.map(({ command }) => command));
    if (plan.replaces) handles.clear();
    handles.committed(plan.rows, planned, inserted);
    return undefined;
  } catch (error) {
    if (error instanceof NftCommitError)
      return { error, units: culpritsOf(error, planned, state), lost: lostIn(error.refused) };
    if (!(error instanceof KernelError)) throw error;
    // Whether it was made is not known.
    handles.clear();
    return { error, units: new Map(), lost: NONE };
  }
}

const NONE: ReadonlySet<string> = new Set();

function lostIn(refused: readonly RefusedCommand[]): ReadonlySet<string> {
  return new Set(
    refused.flatMap(({ command, errno }) =>
      errno === ENOENT && (command.do === "delete-rule" || command.do === "insert-rule") ? [command.chain] : [],
    ),
  );
}

/** True for what says something of us or of the socket, not of what was asked. */
export function isOfTheWhole({ errno }: KernelError): boolean {
  return errno === EPERM || errno === EACCES || errno === EPROTO || errno === ENOBUFS;
}

/** Whether the kernel takes a transaction that nobody's object is to blame for: it leaves nothing behind. */
export function takesAnything(client: NftablesClient): boolean {
  try {
    client.commit([
      { do: "add-chain", chain: PROBE, base: undefined },
      { do: "delete-chain", chain: PROBE },
    ]);
    return true;
  } catch (error) {
    if (error instanceof KernelError) return false;
    throw error;
  }
}

/** Not those that were refused only because another was that they refer to. */
function culpritsOf(
  { refused }: NftCommitError,
  planned: readonly PlannedCommand[],
  state: TableState<NftRow>,
): ReadonlyMap<Unit, KernelError> {
  const named = new Map<Unit, KernelError>();
  for (const { index, command, errno, detail } of refused) {
    const unit = planned[index]?.unit;
    if (unit === undefined || named.has(unit)) continue;
    named.set(unit, new KernelError(describeCommand(command), `in table ${TABLE.family} ${TABLE.name}`, errno, detail));
  }
  if (named.size < 2) return named;
  const ids = new Set([...named.keys()].map(({ id }) => id));
  return new Map([...named].filter(([unit]) => withAllReferences(unit, state).isDisjointFrom(ids)));
}

/** Ids of the units that the unit refers to, directly or not. */
function withAllReferences(unit: Unit, state: TableState<NftRow>): ReadonlySet<string> {
  const all = new Set([unit.id]);
  for (const unitId of all)
    for (const referred of state.referredBy(unitId)) if (referred.kind !== "base") all.add(referred.id);
  all.delete(unit.id);
  return all;
}

/** What the kernel would refuse for its form is not sent: it would refuse everybody's transaction. */
function malformedIn(planned: readonly PlannedCommand[]): Refused | undefined {
  const units = new Map<Unit, KernelError>();
  for (const { command, unit } of planned) {
    const why = units.has(unit) ? undefined : whyNotSendable(command);
    if (why === undefined) continue;
    const errno = why.startsWith("name of") ? ENAMETOOLONG : EINVAL;
    units.set(unit, new KernelError(describeCommand(command), `in table ${TABLE.family} ${TABLE.name}`, errno, why));
  }
  const [error] = units.values();
  return error === undefined ? undefined : { error, units, lost: NONE };
}
