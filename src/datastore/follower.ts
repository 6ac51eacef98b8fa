/** Follower: what the syncer knows of one kind: which of its objects it has seen, and how following it goes. */
import type { KeyText } from "../model/key.ts";
import type { Kind } from "../model/kind.ts";
import type { Revision } from "../model/revision.ts";

/** `listing` until the first list is done, and again after `gone`. `failing`: the last attempt was refused or unanswered, with `error`. */
export interface Follower {
  readonly kind: Kind;
  listing: boolean;
  failing: boolean;
  /** It cannot be followed, and is gone on without. */
  isMissing: boolean;
  error: string | undefined;
  failures: number;
  /** Where to resume watching; undefined: list first. */
  revision: string | undefined;
  /** Key of each object to its newest revision seen, as kept. */
  readonly known: Map<KeyText, Revision>;
  /** Of the known keys, those that the list under way has not shown. */
  unlisted: Set<KeyText>;
  /** Reads in progress. */
  readonly reads: Set<Read>;
}

/** A read of one object out of turn. `overtaken`: watch or list has seen the object since the read began. */
export interface Read {
  readonly text: KeyText;
  overtaken: boolean;
}

/** Of a kind of which nothing is known. */
export function newFollower(kind: Kind): Follower {
  return {
    kind,
    listing: true,
    failing: true,
    isMissing: false,
    error: undefined,
    failures: 0,
    revision: undefined,
    known: new Map(),
    unlisted: new Set(),
    reads: new Set(),
  };
}

/** Notes a state of an object. undefined: it is known; else whether another state of the object was. */
export function noteState(follower: Follower, text: KeyText, revision: Revision, exists: boolean): boolean | undefined {
  const before = follower.known.get(text);
  if (exists && before === revision) return undefined;
  if (exists) follower.known.set(text, revision);
  else follower.known.delete(text);
  return before !== undefined;
}

/** The object was seen: what reads of it bring is not newer. */
export function overtake(follower: Follower, text: KeyText): void {
  for (const read of follower.reads) if (read.text === text) read.overtaken = true;
}

/** The list under way shows the object. */
export function noteListed(follower: Follower, text: KeyText): void {
  if (follower.unlisted.size > 0) follower.unlisted.delete(text);
  if (follower.reads.size > 0) overtake(follower, text);
}
