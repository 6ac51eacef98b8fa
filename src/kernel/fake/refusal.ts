/**
 * Refusal: what the fake kernel answers to a request that the real one refuses, and how it speaks of what it does not model.
 *
 * Numbers beyond those of `../errno.ts`. Source: linux asm-generic/errno-base.h and errno.h.
 */
import { BugError } from "../../lib/bug.ts";

export const EBADF = 9;
export const ENFILE = 23;
export const EMLINK = 31;
export const ERANGE = 34;
export const ENODATA = 61;
export const EAFNOSUPPORT = 97;
export const ENETDOWN = 100;

/** One request is refused: positive errno, and the kernel's own words where it has some (NLMSGERR_ATTR_MSG). */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly errno: number;
  readonly words: string | undefined;
  constructor(errno: number, words?: string) {
    super(`refused with errno ${errno}`);
    this.errno = errno;
    this.words = words;
  }
}

export function refuse(errno: number, words?: string): never {
  throw new Refusal(errno, words);
}

/** The caller asks for something whose behaviour the model does not state: an answer would be invented. */
export function unmodelled(what: string): never {
  throw new BugError(`the fake kernel does not know ${what}`);
}

/** An attribute that the kernel requires; EINVAL without it. */
export function required<T>(value: T | undefined): T {
  return value === undefined ? refuse(22) : value;
}
